"""Convolution and dense layers: they make channels and sum over the channels of their input."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import tf_keras as keras

from secateurs.utils.graph.flat.layouts import channel_axis
from secateurs.utils.graph.flat.rebuild import Axes
from secateurs.utils.graph.rules.activations import acts_on_channels_apart, apply
from secateurs.utils.graph.rules.base import Cut, Rule, Trace, View
from secateurs.utils.graph.rules.channels import Channels
from secateurs.utils.graph.rules.constants import Constant
from secateurs.utils.graph.rules.producers import Producer, Rows, guard_activation, weight


class Conv(Producer):
  """Conv1D, Conv2D and Conv3D, grouped or not.

  With groups the kernel must stay a full array. If there are more groups than channels in each,
  whole groups go, with their inputs and filters; otherwise every group loses the same rows, and
  every group the same filters.
  """

  def tie(self, view: View, rows: np.ndarray, filters: np.ndarray) -> None:
    """Ties what one slot of a grouped kernel serves."""
    groups = view.layer.groups
    if groups == 1:
      return
    by_group, filters_by_group = rows.reshape(groups, -1), filters.reshape(groups, -1)
    if whole_groups(view.layer, len(rows)):
      for block in (by_group, filters_by_group):
        view.atoms.tie(np.broadcast_to(by_group[:, :1], block.shape), block)
    else:
      for block in (by_group, filters_by_group):
        view.atoms.tie(np.broadcast_to(block[:1], block.shape), block)

  def trace(self, view: View) -> list[Channels]:
    """As for every kernel; where whole groups go, no filter sums over what another one loses."""
    outs = super().trace(view)
    if view.layer.groups > 1 and whole_groups(view.layer, len(view.consumed)):
      view.consumed = None
    return outs

  def config(self, cut: Cut) -> dict[str, Any]:
    """Filters, and the number of groups."""
    config: dict[str, Any] = {'filters': int(cut.outs[0].sum())}
    groups = cut.layer.groups
    if groups > 1 and whole_groups(cut.layer, len(cut.ins[0])):
      config['groups'] = int(cut.ins[0].reshape(groups, -1).any(axis=1).sum())
    return config

  def axes(self, cut: Cut) -> Axes:
    """Kernel [window, rows, filters] and bias [filters]."""
    rows = self.rows(cut.layer, cut.ins[0])['kernel']
    return {'kernel': [rows, (-1, cut.outs[0])], 'bias': [(0, cut.outs[0])]}

  def rows(self, layer: keras.layers.Layer, kept: np.ndarray) -> Rows:
    """The rows of the first group that is left; all groups keep the same ones."""
    by_group = kept.reshape(layer.groups, -1)
    return {'kernel': (-2, by_group[np.argmax(by_group.any(axis=1))])}

  def rows_are_own(self, layer: keras.layers.Layer) -> bool:
    """Not with groups."""
    return layer.groups == 1

  def constant(self, trace: Trace, ins: list[Constant]) -> list[Constant]:
    """As for every kernel; a group without any signal gives silent filters."""
    found = super().constant(trace, ins)[0]
    layer = trace.call.layer
    if layer.groups == 1:
      return [found]
    quiet = ins[0].silent.reshape(layer.groups, -1).all(axis=1)
    silent = np.repeat(quiet, len(found.value) // layer.groups)
    return [Constant(found.value, silent & np.isnan(found.value))]

  def response(self, layer: keras.layers.Layer, values: np.ndarray) -> np.ndarray:
    """Kernel summed over the window, times the values, group by group."""
    kernel = weight(layer, 'kernel').astype(np.float64)
    sums = kernel.sum(axis=tuple(range(kernel.ndim - 2)))
    by_group = values.reshape(layer.groups, -1)
    return np.einsum('gi,igo->go', by_group, sums.reshape(len(sums), layer.groups, -1)).reshape(-1)

  def ignores_borders(self, layer: keras.layers.Layer) -> bool:
    """Without padding, or with a window of one."""
    return layer.padding == 'valid' or math.prod(layer.kernel_size) == 1


def whole_groups(layer: keras.layers.Layer, rows: int) -> bool:
  """True if a grouped convolution is cut by whole groups, which then are the finer units."""
  return layer.groups >= rows // layer.groups


class TransposedConv(Producer):
  """Conv1DTranspose, Conv2DTranspose, Conv3DTranspose: kernel [window, filters, rows]."""

  out_axis = -2

  def config(self, cut: Cut) -> dict[str, Any]:
    """Filters."""
    return {'filters': int(cut.outs[0].sum())}

  def axes(self, cut: Cut) -> Axes:
    """Kernel and bias."""
    return {'kernel': [(-1, cut.ins[0]), (-2, cut.outs[0])], 'bias': [(0, cut.outs[0])]}

  def rows(self, layer: keras.layers.Layer, kept: np.ndarray) -> Rows:
    """The last axis."""
    return {'kernel': (-1, kept)}

  def response(self, layer: keras.layers.Layer, values: np.ndarray) -> np.ndarray:
    """Only for a window of one: otherwise positions see different parts of the kernel."""
    kernel = weight(layer, 'kernel').astype(np.float64)
    return kernel.sum(axis=tuple(range(kernel.ndim - 2))) @ values

  def ignores_borders(self, layer: keras.layers.Layer) -> bool:
    """Only a window of one with stride one."""
    return math.prod(layer.kernel_size) == 1 and math.prod(layer.strides) == 1


class SeparableConv(Producer):
  """SeparableConv1D and SeparableConv2D: a depthwise kernel, then a pointwise one."""

  kernel = 'pointwise_kernel'

  def config(self, cut: Cut) -> dict[str, Any]:
    """Filters."""
    return {'filters': int(cut.outs[0].sum())}

  def axes(self, cut: Cut) -> Axes:
    """The pointwise kernel has one row for each input channel and multiple."""
    rows, filters = cut.ins[0], cut.outs[0]
    return {
      'depthwise_kernel': [(-2, rows)],
      'pointwise_kernel': [(-2, np.repeat(rows, cut.layer.depth_multiplier)), (-1, filters)],
      'bias': [(0, filters)],
    }

  def rows(self, layer: keras.layers.Layer, kept: np.ndarray) -> Rows:
    """The depthwise kernel: without it the pointwise one sees zeros."""
    return {'depthwise_kernel': (-2, kept)}

  def response(self, layer: keras.layers.Layer, values: np.ndarray) -> np.ndarray:
    """Depthwise sums of the constants, then the pointwise kernel."""
    depthwise = weight(layer, 'depthwise_kernel').astype(np.float64)
    sums = depthwise.sum(axis=tuple(range(depthwise.ndim - 2)))
    pointwise = weight(layer, 'pointwise_kernel').astype(np.float64)
    return (values[:, None] * sums).reshape(-1) @ pointwise.reshape(-1, pointwise.shape[-1])

  def ignores_borders(self, layer: keras.layers.Layer) -> bool:
    """Without padding, or with a window of one."""
    return layer.padding == 'valid' or math.prod(layer.kernel_size) == 1


class Dense(Producer):
  """Dense: kernel [rows, units] on the last axis.

  Channels on another axis pass through, as in a mixer that works along the tokens; the units are
  then positions, and stay.
  """

  def axis(self, layer: keras.layers.Layer, rank: int) -> int:
    """The last axis."""
    return rank - 1

  def trace(self, view: View) -> list[Channels]:
    """As for every kernel, unless the channels are tracked on another axis."""
    channels, rank = view.ins[0], len(view.in_shapes[0])
    if channels.axis is not None and channels.axis != rank - 1:
      if view.previous is None and acts_on_channels_apart(view.layer.activation):
        return [channels]
      view.protect_inputs(f'{view.title()} works along another axis')
    return super().trace(view)

  def config(self, cut: Cut) -> dict[str, Any]:
    """Units, if they are channels."""
    return {} if cut.trace.produced is None else {'units': int(cut.outs[0].sum())}

  def axes(self, cut: Cut) -> Axes:
    """Kernel and bias."""
    if cut.trace.produced is None:
      return {}
    return {'kernel': [(0, cut.ins[0]), (1, cut.outs[0])], 'bias': [(0, cut.outs[0])]}

  def rows(self, layer: keras.layers.Layer, kept: np.ndarray) -> Rows:
    """The first axis."""
    return {'kernel': (0, kept)}

  def constant(self, trace: Trace, ins: list[Constant]) -> list[Constant]:
    """As for every kernel; channels that pass through are not followed."""
    if trace.produced is None:
      return Rule.constant(self, trace, ins)
    return super().constant(trace, ins)

  def response(self, layer: keras.layers.Layer, values: np.ndarray) -> np.ndarray:
    """Values times the kernel."""
    return values @ weight(layer, 'kernel').astype(np.float64)


class Depthwise(Rule):
  """DepthwiseConv1D and DepthwiseConv2D: multiples of each channel, which go with it."""

  def trace(self, view: View) -> list[Channels]:
    """Channel c gives outputs c * multiplier and the following."""
    axis = channel_axis(view.layer, len(view.in_shapes[0]))
    labels = view.on_axis(0, axis)
    view.share(labels)
    outs = np.repeat(labels, view.layer.depth_multiplier)
    guard_activation(view, labels)
    return [Channels(axis, outs)]

  def axes(self, cut: Cut) -> Axes:
    """Kernel [window, channels, multiplier] and bias [channels * multiplier]."""
    return {'depthwise_kernel': [(-2, cut.ins[0])], 'bias': [(0, cut.outs[0])]}

  def constant(self, trace: Trace, ins: list[Constant]) -> list[Constant]:
    """A constant keeps its value unless zero padding is seen at the border."""
    layer = trace.call.layer
    kernel = weight(layer, 'depthwise_kernel').astype(np.float64)
    sums = kernel.sum(axis=tuple(range(kernel.ndim - 2)))
    value = (ins[0].value[:, None] * sums).reshape(-1)
    value = np.where(kernel.any(axis=tuple(range(kernel.ndim - 2))).reshape(-1), value, 0)
    silent = np.repeat(ins[0].silent, layer.depth_multiplier) | (value == 0)
    whole = layer.padding == 'valid' or math.prod(layer.kernel_size) == 1
    if not whole:
      value = np.where(value == 0, value, np.nan)
    if layer.use_bias:
      value = value + weight(layer, 'bias')
    value = apply(layer.activation, value)
    return [Constant(np.where(silent, value, np.nan), silent & np.isnan(value))]
