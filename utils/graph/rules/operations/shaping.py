"""Operations that lay values out in another shape: reshape, transpose, blocks of space and depth."""

from __future__ import annotations

from typing import Any

import numpy as np

from secateurs.utils.graph.rules.base import Cut, Rule, Trace, View
from secateurs.utils.graph.rules.channels import Channels
from secateurs.utils.graph.rules.constants import Constant
from secateurs.utils.graph.rules.operations.arguments import (
  argument,
  integers,
  is_ref,
  sizes_with_batch,
  with_argument,
)
from secateurs.utils.graph.rules.operations.movers import Mover
from secateurs.utils.graph.rules.shapes import moved, reshaped, resized, spread


class Reshape(Mover):
  """tf.reshape, also with the batch size as a tensor."""

  def trace(self, view: View) -> list[Channels]:
    """Lays the atoms out as the entries are."""
    shape = sizes_with_batch(argument(view.call, 'shape'))
    if shape is None or len(shape) != len(view.out_shapes[0]):
      return Rule.trace(self, view)
    dynamic_batch = is_ref(shape[0]) or shape[0] == -1
    if any(map(is_ref, shape[1:])) or (dynamic_batch and view.out_shapes[0][0] is not None):
      return Rule.trace(self, view)
    if not dynamic_batch and view.in_shapes[0][0] != shape[0]:
      return Rule.trace(self, view)
    # The batch must stay apart: as many numbers for each sample as before.
    inner, target = view.in_shapes[0][1:], view.out_shapes[0][1:]
    if None not in (*inner, *target) and np.prod(inner) != np.prod(target):
      return Rule.trace(self, view)
    view.ins[1:] = [Channels.none()] * len(view.ins[1:])
    return [reshaped(view, view.ins[0], view.in_shapes[0], view.out_shapes[0])]

  def rewrite(self, cut: Cut) -> tuple[tuple, dict[str, Any]]:
    """The new target shape."""
    call, axis = cut.trace.call, cut.trace.outs[0].axis
    if axis is None or cut.outs[0].all():
      return call.args, call.kwargs
    shape = resized(sizes_with_batch(argument(call, 'shape')), axis, cut.outs[0])
    return with_argument(call, 'shape', list(shape))

  def constant(self, trace: Trace, ins: list[Constant]) -> list[Constant]:
    """Every entry has its channel's constant."""
    return [spread(trace, ins[0])]


class Transpose(Mover):
  """tf.transpose that leaves the batch first."""

  def trace(self, view: View) -> list[Channels]:
    """Follows the permutation."""
    perm = argument(view.call, 'perm')
    rank = len(view.in_shapes[0])
    if (view.call.layer.symbol or '').endswith('matrix_transpose'):
      order = [*range(rank - 2), rank - 1, rank - 2]
    else:
      order = list(reversed(range(rank))) if perm is None else integers(perm)
    if order is None or order[0] != 0:
      return Rule.trace(self, view)
    return [moved(view.ins[0], order)]


class ExpandOrSqueeze(Mover):
  """tf.expand_dims and tf.squeeze."""

  def trace(self, view: View) -> list[Channels]:
    """Counts the axes before the channels."""
    channels, shape = view.ins[0], view.in_shapes[0]
    rank_in, rank_out = len(shape), len(view.out_shapes[0])
    given = argument(view.call, 'axis')
    if given is None and rank_out < rank_in:
      given = [axis for axis, size in enumerate(shape) if size == 1]
    axes = integers(given)
    if axes is None or channels.axis is None:
      return Rule.trace(self, view)
    axes = {axis % max(rank_in, rank_out) for axis in axes}
    if rank_out > rank_in:
      old = [axis for axis in range(rank_out) if axis not in axes]
      return [Channels(old[channels.axis], channels.labels)]
    left = [axis for axis in range(rank_in) if axis not in axes]
    if channels.axis not in left or len(left) != rank_out:
      return Rule.trace(self, view)
    return [Channels(left.index(channels.axis), channels.labels)]


class BroadcastTo(Mover):
  """tf.broadcast_to and tf.ensure_shape: the channels keep their number."""

  def trace(self, view: View) -> list[Channels]:
    """Channels pass, counted from the end."""
    channels, shape, out = view.ins[0], view.in_shapes[0], view.out_shapes[0]
    sizes = sizes_with_batch(argument(view.call, 'shape'))
    if sizes is None or channels.axis is None or any(map(is_ref, sizes[1:])):
      return Rule.trace(self, view)
    axis = channels.axis + len(out) - len(shape)
    if len(out) != len(shape) or out[axis] != len(channels.labels):
      return Rule.trace(self, view)
    view.ins[1:] = [Channels.none()] * len(view.ins[1:])
    return [Channels(axis, channels.labels)]

  def rewrite(self, cut: Cut) -> tuple[tuple, dict[str, Any]]:
    """The new shape."""
    call, axis = cut.trace.call, cut.trace.outs[0].axis
    shape = sizes_with_batch(argument(call, 'shape'))
    if axis is None or cut.outs[0].all() or shape is None:
      return call.args, call.kwargs
    return with_argument(call, 'shape', list(resized(shape, axis, cut.outs[0])))

  def constant(self, trace: Trace, ins: list[Constant]) -> list[Constant]:
    """Unchanged."""
    return [ins[0]]


class DepthToSpace(Mover):
  """tf.nn.depth_to_space: channel j is made of block * block neighbours at a distance of C'."""

  def trace(self, view: View) -> list[Channels]:
    """Ties what makes one channel."""
    block = integers(argument(view.call, 'block_size'))
    layout = argument(view.call, 'data_format') or 'NHWC'
    if layout != 'NHWC' or block is None:
      return Rule.trace(self, view)
    parts = view.on_axis(0, 3).reshape(block[0] ** 2, -1)
    view.atoms.tie(np.broadcast_to(parts[:1], parts.shape), parts)
    return [Channels(3, parts[0])]

  def constant(self, trace: Trace, ins: list[Constant]) -> list[Constant]:
    """A channel's parts alternate in the map, so only equal constants make one."""
    size = len(trace.outs[0].labels)
    if trace.outs[0].axis is None or len(ins[0].value) % max(size, 1):
      return Rule.constant(self, trace, ins)
    values, silent = ins[0].value.reshape(-1, size), ins[0].silent.reshape(-1, size).all(axis=0)
    value = np.where((values == values[:1]).all(axis=0), values[0], np.nan)
    return [Constant(np.where(silent, value, np.nan), silent & np.isnan(value))]


class SpaceToDepth(Mover):
  """tf.nn.space_to_depth and patches: channel c at every place of a block, places outermost."""

  def trace(self, view: View) -> list[Channels]:
    """The atoms once for each place."""
    layout = argument(view.call, 'data_format') or 'NHWC'
    labels = view.on_axis(0, -1)
    size = view.out_shapes[0][-1]
    if layout != 'NHWC' or not len(labels) or size is None or size % len(labels):
      return Rule.trace(self, view)
    return [Channels(len(view.out_shapes[0]) - 1, np.tile(labels, size // len(labels)))]


class Spatial(Rule):
  """Resizing and pooling: every channel by itself, on the last axis."""

  def trace(self, view: View) -> list[Channels]:
    """Channels pass."""
    layout = argument(view.call, 'data_format') or 'NHWC'
    if layout.startswith('NC') and len(layout) > 3:
      return Rule.trace(self, view)
    return [Channels(len(view.out_shapes[0]) - 1, view.on_axis(0, -1))]
