"""Layers that move or resample positions: pooling, padding, flatten, reshape, permute."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from secateurs.utils.graph.flat.layouts import channel_axis
from secateurs.utils.graph.rules.base import Cut, Rule, Trace, View, fixed
from secateurs.utils.graph.rules.channels import Channels
from secateurs.utils.graph.rules.constants import Constant


class Spatial(Rule):
  """Pooling, up-sampling, cropping: every channel by itself, constants stay constants."""

  def trace(self, view: View) -> list[Channels]:
    """Channels pass."""
    axis = channel_axis(view.layer, len(view.in_shapes[0]))
    return [Channels(axis, view.on_axis(0, axis))]

  def constant(self, trace: Trace, ins: list[Constant]) -> list[Constant]:
    """Unchanged."""
    return [ins[0]]


class ZeroPadding(Spatial):
  """Zeros around the map: only a constant of zero stays one."""

  def constant(self, trace: Trace, ins: list[Constant]) -> list[Constant]:
    """Zero stays zero."""
    return [Constant.merged(ins, np.where(ins[0].value == 0, 0.0, np.nan))]


class GlobalPool(Rule):
  """Global pooling: the spatial axes go, or become ones."""

  def trace(self, view: View) -> list[Channels]:
    """Channels move to the last axis unless the axes are kept."""
    axis = channel_axis(view.layer, len(view.in_shapes[0]))
    labels = view.on_axis(0, axis)
    return [Channels(axis if view.layer.keepdims else 1, labels)]

  def constant(self, trace: Trace, ins: list[Constant]) -> list[Constant]:
    """Unchanged."""
    return [ins[0]]


class Permute(Rule):
  """Permute: the channel axis moves."""

  def trace(self, view: View) -> list[Channels]:
    """Follows the permutation, which counts from 1."""
    return [moved(view.ins[0], [0, *view.layer.dims])]

  def constant(self, trace: Trace, ins: list[Constant]) -> list[Constant]:
    """Unchanged."""
    return [ins[0]]


class RepeatVector(Rule):
  """RepeatVector: [batch, channels] to [batch, n, channels]."""

  def trace(self, view: View) -> list[Channels]:
    """Channels move to axis 2."""
    return [Channels(2, view.on_axis(0, 1))]

  def constant(self, trace: Trace, ins: list[Constant]) -> list[Constant]:
    """Unchanged."""
    return [ins[0]]


class Flatten(Rule):
  """Flatten: each channel becomes one entry for every position."""

  def trace(self, view: View) -> list[Channels]:
    """Lays the atoms out as the entries are."""
    channels, shape = view.ins[0], view.in_shapes[0]
    if len(shape) == 1:
      return view.fixed_outputs(f'{view.title()} adds an axis')
    if getattr(view.layer, '_channels_first', False) and len(shape) > 2:
      order = [0, *range(2, len(shape)), 1]
      channels, shape = moved(channels, order), tuple(shape[a] for a in order)
    return [reshaped(view, channels, shape, view.out_shapes[0])]

  def constant(self, trace: Trace, ins: list[Constant]) -> list[Constant]:
    """Every entry has its channel's constant."""
    return [spread(trace, ins[0])]


class Reshape(Rule):
  """Reshape: the fixed target shape is rewritten when channels go."""

  def trace(self, view: View) -> list[Channels]:
    """Lays the atoms out as the entries are."""
    return [reshaped(view, view.ins[0], view.in_shapes[0], view.out_shapes[0])]

  def config(self, cut: Cut) -> dict[str, Any]:
    """The new target shape (without the batch)."""
    axis = cut.trace.outs[0].axis
    if axis is None:
      return {}
    return {'target_shape': resized(cut.layer.target_shape, axis - 1, cut.outs[0])}

  def constant(self, trace: Trace, ins: list[Constant]) -> list[Constant]:
    """Every entry has its channel's constant."""
    return [spread(trace, ins[0])]


def moved(channels: Channels, order: Sequence[int]) -> Channels:
  """Channels after a transposition: output axis i is input axis order[i], batch included."""
  if channels.axis is None:
    return channels
  return Channels(list(order).index(channels.axis), channels.labels)


def resized(shape: Sequence[int], axis: int, kept: np.ndarray) -> tuple[int, ...]:
  """A target shape with the number of kept entries on `axis`; -1 stays -1."""
  shape = list(shape)
  if shape[axis] != -1:
    shape[axis] = int(kept.sum())
  return tuple(shape)


def spread(trace: Trace, given: Constant, number: int = 0) -> Constant:
  """Constants by atom, for output `number` that repeats or reorders the atoms of the input."""
  labels_in, labels_out = trace.ins[0].labels, trace.outs[number].labels
  order = np.argsort(labels_in, kind='stable')
  slots = np.searchsorted(labels_in[order], labels_out)
  found = order[np.minimum(slots, len(order) - 1)] if len(order) else slots
  if not len(order) or not np.array_equal(labels_in[found], labels_out):
    return Constant.live(len(labels_out))
  if len(np.unique(labels_in)) != len(labels_in):
    # One atom at several places: trust a value only if it is the same at all of them.
    same = given.value == given.value[order[np.searchsorted(labels_in[order], labels_in)]]
    bad = np.isin(labels_in, labels_in[~same])
    given = Constant(np.where(bad, np.nan, given.value), given.spoiled | (bad & given.silent))
  return Constant(given.value[found], given.spoiled[found])


def reshaped(view: View, channels: Channels, shape: tuple, target: tuple) -> Channels:
  """Channels of a row-major reshape from `shape` to `target`, batch first.

  The channels may come to lie across several axes of the target. Then the atoms that share an entry of
  the longest of these axes (or of the heads, where whole heads go) are tied, so that what is dropped is
  a slice of the tensor.
  """
  reason = f'{view.title()} moves the channels to positions that are not known in advance'
  if channels.axis is None or None in shape[1:] or None in target[1:] or channels.axis == 0:
    view.atoms.protect(channels.labels, reason)
    return fixed(view.atoms, target, reason)
  slots = [1] * (len(shape) - 1)
  slots[channels.axis - 1] = len(channels.labels)
  layout = np.broadcast_to(channels.labels.reshape(slots), shape[1:]).reshape(target[1:])
  varying = [
    axis
    for axis in range(layout.ndim)
    if layout.shape[axis] > 1 and (layout != layout.take([0], axis=axis)).any()
  ]
  if not varying:
    # One channel only: any axis that holds it whole will do; take the last.
    axis = layout.ndim - 1
  else:
    # Heads are the axis before their width.
    if view.whole_heads and len(varying) > 1:
      axis = varying[-2]
    else:
      axis = max(varying, key=lambda one: (layout.shape[one], one))
  front = np.moveaxis(layout, axis, 0).reshape(layout.shape[axis], -1)
  labels = np.ascontiguousarray(front[:, 0])
  if len(varying) > 1:
    view.atoms.tie(np.broadcast_to(front[:, :1], front.shape), front)
  elif not varying and layout.size > 1:
    view.atoms.protect(labels[:1], f'{view.title()} spreads a single channel')
  return Channels(axis + 1, labels)
