"""Builds the smaller model that a plan describes."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

from secateurs.utils.errors import UserError
from secateurs.utils.graph.flat.rebuild import (
  Recipe,
  fill,
  layer_values,
  new_inputs,
  new_model,
  shrink,
)
from secateurs.utils.graph.flat.selection import ChannelSelection
from secateurs.utils.graph.flat.state import prove_copy
from secateurs.utils.graph.groups.channel_graph import ChannelGraph
from secateurs.utils.graph.rules.base import Cut, Rule, Trace
from secateurs.utils.graph.rules.producers import weight
from secateurs.utils.graph.slicing.planning import Keep, Plan
from secateurs.utils.graph.slicing.settling import plan_slice
from secateurs.utils.graph.slicing.signals import (
  CALL,
  MERGE,
  Lost,
  Step,
  follow_signals,
  joins,
  lost_values,
)
from secateurs.utils.names import unique_name

_log = logging.getLogger(__name__)


def slice_model(
  model: keras.Model | ChannelGraph,
  keep: Keep,
  *,
  min_channels: int = 1,
  round_to: int = 1,
) -> keras.Model:
  """Returns a new model with the kept channels only.

  The result equals the model whose dropped channels were masked, that is, whose consumers' kernel
  slices for them are zero. Where instead a producer was zeroed (a filter, a BatchNorm gamma), it still
  emits a constant. That is folded into the consumers' biases if this is exact; otherwise the channel
  stays, with a log line that says why (`Plan.held_back` has the list).

  Args:
    model: a functional or Sequential tf_keras model, which is left as it is, or its ChannelGraph,
      which saves walking it again.
    keep: what to keep: for each key a list of indices or a bool array. Keys are a `Group` or its
      index (elements of the group), a layer's name (its output channels; everything coupled goes
      with them), or (name, 'input') for the input channels of one layer. Channels that no layer
      takes any more are dropped at their source; where others still need them, a
      `ChannelSelection` feeds the layer. Everything that is not named stays.
    min_channels: the least number of channels a layer that loses any must keep; 0 lets whole
      residual branches go (their addition becomes the shortcut, plus the branch's constant if it
      has one).
    round_to: widths are rounded up to multiples of this, putting back the largest filters.

  Returns:
    An uncompiled functional model, nested models opened; names and weights are those of the
    original.

  Raises:
    UserError: if a protected channel is to go, coupled channels are treated differently, a layer
      keeps too few channels, or a layer cannot be made again from its config.
  """
  graph = model if isinstance(model, ChannelGraph) else ChannelGraph(model)
  plan = plan_slice(graph, keep, min_channels=min_channels, round_to=round_to)
  for one in plan.held_back:
    _log.warning(
      'channel %d of group %d (%s) stays: %s',
      one.element,
      one.group,
      graph.groups[one.group].name if one.group >= 0 else '-',
      one.reason,
    )
  return apply_plan(plan)


def apply_plan(plan: Plan) -> keras.Model:
  """Builds the model of a plan, as `plan_slice` gives it.

  Returns:
    An uncompiled functional model with the kept channels only; the plan's model stays as it is.

  Raises:
    UserError: a layer cannot be made again from its config, or an output would lose its signal.
  """
  return _Builder(plan).build()


class _Builder:
  """Calls every layer again; `tensors` maps numbers of tensors with a signal to Keras tensors."""

  def __init__(self, plan: Plan):
    self.plan = plan
    self.flat = plan.graph.traced.flat
    self.tensors: dict[int, Any] = new_inputs(self.flat)
    self.layers: dict[str, keras.layers.Layer] = {}
    self.selections: dict[tuple, Any] = {}
    self.names = set(self.flat.names.values())
    self.makers = {number: call.name for call in self.flat.calls for number in call.outputs}

  def build(self) -> keras.Model:
    inputs = dict(self.tensors)
    signals = follow_signals(self.plan)
    if signals.problem is not None:
      raise UserError(f'{signals.problem}: keep more channels.')
    for step in signals.steps:
      self._step(step, signals.lost)
    return new_model(self.flat, inputs, [self.tensors[number] for number in self.flat.outputs])

  def _step(self, step: Step, lost: dict[int, Lost]) -> None:
    trace = step.trace
    if step.kind == CALL:
      results = tf.nest.flatten(self._call(trace, step.cut))
      self.tensors.update(zip(trace.call.outputs, results))
    elif step.kind == MERGE:
      self.tensors[trace.call.outputs[0]] = self._merge_without(trace, lost)

  def _call(self, trace: Trace, cut: Cut) -> Any:
    """Calls the layer's copy on the new tensors."""
    tensors = self._select(trace)
    instead = trace.rule.instead(cut)
    if instead is not None:
      return instead(*(tensors[number] for number in trace.call.inputs))
    args, kwargs = trace.rule.rewrite(cut)
    args, kwargs = fill(args, tensors), fill(kwargs, tensors)
    name = trace.call.name
    if name in self.layers:
      return self.layers[name](*args, **kwargs)
    recipe = self._recipe(trace, cut)
    layer = recipe.make()
    result = layer(*args, **kwargs)
    recipe.finish(layer)
    whole = all(kept.all() for kept in (*cut.ins, *cut.outs, *cut.inside.values()))
    by_state = type(trace.rule) is Rule or not trace.rule.by_initializers
    if by_state:
      self._prove(trace, (layer, args, kwargs) if whole else None)
    self.layers[name] = layer
    return result

  def _prove(self, trace: Trace, copied: tuple[Any, Any, Any] | None) -> None:
    """Compares the copy of a layer with it; a user's layer that was cut by a whole copy."""
    call = trace.call
    if copied is None and type(call.layer).__module__.startswith('tf_keras.'):
      return
    if copied is None:
      shapes, dtypes = self.flat.shapes, self.flat.dtypes
      given = {n: keras.Input(batch_shape=shapes[n], dtype=dtypes[n]) for n in call.inputs}
      args, kwargs = fill(call.args, given), fill(call.kwargs, given)
      recipe = Recipe(call.layer, call.name, {}, layer_values(call.layer, {}), {}, known=False)
      layer = recipe.make()
      layer(*args, **kwargs)
      recipe.finish(layer)
      copied = (layer, args, kwargs)
    prove_copy(call.layer, *copied)

  def _recipe(self, trace: Trace, cut: Cut) -> Recipe:
    layer, name = trace.call.layer, trace.call.name
    changes = trace.rule.config(cut)
    values = trace.rule.values(cut)
    extra = {}
    if name in self.plan.added_bias:
      bias = self.plan.added_bias[name]
      if layer.use_bias:
        bias = bias + weight(layer, 'bias')
      changes = {**changes, 'use_bias': True}
      extra['bias'] = shrink(bias, [(0, cut.outs[0])]).astype(np.float32)
    return Recipe(
      layer,
      name,
      changes,
      values,
      extra,
      known=trace.rule.by_initializers and type(trace.rule) is not Rule,
    )

  def _select(self, trace: Trace) -> dict[int, Any]:
    """Input tensors by number; a consumer that takes a choice of channels gets a selection."""
    tensors = {number: self.tensors[number] for number in trace.call.inputs}
    name = self._chooser(trace)
    if name is None:
      return tensors
    number, channels = trace.call.inputs[0], trace.ins[0]
    alive = self.plan.alive[channels.labels]
    indices = tuple(np.flatnonzero(self.plan.rows[name][alive]).tolist())
    if len(indices) == alive.sum():
      return tensors
    key = (number, indices)
    if key not in self.selections:
      layer = ChannelSelection(indices, channels.axis, name=self._new_name(f'{name}_selection'))
      self.selections[key] = layer(tensors[number])
    return {**tensors, number: self.selections[key]}

  def _chooser(self, trace: Trace) -> str | None:
    """The layer whose choice of channels is made before this call, or None."""
    chains, makers = self.plan.graph.own_chains, self.makers
    reader = chains.get(trace.call.name, trace.call.name)
    if reader not in self.plan.rows:
      return None
    before = makers.get(trace.call.inputs[0])
    return None if before is not None and chains.get(before) == reader else reader

  def _new_name(self, name: str) -> str:
    name = unique_name(name, self.names)
    self.names.add(name)
    return name

  def _merge_without(self, trace: Trace, lost: dict[int, Lost]) -> Any:
    """Addition, product or concatenation with the inputs that still carry a signal."""
    layer, axis, how = trace.call.layer, trace.outs[0].axis, joins(trace)
    live = [self.tensors[number] for number in trace.call.inputs if number not in lost]
    if how == 'concat':
      if len(live) == 1:
        return live[0]
      symbol = getattr(layer, 'symbol', None)
      return tf.concat(live, axis) if symbol else self._again(trace, live)
    values = lost_values(self.plan, trace, lost)
    base = live[0] if len(live) == 1 else self._again(trace, live)
    if how == 'multiply':
      return _with_vector(tf.math.multiply, base, np.prod(values, axis=0), axis, 1)
    total = np.sum(values, axis=0) * (layer.scale if how == 'scaled' else 1)
    return _with_vector(tf.math.add, base, total, axis, 0)

  def _again(self, trace: Trace, live: list[Any]) -> Any:
    layer = trace.call.layer
    config = {**layer.get_config(), 'name': trace.call.name}
    return type(layer).from_config(config)(live)


def _with_vector(op: Any, base: Any, values: np.ndarray, axis: int, neutral: float) -> Any:
  """base + values or base * values along the channel axis; nothing if that changes nothing."""
  if (values == neutral).all():
    return base
  shape = [1] * base.shape.rank
  shape[axis] = len(values)
  return op(base, tf.constant(values.reshape(shape), base.dtype))
