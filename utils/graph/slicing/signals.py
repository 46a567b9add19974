"""What becomes of every layer once channels are gone: called again, empty, constant or merged away.

Where all channels of a tensor go, no signal is left there. A layer that has lost all of its inputs
emits a constant, an addition becomes its other side, and some layers cannot do without. All of this
follows from the plan, before a layer is built.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import tf_keras as keras

from secateurs.utils.graph.rules.activations import acts_on_channels_apart, apply
from secateurs.utils.graph.rules.base import Cut, Trace
from secateurs.utils.graph.rules.constants import Constant
from secateurs.utils.graph.rules.producers import weight
from secateurs.utils.graph.slicing.planning import Plan

CALL, SILENT, MERGE = 'call', 'silent', 'merge'


@dataclasses.dataclass(frozen=True, eq=False)
class Lost:
  """A tensor that carries no signal any more.

  Attributes:
    constant: one value for each old channel, or None if the tensor has no channels left.
    cause: int array, the elements of which one at least would have to stay.
  """

  constant: Constant | None
  cause: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Step:
  """What becomes of one call.

  Attributes:
    trace: the call.
    cut: what stays of it.
    kind: 'call' (called again), 'silent' (its outputs carry no signal) or 'merge' (an addition,
      product or concatenation continues with the inputs that still carry one).
  """

  trace: Trace
  cut: Cut
  kind: str


@dataclasses.dataclass(frozen=True, eq=False)
class Signals:
  """All steps in order, the tensors without signal, and what is wrong.

  Attributes:
    steps: one for each call.
    lost: tensor number -> why it carries no signal.
    problem: why the model cannot be built, or None.
    cause: the elements of which one at least must stay for that.
  """

  steps: list[Step]
  lost: dict[int, Lost]
  problem: str | None
  cause: np.ndarray


def follow_signals(plan: Plan) -> Signals:
  """Follows the signal through a plan's model; stops at the first problem."""
  steps: list[Step] = []
  lost: dict[int, Lost] = {}
  for trace in plan.graph.traced.traces:
    cut = plan.cut(trace)
    step = Step(trace, cut, _kind(plan, trace, cut, lost))
    steps.append(step)
    if step.kind == 'problem':
      layer = type(trace.call.layer).__name__
      problem = (
        f'Layer {trace.call.name!r} ({layer}) would lose the signal of an input whose channels all'
        ' go, and it is not an addition or product that could do without'
      )
      return Signals(steps, lost, problem, _cause(trace, lost))
  for number in plan.graph.traced.flat.outputs:
    if number in lost:
      name = plan.graph.model.name
      problem = f'An output of model {name!r} would no longer depend on its input'
      return Signals(steps, lost, problem, lost[number].cause)
  return Signals(steps, lost, None, np.zeros(0, int))


def _kind(plan: Plan, trace: Trace, cut: Cut, lost: dict[int, Lost]) -> str:
  """What becomes of a call; adds its outputs to `lost` where they carry no signal."""
  outs = trace.call.outputs
  empty = [len(kept) > 0 and not kept.any() for kept in cut.outs]
  for number, channels, gone in zip(outs, trace.outs, empty):
    if gone:
      lost[number] = Lost(None, channels.labels)
  if empty and all(empty):
    return SILENT
  starved = trace.consumed is not None and not cut.ins[0].any()
  if starved and not trace.rule.emits_bias:
    return 'problem'
  if starved:
    lost[outs[0]] = Lost(_bias(plan, trace), trace.ins[0].labels)
    return SILENT
  given = [lost.get(number) for number in trace.call.inputs]
  if not any(given):
    return CALL
  if all(one is not None and one.constant is not None for one in given):
    found = trace.rule.constant(trace, [one.constant for one in given])
    if all(not np.isnan(one.value[mask]).any() for one, mask in zip(found, cut.outs)):
      cause = _cause(trace, lost)
      lost.update((number, Lost(one, cause)) for number, one in zip(outs, found))
      return SILENT
  return MERGE if can_merge(plan, trace, given) else 'problem'


def _cause(trace: Trace, lost: dict[int, Lost]) -> np.ndarray:
  causes = (lost[number].cause for number in trace.call.inputs if number in lost)
  return next(causes, trace.ins[0].labels if trace.ins else np.zeros(0, int))


def _bias(plan: Plan, trace: Trace) -> Constant:
  """What a layer emits that has lost all of its inputs."""
  layer, size = trace.call.layer, len(trace.outs[0].labels)
  bias = weight(layer, 'bias').astype(np.float64) if layer.use_bias else np.zeros(size)
  bias = bias + plan.added_bias.get(trace.call.name, 0)
  if not acts_on_channels_apart(layer.activation):  # Such as softmax, over whichever axis.
    return Constant(np.full(size, np.nan), np.ones(size, bool))
  return Constant.of(apply(layer.activation, bias))


def joins(trace: Trace) -> str | None:
  """How a layer joins its inputs: 'concat', 'add', 'multiply', 'scaled' or None."""
  layer = trace.call.layer
  kind, symbol = type(layer), getattr(layer, 'symbol', None)
  if kind is keras.layers.Concatenate or symbol == 'concat':
    return 'concat'
  if kind is keras.layers.Add or symbol in ('__operators__.add', 'math.add'):
    return 'add'
  if kind is keras.layers.Multiply or symbol == 'math.multiply':
    return 'multiply'
  return 'scaled' if kind.__name__ == 'CustomScaleLayer' else None


def can_merge(plan: Plan, trace: Trace, given: list[Lost | None]) -> bool:
  """Whether a call can do with the inputs that carry a signal (where `given` is None)."""
  live = [number for number, one in enumerate(given) if one is None]
  gone = [(one, trace.ins[number]) for number, one in enumerate(given) if one is not None]
  how = joins(trace)
  if not live or how is None:
    return False
  if how == 'concat':
    return all(one.constant is None for one, _ in gone)
  if how == 'scaled' and live[0] != 0:
    return False
  size = len(trace.outs[0].labels)
  for one, channels in gone:
    if one.constant is None or len(channels.labels) != size:
      return False
    if np.isnan(one.constant.value[plan.alive[channels.labels]]).any():
      return False
  return len(live) > 1 or len(trace.in_shapes[live[0]]) == len(trace.out_shapes[0])


def lost_values(plan: Plan, trace: Trace, lost: dict[int, Lost]) -> list[np.ndarray]:
  """The constants that a merging call gets in place of its lost inputs, kept channels only."""
  values: list[Any] = []
  for number, channels in zip(trace.call.inputs, trace.ins):
    if number in lost:
      values.append(lost[number].constant.value[plan.alive[channels.labels]])
  return values
