"""Operations that pick values: gather, indexing, slices."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from secateurs.utils.graph.flat.walk import Call
from secateurs.utils.graph.rules.base import Cut, Instead, Rule, Trace, View
from secateurs.utils.graph.rules.channels import Channels
from secateurs.utils.graph.rules.constants import Constant
from secateurs.utils.graph.rules.operations.arguments import (
  argument,
  constant_array,
  integers,
  with_argument,
  with_arguments,
)
from secateurs.utils.graph.rules.operations.movers import Mover


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
