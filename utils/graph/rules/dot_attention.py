"""Attention and AdditiveAttention, which have no projections."""

from __future__ import annotations

from collections.abc import Sequence

import tf_keras as keras

from secateurs.utils.graph.flat.rebuild import Axes
from secateurs.utils.graph.flat.walk import Call
from secateurs.utils.graph.rules.base import Cut, Rule, Sides, Trace, View
from secateurs.utils.graph.rules.channels import Channels


class DotAttention(Rule):
  """Attention and AdditiveAttention: query and key meet in a sum over their channels, value passes.

  A channel that is zero in query and key adds nothing to a score: neither to a product nor to the sum
  of tanh(query + key), so both go together. A learned scale of each channel goes with them.
  """

  by_initializers = False

  def trace(self, view: View) -> list[Channels]:
    """Ties query and key; the channels of the value are the output's."""
    if not 2 <= len(view.ins) <= 3 or view.call.kwargs.get('mask') is not None:
      return Rule.trace(self, view)
    labels = [view.on_axis(number, -1) for number in range(len(view.ins))]
    view.atoms.tie(labels[0], labels[-1 if len(labels) == 3 else 1])
    view.share(labels[0])
    outs = [Channels(len(view.out_shapes[0]) - 1, labels[1])]
    return [*outs, *(Channels.none() for _ in view.out_shapes[1:])]

  def axes(self, cut: Cut) -> Axes:
    """The scale of AdditiveAttention [channels]."""
    scale = getattr(cut.layer, 'scale', None)
    return {'scale': [(0, cut.ins[0])]} if scale is not None and len(scale.shape) else {}

  def summed(self, trace: Trace) -> list[int]:
    """Query and key."""
    return [0, len(trace.ins) - 1] if _cut_inside(trace) else []

  def products(
    self, call: Call, in_shapes: Sequence[tuple], out_shapes: Sequence[tuple]
  ) -> list[Sides]:
    """All queries meet all keys, in a product or a scaled sum, and the scores weigh the values."""
    layer, given = call.layer, call.args[0] if call.args else call.kwargs['inputs']
    query, value, key = (*in_shapes[: len(given)], in_shapes[1])[:3]
    sums = isinstance(layer, keras.layers.AdditiveAttention)
    adds = not layer.use_scale if sums else layer.score_mode == 'concat'
    scores = [] if adds else [(*query[1:-1], key[-2], query[-1])]
    return [*scores, (*query[1:-1], value[-2], value[-1])]


def _cut_inside(trace: Trace) -> bool:
  """Whether the layer's channels were followed."""
  return all(one.axis is not None for one in trace.ins) and len(trace.ins) > 1
