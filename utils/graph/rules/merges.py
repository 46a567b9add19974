"""Layers with several inputs: additions and the like, and concatenation."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import tf_keras as keras

from secateurs.utils.graph.flat.walk import Call
from secateurs.utils.graph.rules.base import Rule, Sides, Trace, View, fixed
from secateurs.utils.graph.rules.channels import Channels
from secateurs.utils.graph.rules.constants import Constant


class Merge(Rule):
  """Element-wise merging with broadcasting: channels at the same place go together."""

  def __init__(self, function: Callable[[list[np.ndarray]], np.ndarray]):
    """`function` merges the values of constants."""
    self.function = function

  def trace(self, view: View) -> list[Channels]:
    """Lower ranks get axes after the batch, as Keras does, then everything is broadcast."""
    rank = len(view.out_shapes[0])
    for i, channels in enumerate(view.ins):
      missing = rank - len(view.in_shapes[i])
      if missing and channels.axis is not None:
        view.ins[i] = Channels(channels.axis + missing, channels.labels)
        view.in_shapes[i] = (view.in_shapes[i][0], *[1] * missing, *view.in_shapes[i][1:])
    return [merged(view)]

  def constant(self, trace: Trace, ins: list[Constant]) -> list[Constant]:
    """Constant if all operands are."""
    size = len(trace.outs[0].labels)
    if any(len(one.value) != size for one in ins):
      return [Constant.live(size)]
    return [Constant.merged(ins, self.function([one.value for one in ins]))]


def merged(view: View) -> Channels:
  """Channels of an element-wise operation over all inputs, which have the output's rank."""
  out = view.out_shapes[0]
  reason = f'{view.title()} meets channels on different axes'
  full = [
    channels.axis
    for channels, shape in zip(view.ins, view.in_shapes)
    if channels.axis is not None and shape[channels.axis] == out[channels.axis]
  ]
  wide = [axis for axis in full if out[axis] > 1] or full
  if not wide:
    view.protect_inputs(reason)
    return fixed(view.atoms, out, reason)
  # Most operands agree; a dissenter is protected by on_axis.
  axis = max(set(wide), key=lambda one: (wide.count(one), one))
  first = None
  for i in range(len(view.ins)):
    channels = view.ins[i]
    if view.in_shapes[i][axis] == out[axis]:
      labels = view.on_axis(i, axis)
      if first is None:
        first = labels
      else:
        view.atoms.tie(first, labels)
    else:
      view.atoms.protect(channels.labels, f'{view.title()} spreads it over all channels')
  return Channels(axis, first)


class Dot(Rule):
  """Dot: the channels of both inputs that meet in the sum go together, others pass to the output."""

  def trace(self, view: View) -> list[Channels]:
    """Ties, or follows the axis that is not summed over."""
    summed = dot_axes(view.layer, [len(shape) for shape in view.in_shapes])
    over = [one.axis == axis for one, axis in zip(view.ins, summed)]
    if all(over):
      if view.layer.normalize and not view.cut_norms:
        view.protect_inputs(f'{view.title()} normalises over the channels')
      view.atoms.tie(view.ins[0].labels, view.ins[1].labels)
      return [Channels.none()]
    tracked = [number for number, one in enumerate(view.ins) if one.axis is not None]
    if any(over) or not tracked:
      return Rule.trace(self, view)
    for number in tracked[:-1]:
      view.atoms.protect(view.ins[number].labels, f'{view.title()} makes products of channels')
    last = tracked[-1]
    axis = view.ins[last].axis - (view.ins[last].axis > summed[last])
    # The second input's axes come after the first's, without its batch and what is summed over.
    axis += (len(view.in_shapes[0]) - 2) * last
    return [Channels(axis, view.ins[last].labels)]

  def summed(self, trace: Trace) -> list[int]:
    """Both inputs, if the sum runs over their channels."""
    return [0, 1] if trace.outs[0].axis is None else []

  def products(
    self, call: Call, in_shapes: Sequence[tuple], out_shapes: Sequence[tuple]
  ) -> list[Sides]:
    """All of the first input with what the second does not sum over."""
    _, axis = dot_axes(call.layer, [len(shape) for shape in in_shapes])
    rest = [size for place, size in enumerate(in_shapes[1]) if place not in (0, axis)]
    return [(*in_shapes[0][1:], *rest)]


def dot_axes(layer: keras.layers.Dot, ranks: list[int]) -> list[int]:
  """The axis of each input that a Dot layer sums over."""
  axes = layer.axes
  return [
    axis % rank for axis, rank in zip([axes] * 2 if isinstance(axes, int) else list(axes), ranks)
  ]


class Concatenate(Rule):
  """Concatenation: side by side on the channel axis, tied on any other."""

  def trace(self, view: View) -> list[Channels]:
    """Offsets follow from the order of the inputs."""
    rank = len(view.out_shapes[0])
    return [concatenated(view, view.layer.axis % rank)]

  def constant(self, trace: Trace, ins: list[Constant]) -> list[Constant]:
    """Side by side; on another axis constants are not followed."""
    return [joined(trace, ins)]


def concatenated(view: View, axis: int) -> Channels:
  """Channels of a concatenation of all inputs along `axis`."""
  axes = [channels.axis for channels in view.ins if channels.axis is not None]
  if axis in axes or not axes:
    parts = [view.on_axis(i, axis) for i in range(len(view.ins))]
    if sum(map(len, parts)) != view.out_shapes[0][axis]:
      reason = f'{view.title()} joins tensors of unknown size'
      view.protect_inputs(reason)
      return fixed(view.atoms, view.out_shapes[0], reason, axis)
    return Channels(axis, np.concatenate(parts))
  common = max(set(axes), key=axes.count)
  first = view.on_axis(0, common)
  for i in range(1, len(view.ins)):
    view.atoms.tie(first, view.on_axis(i, common))
  return Channels(common, first)


def joined(trace: Trace, ins: list[Constant]) -> Constant:
  """Constants of a concatenation."""
  if sum(len(one.value) for one in ins) != len(trace.outs[0].labels):
    return Constant.live(len(trace.outs[0].labels))
  return Constant(
    np.concatenate([one.value for one in ins]), np.concatenate([one.spoiled for one in ins])
  )
