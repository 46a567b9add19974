"""TimeDistributed: the rule of the layer inside, on shapes without the steps."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import tf_keras as keras

from secateurs.utils.graph.flat.rebuild import Axes
from secateurs.utils.graph.rules.base import Cut, Rule, Trace, View
from secateurs.utils.graph.rules.channels import Channels
from secateurs.utils.graph.rules.constants import Constant
from secateurs.utils.graph.rules.whole import Whole


class TimeDistributed(Rule):
  """One layer at every step."""

  by_initializers = False
  emits_bias = False
  makes_channels = True
  fold_obstacle = 'which is called at every step'

  def __init__(self, rule_of: Callable[[keras.layers.Layer], Rule]):
    """`rule_of` gives the rule of the layer inside."""
    self._rule_of = rule_of

  def trace(self, view: View) -> list[Channels]:
    """As for the layer inside; channels must not be tracked along the steps."""
    rule = self._rule_of(view.layer.layer)
    if type(rule) in (Rule, Whole) or len(view.data()) != 1 or view.previous is not None:
      return Rule.trace(self, view)
    if view.ins[0].axis == 1:
      view.protect_inputs(f'{view.title()} works along another axis')
      view.ins[0] = Channels.none()
    inner = View(
      dataclasses.replace(view.call, layer=view.layer.layer),
      [_without_steps(one) for one in view.ins],
      [(shape[0], *shape[2:]) for shape in view.in_shapes],
      [(shape[0], *shape[2:]) for shape in view.out_shapes],
      view.atoms,
      cut_norms=view.cut_norms,
    )
    outs = [_with_steps(one) for one in rule.trace(inner)]
    view.ins = [_with_steps(one) for one in inner.ins]
    view.consumed, view.produced, view.inside = inner.consumed, inner.produced, inner.inside
    return outs

  def _inside(self, cut: Cut) -> tuple[Rule, Cut]:
    trace = cut.trace
    layer = trace.call.layer.layer
    inner = dataclasses.replace(
      trace,
      call=dataclasses.replace(trace.call, layer=layer),
      rule=self._rule_of(layer),
      ins=[_without_steps(one) for one in trace.ins],
      outs=[_without_steps(one) for one in trace.outs],
      in_shapes=[(shape[0], *shape[2:]) for shape in trace.in_shapes],
      out_shapes=[(shape[0], *shape[2:]) for shape in trace.out_shapes],
    )
    return inner.rule, Cut(inner, cut.ins, cut.outs, cut.inside)

  def config(self, cut: Cut) -> dict[str, Any]:
    """The config of the layer inside."""
    rule, inner = self._inside(cut)
    changes = rule.config(inner)
    own = cut.layer.get_config()['layer']
    return {'layer': {**own, 'config': {**own['config'], **changes}}} if changes else {}

  def axes(self, cut: Cut) -> Axes:
    """As for the layer inside."""
    rule, inner = self._inside(cut)
    return rule.axes(inner)

  def masks(self, cut: Cut) -> list[tuple[str, int, np.ndarray]]:
    """As for the layer inside."""
    rule, inner = self._inside(cut)
    return rule.masks(inner)

  def filters(self, layer: keras.layers.Layer) -> np.ndarray | None:
    """Those of the layer inside."""
    return self._rule_of(layer.layer).filters(layer.layer)

  def made(self, trace: Trace, part: str | None = None) -> np.ndarray | None:
    """That of the layer inside."""
    rule, inner = self._inside(Cut(trace, [], []))
    return rule.made(inner.trace, part)

  def row_norms(self, layer: keras.layers.Layer, count: int) -> np.ndarray:
    """Those of the layer inside."""
    return self._rule_of(layer.layer).row_norms(layer.layer, count)

  def constant(self, trace: Trace, ins: list[Constant]) -> list[Constant]:
    """Not followed."""
    return [Constant.live(len(out.labels)) for out in trace.outs]


def _without_steps(channels: Channels) -> Channels:
  return channels if channels.axis is None else Channels(channels.axis - 1, channels.labels)


def _with_steps(channels: Channels) -> Channels:
  return channels if channels.axis is None else Channels(channels.axis + 1, channels.labels)
