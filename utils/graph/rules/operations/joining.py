"""Operations that join, part or repeat tensors: concat, stack, split, tile, pad."""

from __future__ import annotations

from typing import Any

import numpy as np

from secateurs.utils.graph.rules.base import Cut, Rule, Trace, View
from secateurs.utils.graph.rules.channels import Channels
from secateurs.utils.graph.rules.constants import Constant
from secateurs.utils.graph.rules.merges import concatenated, joined
from secateurs.utils.graph.rules.operations.arguments import (
  argument,
  constant_array,
  integers,
  is_ref,
  with_argument,
)
from secateurs.utils.graph.rules.operations.movers import Mover


class Concat(Rule):
  """tf.concat of tensors."""

  def trace(self, view: View) -> list[Channels]:
    """As for the layer."""
    axis = integers(argument(view.call, 'axis'))
    values = argument(view.call, 'values')
    if axis is None or not isinstance(values, (list, tuple)) or not all(map(is_ref, values)):
      return Rule.trace(self, view)
    return [concatenated(view, axis[0] % len(view.out_shapes[0]))]

  def constant(self, trace: Trace, ins: list[Constant]) -> list[Constant]:
    """Side by side."""
    return [joined(trace, ins)]


class Stack(Rule):
  """tf.stack: a new axis; the same channels of all tensors go together."""

  def trace(self, view: View) -> list[Channels]:
    """Ties the inputs and counts the new axis."""
    values = argument(view.call, 'values')
    given = integers(argument(view.call, 'axis', 0))
    axes = [channels.axis for channels in view.ins if channels.axis is not None]
    known = isinstance(values, (list, tuple)) and all(map(is_ref, values))
    if not known or given is None or not axes:
      return Rule.trace(self, view)
    new = given[0] % len(view.out_shapes[0])
    if new == 0:
      return Rule.trace(self, view)
    axis = max(set(axes), key=axes.count)
    first = view.on_axis(0, axis)
    for number in range(1, len(view.ins)):
      view.atoms.tie(first, view.on_axis(number, axis))
    return [Channels(axis + (new <= axis), first)]


class Unstack(Mover):
  """tf.unstack along another axis than the channels."""

  def trace(self, view: View) -> list[Channels]:
    """Channels pass."""
    channels = view.ins[0]
    given = integers(argument(view.call, 'axis', 0))
    if given is None or channels.axis is None:
      return Rule.trace(self, view)
    axis = given[0] % len(view.in_shapes[0])
    if axis in (0, channels.axis):
      return Rule.trace(self, view)
    here = channels.axis - (axis < channels.axis)
    return [Channels(here, channels.labels) for _ in view.out_shapes]


class Split(Rule):
  """tf.split."""

  def trace(self, view: View) -> list[Channels]:
    """Parts of the atoms."""
    axis = integers(argument(view.call, 'axis', 0))
    sizes = integers(argument(view.call, 'num_or_size_splits'))
    channels = view.ins[0]
    if axis is None or sizes is None or channels.axis is None:
      return Rule.trace(self, view)
    if axis[0] % len(view.in_shapes[0]) != channels.axis:
      return [Channels(channels.axis, channels.labels) for _ in view.out_shapes]
    ends = np.cumsum([shape[channels.axis] for shape in view.out_shapes])[:-1]
    return [Channels(channels.axis, part) for part in np.split(channels.labels, ends)]

  def rewrite(self, cut: Cut) -> tuple[tuple, dict[str, Any]]:
    """The new sizes; the number of parts where all are equal: runtimes have a fast operator for it."""
    call = cut.trace.call
    axis = integers(argument(call, 'axis', 0))[0] % cut.rank_in(0)
    if cut.ins[0].all() or axis != cut.trace.ins[0].axis:
      return call.args, call.kwargs
    sizes = [int(out.sum()) for out in cut.outs]
    return with_argument(call, 'num_or_size_splits', sizes if len(set(sizes)) > 1 else len(sizes))

  def constant(self, trace: Trace, ins: list[Constant]) -> list[Constant]:
    """Parts of the constants."""
    if len(trace.outs[0].labels) == len(trace.ins[0].labels):
      return [ins[0] for _ in trace.outs]
    ends = np.cumsum([len(out.labels) for out in trace.outs])[:-1]
    values, spoiled = np.split(ins[0].value, ends), np.split(ins[0].spoiled, ends)
    return [Constant(*pair) for pair in zip(values, spoiled)]


class Tile(Mover):
  """tf.tile: the channels one after the other, several times."""

  def trace(self, view: View) -> list[Channels]:
    """The atoms, tiled."""
    channels = view.ins[0]
    times = integers(argument(view.call, 'multiples'))
    if times is None or channels.axis is None or times[0] != 1:
      return Rule.trace(self, view)
    return [Channels(channels.axis, np.tile(channels.labels, times[channels.axis]))]


class Repeat(Mover):
  """tf.repeat: every channel several times, or one number of times for each."""

  def trace(self, view: View) -> list[Channels]:
    """The atoms, repeated."""
    channels, rank = view.ins[0], len(view.in_shapes[0])
    axis, times = integers(argument(view.call, 'axis')), integers(argument(view.call, 'repeats'))
    if axis is None or times is None or channels.axis is None or axis[0] % rank == 0:
      return Rule.trace(self, view)
    if axis[0] % rank != channels.axis:
      return [channels]
    return [Channels(channels.axis, np.repeat(channels.labels, times))]

  def rewrite(self, cut: Cut) -> tuple[tuple, dict[str, Any]]:
    """The numbers of the channels that are left."""
    call = cut.trace.call
    times, axis = integers(argument(call, 'repeats')), integers(argument(call, 'axis'))
    along = axis is not None and axis[0] % cut.rank_in(0) == cut.trace.ins[0].axis
    if not along or cut.ins[0].all() or times is None or len(times) == 1:
      return call.args, call.kwargs
    return with_argument(call, 'repeats', [n for n, kept in zip(times, cut.ins[0]) if kept])


class Pad(Rule):
  """tf.pad; added channels (parameter-free shortcuts) are channels of their own."""

  def trace(self, view: View) -> list[Channels]:
    """New atoms for new channels."""
    channels = view.ins[0]
    paddings = constant_array(argument(view.call, 'paddings'))
    if paddings is None or channels.axis is None or len(view.ins) != 1:
      return Rule.trace(self, view)
    before, after = (int(one) for one in paddings[channels.axis])
    mode = str(argument(view.call, 'mode', 'CONSTANT')).upper()
    if not before and not after:
      return [channels]
    if mode != 'CONSTANT':
      return Rule.trace(self, view)
    parts = [view.atoms.new(before), channels.labels, view.atoms.new(after)]
    return [Channels(channels.axis, np.concatenate(parts))]

  def rewrite(self, cut: Cut) -> tuple[tuple, dict[str, Any]]:
    """As many new channels as are left."""
    call, axis = cut.trace.call, cut.trace.ins[0].axis
    paddings = constant_array(argument(call, 'paddings'))
    if axis is None or cut.outs[0].all():
      return call.args, call.kwargs
    before = int(paddings[axis][0])
    paddings = paddings.copy()
    size = len(cut.ins[0])
    paddings[axis] = cut.outs[0][:before].sum(), cut.outs[0][before + size :].sum()
    return with_argument(call, 'paddings', paddings.tolist())

  def constant(self, trace: Trace, ins: list[Constant]) -> list[Constant]:
    """New channels are constants; the others' only where they are zero or nothing is around them."""
    paddings = constant_array(argument(trace.call, 'paddings'))
    axis = trace.outs[0].axis
    fill = argument(trace.call, 'constant_values', 0)
    if paddings is None or axis is None or not np.array_equal(constant_array(fill), 0):
      return Rule.constant(self, trace, ins)
    before, after = (int(one) for one in paddings[axis])
    around = np.delete(np.asarray(paddings), axis, axis=0).any()
    kept = np.where(ins[0].value == 0, 0.0, np.nan) if around else ins[0].value
    value = np.concatenate([np.zeros(before), kept, np.zeros(after)])
    silent = np.concatenate([np.ones(before, bool), ins[0].silent, np.ones(after, bool)])
    return [Constant(value, silent & np.isnan(value))]
