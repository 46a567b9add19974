"""Normalisations, along the channels and over them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from secateurs.utils.graph.flat.rebuild import Axes
from secateurs.utils.graph.rules.base import Cut, Rule, Trace, View
from secateurs.utils.graph.rules.channels import Channels
from secateurs.utils.graph.rules.constants import Constant
from secateurs.utils.graph.rules.producers import weight


def _axes(layer: Any, rank: int) -> list[int]:
  axis = layer.axis
  axes = list(axis) if isinstance(axis, Sequence) and not isinstance(axis, str) else [axis]
  return [int(one) % rank for one in axes]


class BatchNorm(Rule):
  """BatchNormalization, also synchronised: every channel by itself."""

  def trace(self, view: View) -> list[Channels]:
    """Channels pass."""
    axes = _axes(view.layer, len(view.in_shapes[0]))
    labels = view.on_axis(0, axes[0])
    view.share(labels)
    if len(axes) > 1:
      view.atoms.protect(labels, f'{view.title()} normalises over several axes')
    return [Channels(axes[0], labels)]

  def axes(self, cut: Cut) -> Axes:
    """All vectors, those of batch renormalisation included."""
    if cut.ins[0].all():
      return {}
    names = ('gamma', 'beta', 'moving_mean', 'moving_variance', 'renorm_mean', 'renorm_stddev')
    return {name: [(0, cut.ins[0])] for name in names}

  def constant(self, trace: Trace, ins: list[Constant]) -> list[Constant]:
    """A constant is scaled and shifted; gamma zero makes one."""
    layer = trace.call.layer
    if len(_axes(layer, 2)) > 1:
      return super().constant(trace, ins)
    mean, variance = (
      weight(layer, name).astype(np.float64) for name in ('moving_mean', 'moving_variance')
    )
    gamma, beta = weight(layer, 'gamma'), weight(layer, 'beta')
    gamma = np.ones_like(mean) if gamma is None else gamma.astype(np.float64)
    beta = np.zeros_like(mean) if beta is None else beta.astype(np.float64)
    scale = gamma / np.sqrt(variance + layer.epsilon)
    value = np.where(gamma == 0, beta, (ins[0].value - mean) * scale + beta)
    silent = ins[0].silent | (gamma == 0)
    return [Constant(np.where(silent, value, np.nan), silent & np.isnan(value))]


class LayerNorm(Rule):
  """LayerNormalization: its statistics run over the channels, so none can go without changing them.

  Where norms are cut, mean and variance run over the channels that are left, in the sliced and in the
  masked model.
  """

  normalises = True

  def trace(self, view: View) -> list[Channels]:
    """Protects the channels if they are normalised over and norms are kept."""
    rank = len(view.in_shapes[0])
    channels = view.ins[0]
    if channels.axis in _axes(view.layer, rank) and not view.cut_norms:
      view.atoms.protect(channels.labels, f'{view.title()} normalises over the channels')
    view.share(channels.labels)
    return [channels]

  def axes(self, cut: Cut) -> Axes:
    """Gamma and beta, whose axes are the normalised ones."""
    channels, axes = cut.trace.ins[0], _axes(cut.layer, cut.rank_in(0))
    if channels.axis not in axes or cut.ins[0].all():
      return {}
    pair = [(axes.index(channels.axis), cut.ins[0])]
    return {'gamma': pair, 'beta': pair}

  def masked_call(self, cut: Cut) -> Callable[..., Any] | None:
    """Statistics over the kept channels; dropped ones become zero."""
    axis, axes = cut.trace.ins[0].axis, _axes(cut.layer, cut.rank_in(0))
    if axis not in axes or cut.ins[0].all():
      return None
    layer, kept = cut.layer, cut.ins[0]
    shape = [1] * cut.rank_in(0)
    for one in axes:
      shape[one] = cut.trace.in_shapes[0][one]

    def call(inputs: tf.Tensor, **kwargs: Any) -> tf.Tensor:
      mask = tf.cast(_along(kept, axis, cut.rank_in(0)), inputs.dtype)
      share = kept.mean()
      mean = tf.reduce_mean(inputs * mask, axes, keepdims=True) / share
      centred = (inputs - mean) * mask
      variance = tf.reduce_mean(centred**2, axes, keepdims=True) / share
      found = centred * tf.math.rsqrt(variance + layer.epsilon)
      if layer.gamma is not None:
        found *= tf.reshape(layer.gamma, shape)
      if layer.beta is not None:
        found += tf.reshape(layer.beta, shape)
      return found * mask

    return call


def _along(kept: np.ndarray, axis: int, rank: int) -> np.ndarray:
  shape = [1] * rank
  shape[axis] = len(kept)
  return kept.reshape(shape)


class UnitNorm(Rule):
  """UnitNormalization: a sum of squares over its axes, which channels that are zero do not change."""

  normalises = True

  def trace(self, view: View) -> list[Channels]:
    """Protects the channels if they are normalised over and norms are kept."""
    channels = view.ins[0]
    if channels.axis in _axes(view.layer, len(view.in_shapes[0])) and not view.cut_norms:
      view.atoms.protect(channels.labels, f'{view.title()} normalises over the channels')
    return [channels]

  def masked_call(self, cut: Cut) -> Callable[..., Any] | None:
    """Dropped channels are zero as they enter."""
    axis, rank = cut.trace.ins[0].axis, cut.rank_in(0)
    if axis not in _axes(cut.layer, rank) or cut.ins[0].all():
      return None
    own, kept = cut.layer.call, cut.ins[0]

    def call(inputs: tf.Tensor) -> tf.Tensor:
      return own(inputs * tf.cast(_along(kept, axis, rank), inputs.dtype))

    return call


class L2Norm(Rule):
  """This project's L2Norm: a sum of squares over the channels, to which zero adds nothing."""

  def trace(self, view: View) -> list[Channels]:
    """Channels pass."""
    labels = view.on_axis(0, -1)
    view.share(labels)
    return [Channels(len(view.in_shapes[0]) - 1, labels)]

  def axes(self, cut: Cut) -> Axes:
    """Gamma."""
    return {'gamma': [(0, cut.ins[0])]}

  def masked_call(self, cut: Cut) -> Callable[..., Any] | None:
    """Dropped channels are zero as they enter."""
    if cut.ins[0].all():
      return None
    own, kept = cut.layer.call, cut.ins[0]
    return lambda inputs: own(inputs * tf.cast(kept, inputs.dtype))


class GroupNorm(Rule):
  """GroupNormalization: whole groups go, which is exact.

  Where norms are cut and a group has more channels than there are groups, all groups lose the same of
  their channels instead, and their statistics run over those that are left.
  """

  normalises = True

  def trace(self, view: View) -> list[Channels]:
    """Ties the channels of each group, or those at the same place in all groups."""
    axis = _axes(view.layer, len(view.in_shapes[0]))[0]
    labels = view.on_axis(0, axis)
    view.share(labels)
    blocks = labels.reshape(_groups(view.layer, len(labels)), -1)
    if view.cut_norms and blocks.shape[1] > len(blocks):
      view.atoms.tie(np.broadcast_to(blocks[:1], blocks.shape), blocks)
    elif len(blocks) == 1:
      view.atoms.protect(labels, f'{view.title()} normalises over the channels')
    else:
      view.atoms.tie(np.broadcast_to(blocks[:, :1], blocks.shape), blocks)
    return [Channels(axis, labels)]

  def config(self, cut: Cut) -> dict[str, Any]:
    """The groups that are left."""
    kept = cut.ins[0]
    return {'groups': int(kept.reshape(_groups(cut.layer, len(kept)), -1).any(axis=1).sum())}

  def axes(self, cut: Cut) -> Axes:
    """Gamma and beta."""
    return {'gamma': [(0, cut.ins[0])], 'beta': [(0, cut.ins[0])]}

  def masked_call(self, cut: Cut) -> Callable[..., Any] | None:
    """Statistics over the kept channels of each group; dropped ones become zero."""
    layer, kept = cut.layer, cut.ins[0]
    blocks = kept.reshape(_groups(layer, len(kept)), -1)
    if (blocks == blocks[:, :1]).all():
      return None
    share = blocks[0].mean()

    def call(inputs: tf.Tensor, **kwargs: Any) -> tf.Tensor:
      axis, rank = cut.trace.ins[0].axis, inputs.shape.rank
      moved = [*(one for one in range(rank) if one != axis), axis]
      values = tf.transpose(inputs, moved)
      shape = tf.shape(values)
      grouped = tf.reshape(values, tf.concat([shape[:-1], blocks.shape], 0))
      mask = tf.cast(blocks, inputs.dtype)
      axes = [*range(1, rank - 1), rank]
      mean = tf.reduce_mean(grouped * mask, axes, keepdims=True) / share
      centred = (grouped - mean) * mask
      variance = tf.reduce_mean(centred**2, axes, keepdims=True) / share
      found = tf.reshape(centred * tf.math.rsqrt(variance + layer.epsilon), shape)
      found *= 1.0 if layer.gamma is None else layer.gamma
      found += 0.0 if layer.beta is None else layer.beta
      return tf.transpose(found * tf.cast(kept, inputs.dtype), np.argsort(moved))

    return call


def _groups(layer: Any, size: int) -> int:
  """How many there are; -1 stands for one for each channel."""
  return size if layer.groups == -1 else layer.groups
