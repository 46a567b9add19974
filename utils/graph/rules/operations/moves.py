"""Operations that move values: reshape, transpose, slices, gather, pad, tile, stack and their kin."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from secateurs.utils.graph.flat.walk import Call
from secateurs.utils.graph.rules.base import Cut, Instead, Rule, Trace, View
from secateurs.utils.graph.rules.channels import Channels
from secateurs.utils.graph.rules.constants import Constant
from secateurs.utils.graph.rules.merges import concatenated, joined
from secateurs.utils.graph.rules.operations.arguments import (
  argument,
  constant_array,
  integers,
  is_ref,
  sizes_with_batch,
  with_argument,
  with_arguments,
)
from secateurs.utils.graph.rules.shapes import moved, reshaped, resized, spread


class Mover(Rule):
  """Outputs hold the input's channels at other places: constants move with their atoms."""

  def constant(self, trace: Trace, ins: list[Constant]) -> list[Constant]:
    """Constants by atom."""
    if len(ins) != 1:
      return Rule.constant(self, trace, ins)
    return [spread(trace, ins[0], number) for number in range(len(trace.outs))]


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
    """The new sizes."""
    call = cut.trace.call
    axis = integers(argument(call, 'axis', 0))[0] % cut.rank_in(0)
    if cut.ins[0].all() or axis != cut.trace.ins[0].axis:
      return call.args, call.kwargs
    return with_argument(call, 'num_or_size_splits', [int(out.sum()) for out in cut.outs])

  def constant(self, trace: Trace, ins: list[Constant]) -> list[Constant]:
    """Parts of the constants."""
    if len(trace.outs[0].labels) == len(trace.ins[0].labels):
      return [ins[0] for _ in trace.outs]
    ends = np.cumsum([len(out.labels) for out in trace.outs])[:-1]
    values, spoiled = np.split(ins[0].value, ends), np.split(ins[0].spoiled, ends)
    return [Constant(*pair) for pair in zip(values, spoiled)]


class Gather(Rule):
  """tf.gather: chosen channels, or channels that pass while positions are chosen."""

  def trace(self, view: View) -> list[Channels]:
    """The chosen atoms, or all of them on their axis."""
    channels, rank = view.ins[0], len(view.in_shapes[0])
    indices = constant_array(argument(view.call, 'indices'))
    given = argument(view.call, 'axis')
    axis = [0] if given is None else integers(given)
    simple = indices is not None and indices.dtype.kind in 'iu'
    if not simple or axis is None or len(view.ins) != 1 or channels.axis is None:
      return Rule.trace(self, view)
    here = axis[0] % rank
    if here == 0 or argument(view.call, 'batch_dims'):
      return Rule.trace(self, view)
    if here != channels.axis:
      shift = indices.ndim - 1 if here < channels.axis else 0
      return [Channels(channels.axis + shift, channels.labels)]
    if indices.ndim != 1:
      return Rule.trace(self, view)
    return [Channels(channels.axis, channels.labels[indices])]

  def _along(self, trace: Trace) -> np.ndarray | None:
    """The indices, if they choose channels."""
    rank = len(trace.in_shapes[0])
    axis = integers(argument(trace.call, 'axis'))
    if trace.outs[0].axis is None or axis is None or axis[0] % rank != trace.ins[0].axis:
      return None
    indices = constant_array(argument(trace.call, 'indices'))
    return indices if indices is not None and indices.ndim == 1 else None

  def rewrite(self, cut: Cut) -> tuple[tuple, dict[str, Any]]:
    """The indices, counted in what is left."""
    call, indices = cut.trace.call, self._along(cut.trace)
    if cut.ins[0].all() or indices is None:
      return call.args, call.kwargs
    place = np.cumsum(cut.ins[0]) - 1
    return with_argument(call, 'indices', place[indices[cut.outs[0]]].tolist())

  def constant(self, trace: Trace, ins: list[Constant]) -> list[Constant]:
    """The chosen constants."""
    indices = self._along(trace)
    if indices is None:
      return (
        [ins[0]] if len(trace.outs[0].labels) == len(ins[0].value) else super().constant(trace, ins)
      )
    return [Constant(ins[0].value[indices], ins[0].spoiled[indices])]


Spec = list[int | slice | None]


class Slice(Rule):
  """Python indexing: any range along the channels, anything simple elsewhere."""

  def trace(self, view: View) -> list[Channels]:
    """The atoms of the range."""
    if len(view.ins) == 1 and view.call.inputs[0] in view.atoms.sizes:
      return self._size(view)
    channels = view.ins[0]
    spec = self.spec(view.call, len(view.in_shapes[0]))
    if spec is None or channels.axis is None or len(view.ins) != 1:
      return Rule.trace(self, view)
    here, axis = _locate(spec, channels.axis)
    if not isinstance(here, slice) or axis == 0 or not isinstance(_locate(spec, 0)[0], slice):
      return Rule.trace(self, view)
    return [Channels(axis, channels.labels[here])]

  def _size(self, view: View) -> list[Channels]:
    """A number of a tensor's shape: free unless it may be the number of channels."""
    channels = view.atoms.sizes[view.call.inputs[0]]
    spec = self.spec(view.call, 1)
    one = None if spec is None or len(spec) != 1 else spec[0]
    rank = view.in_shapes[0][0]
    if not isinstance(one, int) or rank is None or one % rank == channels.axis:
      view.atoms.protect(channels.labels, f'{view.title()} uses the number of channels')
    return [Channels.none()]

  def spec(self, call: Call, rank: int) -> Spec | None:
    """One entry for each axis, None for a new one; None if it is more than ranges and numbers."""
    raw = argument(call, 'slice_spec')
    raw = list(raw) if isinstance(raw, (list, tuple)) else [raw]
    used = sum(part is not None and not _is_ellipsis(part) for part in raw)
    spec: Spec = []
    for part in raw:
      if isinstance(part, dict):
        part = slice(part['start'], part['stop'], part['step'])
      if _is_ellipsis(part):
        spec.extend([slice(None)] * (rank - used))
        used = rank
      elif isinstance(part, slice):
        ends = (part.start, part.stop, part.step)
        if not all(one is None or isinstance(one, (int, np.integer)) for one in ends):
          return None
        spec.append(part)
      elif part is None:
        spec.append(None)
      elif isinstance(part, (int, np.integer)) and not isinstance(part, bool):
        spec.append(int(part))
      else:
        return None
    return spec + [slice(None)] * (rank - used)

  def rewrite(self, cut: Cut) -> tuple[tuple, dict[str, Any]]:
    """The range, counted in what is left."""
    call, axis = cut.trace.call, cut.trace.ins[0].axis
    spec = self.spec(call, cut.rank_in(0))
    if spec is None:
      return call.args, call.kwargs
    if axis is not None and not cut.ins[0].all():
      place = _place(spec, axis)
      start, stop, step = spec[place].indices(len(cut.ins[0]))
      if step != 1:
        return call.args, call.kwargs  # See `instead`.
      before = int(cut.ins[0][:start].sum())
      spec[place] = slice(before, before + int(cut.ins[0][start:stop].sum()), None)
    # Keras keeps ranges as dictionaries, which it can save; an ellipsis it cannot.
    kept = [_range(one) if isinstance(one, slice) else one for one in spec]
    return with_argument(call, 'slice_spec', tuple(kept))

  def instead(self, cut: Cut) -> Instead | None:
    """Every other channel is no range of what is left: a gather, then the rest of the indexing."""
    call, axis = cut.trace.call, cut.trace.ins[0].axis
    if axis is None or cut.ins[0].all():
      return None
    spec = self.spec(call, cut.rank_in(0))
    place = _place(spec, axis)
    wanted = np.arange(len(cut.ins[0]))[spec[place]]
    if spec[place].indices(len(cut.ins[0]))[2] == 1:
      return None
    left = np.cumsum(cut.ins[0]) - 1
    indices = left[wanted[cut.ins[0][wanted]]].tolist()
    rest = [slice(None) if number == place else one for number, one in enumerate(spec)]

    def chosen(tensor: Any) -> Any:
      return tf.gather(tensor, indices, axis=axis)[tuple(rest)]

    return chosen

  def constant(self, trace: Trace, ins: list[Constant]) -> list[Constant]:
    """The constants of the range."""
    axis, spec = trace.ins[0].axis, self.spec(trace.call, len(trace.in_shapes[0]))
    if axis is None or spec is None or trace.outs[0].axis is None:
      return Rule.constant(self, trace, ins)
    here = spec[_place(spec, axis)]
    if not isinstance(here, slice):
      return Rule.constant(self, trace, ins)
    return [Constant(ins[0].value[here], ins[0].spoiled[here])]


def _is_ellipsis(part: Any) -> bool:
  return part is Ellipsis or (isinstance(part, str) and part == 'Ellipsis')


def _range(part: slice) -> dict[str, int | None]:
  return {'start': part.start, 'stop': part.stop, 'step': part.step}


def _place(spec: Spec, axis: int) -> int:
  """Index of an input axis's entry in the indexing, where None entries make new axes."""
  return [number for number, one in enumerate(spec) if one is not None][axis]


def _locate(spec: Spec, axis: int) -> tuple[int | slice | None, int]:
  """(the entry of an input axis, where that axis is in the output)."""
  place = _place(spec, axis)
  return spec[place], place - sum(isinstance(one, int) for one in spec[:place])


class Window(Mover):
  """tf.slice and tf.strided_slice: a range on every axis."""

  def _range(self, call: Call, axis: int, size: int) -> tuple[int, int] | None:
    """(start, stop) on one axis, or None."""
    begin = integers(argument(call, 'begin', argument(call, 'input_')))
    if argument(call, 'size') is not None:
      sizes = integers(argument(call, 'size'))
      if begin is None or sizes is None:
        return None
      return begin[axis], size if sizes[axis] == -1 else begin[axis] + sizes[axis]
    end, strides = integers(argument(call, 'end')), integers(argument(call, 'strides'))
    masks = [
      argument(call, name) for name in ('ellipsis_mask', 'new_axis_mask', 'shrink_axis_mask')
    ]
    if begin is None or end is None or any(masks) or (strides and strides[axis] != 1):
      return None
    if axis >= len(begin):
      return 0, size
    one = None if (argument(call, 'begin_mask') or 0) >> axis & 1 else begin[axis]
    other = None if (argument(call, 'end_mask') or 0) >> axis & 1 else end[axis]
    return slice(one, other).indices(size)[:2]

  def trace(self, view: View) -> list[Channels]:
    """The atoms of the range."""
    channels = view.ins[0]
    if channels.axis is None or len(view.ins) != 1:
      return Rule.trace(self, view)
    ends = self._range(view.call, channels.axis, len(channels.labels))
    if ends is None or len(view.out_shapes[0]) != len(view.in_shapes[0]):
      return Rule.trace(self, view)
    return [Channels(channels.axis, channels.labels[slice(*ends)])]

  def rewrite(self, cut: Cut) -> tuple[tuple, dict[str, Any]]:
    """The range, counted in what is left."""
    call, axis = cut.trace.call, cut.trace.ins[0].axis
    if axis is None or cut.ins[0].all():
      return call.args, call.kwargs
    start, stop = self._range(call, axis, len(cut.ins[0]))
    before, inside = int(cut.ins[0][:start].sum()), int(cut.ins[0][start:stop].sum())
    begin = integers(argument(call, 'begin'))
    if argument(call, 'size') is not None:
      begin[axis] = before
      sizes = integers(argument(call, 'size'))
      sizes[axis] = inside
      return with_arguments(call, {'begin': begin, 'size': sizes})
    if axis >= len(begin):
      return call.args, call.kwargs
    end = integers(argument(call, 'end'))
    begin[axis], end[axis] = before, before + inside
    return with_arguments(call, {'begin': begin, 'end': end})


class Reverse(Mover):
  """tf.reverse and flips of images."""

  def __init__(self, axes: list[int] | None = None):
    """`axes`: what is reversed; None if the call says so."""
    self.axes = axes

  def trace(self, view: View) -> list[Channels]:
    """The atoms backwards, if the channels are reversed."""
    channels, rank = view.ins[0], len(view.in_shapes[0])
    axes = self.axes if self.axes is not None else integers(argument(view.call, 'axis'))
    if axes is None or channels.axis is None or 0 in [one % rank for one in axes]:
      return Rule.trace(self, view)
    backwards = channels.axis in [one % rank for one in axes]
    return [Channels(channels.axis, channels.labels[::-1] if backwards else channels.labels)]


class Roll(Mover):
  """tf.roll: along the channels the last ones come first; what is left rolls by fewer."""

  def _shift(self, call: Call, rank: int, axis: int | None) -> int | None:
    shifts, axes = integers(argument(call, 'shift')), integers(argument(call, 'axis'))
    if shifts is None or axes is None or axis is None:
      return None
    places = [one % rank for one in axes]
    return None if 0 in places else sum(s for s, one in zip(shifts, places) if one == axis)

  def trace(self, view: View) -> list[Channels]:
    """The atoms, rolled."""
    channels = view.ins[0]
    shift = self._shift(view.call, len(view.in_shapes[0]), channels.axis)
    if shift is None:
      return Rule.trace(self, view)
    return [Channels(channels.axis, np.roll(channels.labels, shift))]

  def rewrite(self, cut: Cut) -> tuple[tuple, dict[str, Any]]:
    """As many steps as channels are left of those that come first."""
    call, channels, rank = cut.trace.call, cut.trace.ins[0], cut.rank_in(0)
    shift = self._shift(call, rank, channels.axis)
    if not shift or cut.ins[0].all():
      return call.args, call.kwargs
    first = shift % len(channels.labels)
    kept = int(cut.ins[0][len(channels.labels) - first :].sum())
    axes = [one % rank for one in integers(argument(call, 'axis'))]
    shifts = integers(argument(call, 'shift'))
    others = [(s, one) for s, one in zip(shifts, axes) if one != channels.axis]
    pairs = [*others, (kept, channels.axis)]
    return with_arguments(call, {'shift': [p[0] for p in pairs], 'axis': [p[1] for p in pairs]})


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


class Spatial(Rule):
  """Resizing and pooling: every channel by itself, on the last axis."""

  def trace(self, view: View) -> list[Channels]:
    """Channels pass."""
    layout = argument(view.call, 'data_format') or 'NHWC'
    if layout.startswith('NC') and len(layout) > 3:
      return Rule.trace(self, view)
    return [Channels(len(view.out_shapes[0]) - 1, view.on_axis(0, -1))]
