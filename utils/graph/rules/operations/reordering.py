"""Operations that put values into another order: reverse, flips, roll."""

from __future__ import annotations

from typing import Any

import numpy as np

from secateurs.utils.graph.flat.walk import Call
from secateurs.utils.graph.rules.base import Cut, Rule, View
from secateurs.utils.graph.rules.channels import Channels
from secateurs.utils.graph.rules.operations.arguments import argument, integers, with_arguments
from secateurs.utils.graph.rules.operations.movers import Mover


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
