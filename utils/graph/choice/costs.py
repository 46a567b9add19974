"""MACs and parameters of a sliced model, computed before it is built."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from secateurs.utils.graph.flat.rebuild import KERNELS
from secateurs.utils.graph.flat.state import becomes_constants
from secateurs.utils.graph.rules.attention import HeadAttention
from secateurs.utils.graph.rules.base import Cut, Sides
from secateurs.utils.graph.rules.channels import Channels
from secateurs.utils.graph.rules.kernels import Dense
from secateurs.utils.graph.slicing.planning import Plan

_COSTLY = (*KERNELS, 'recurrent_kernel')


@dataclasses.dataclass(frozen=True)
class LayerCost:
  """What slicing does to one layer.

  Attributes:
    name: the layer's name.
    macs: multiply-adds of the whole layer.
    whole: shapes of its kernels, or of other products that it makes.
    kept: shapes of those that are sliced.
    params: number of weights that stay.
  """

  name: str
  macs: int
  whole: list[tuple[int, ...]]
  kept: list[tuple[int, ...]]
  params: int

  def macs_at(self, kept: Sequence[Sequence[int]]) -> int:
    """Multiply-adds with kernels of these shapes: as many positions, smaller kernels."""
    old = sum(math.prod(shape) for shape in self.whole)
    return self.macs * sum(math.prod(shape) for shape in kept) // old if old else self.macs


def plan_cost(plan: Plan) -> tuple[int, int]:
  """Returns (MACs for one sample, parameters) of the model that `plan` describes.

  Equal to `count()` of the sliced model: a layer's MACs are proportional to the size of its
  kernels, because the number of positions at which they are applied does not change. (A Dense
  layer along another axis than the channels is the exception.) Products of tensors have no kernel:
  their sides are counted.
  """
  costs = layer_costs(plan)
  return sum(cost.macs_at(cost.kept) for cost in costs), sum(cost.params for cost in costs)


def layer_costs(plan: Plan) -> list[LayerCost]:
  """The layers with weights or products that are left, in topological order."""
  costs = []
  rows = {row.name: row for row in plan.graph.counts().layers}
  left = _layers_left(plan)
  for name, trace in plan.graph.first_traces.items():
    row = rows.get(name)
    if row is None or name not in left:
      continue
    cut = plan.cut(trace)
    axes = trace.rule.axes(cut)
    whole, kept, params = [], [], 0
    weights = [] if becomes_constants(cut.layer) else plan.graph.weight_shapes(name)
    for weight, old in weights:
      shape = list(old)
      for axis, mask in axes.get(weight, ()):
        shape[axis] = int(mask.sum())
      params += math.prod(shape)
      if weight.split('#')[0] in _COSTLY:
        whole.append(old)
        kept.append(tuple(shape))
    if name in plan.added_bias and not cut.layer.use_bias:
      params += int(cut.outs[0].sum())
    if trace.consumed is None and isinstance(trace.rule, Dense):
      # The channels are positions here: fewer of them, the kernel whole.
      whole, kept = [(len(cut.outs[0]),)], [(int(cut.outs[0].sum()),)]
    if isinstance(trace.rule, HeadAttention):
      # Queries and keys may differ in number, and their products have no kernel.
      whole, kept = trace.rule.sides(cut)
    elif not whole:
      whole, kept = _products(cut)
    costs.append(LayerCost(name, row.macs, whole, kept, params))
  return costs


def _products(cut: Cut) -> tuple[list[Sides], list[Sides]]:
  """The sides of the products of tensors that a call makes, whole and with what stays."""
  trace = cut.trace
  whole = trace.rule.products(trace.call, trace.in_shapes, trace.out_shapes)
  if not whole or all(mask.all() for mask in (*cut.ins, *cut.outs)):
    return whole, whole
  args, kwargs = trace.rule.rewrite(cut)
  call = dataclasses.replace(trace.call, args=args, kwargs=kwargs)
  ins = _left(trace.ins, cut.ins, trace.in_shapes)
  outs = _left(trace.outs, cut.outs, trace.out_shapes)
  return whole, trace.rule.products(call, ins, outs)


def _left(
  channels: Sequence[Channels], masks: Sequence[np.ndarray], shapes: Sequence[tuple]
) -> list[tuple]:
  """The shapes of tensors of which some channels stay."""
  found = []
  for one, mask, shape in zip(channels, masks, shapes):
    sizes = list(shape)
    if one.axis is not None:
      sizes[one.axis] = int(mask.sum())
    found.append(tuple(sizes))
  return found


class MacsForm:
  """MACs in closed form, where channels go in several units and only their numbers matter.

  Every side of every kernel is linear in the units' numbers of channels, so that planning the whole
  network and one channel less of each unit gives all of them.
  """

  def __init__(self, whole: Plan, less: Sequence[Plan]) -> None:
    """`less[u]`: the plan in which one channel of unit u is gone; every layer stays in all of them."""
    self._costs = layer_costs(whole)
    self._sides = _sides(self._costs)
    self._slopes = np.array([self._sides - _sides(layer_costs(plan)) for plan in less])

  def __call__(self, gone: Sequence[int]) -> int:
    """MACs for one sample when `gone[u]` channels of unit u have gone, and no unit is empty."""
    flat = (self._sides - np.asarray(gone, int) @ self._slopes).tolist()
    total = start = 0
    for cost in self._costs:
      shapes = []
      for shape in cost.whole:
        shapes.append(flat[start : start + len(shape)])
        start += len(shape)
      total += cost.macs_at(shapes)
    return total


def _sides(costs: Sequence[LayerCost]) -> np.ndarray:
  """All sides of all kernels, one after the other."""
  return np.array([side for cost in costs for shape in cost.kept for side in shape], int)


def _layers_left(plan: Plan) -> set[str]:
  """Names of the layers that still pass a signal from an input to an output.

  A layer goes when all of its filters or all of its input rows have gone, when only such layers
  feed it, or when it feeds only such layers.
  """
  silent: set[int] = set()
  calls = []
  for trace in plan.graph.traced.traces:
    cut = plan.cut(trace)
    empty = len(cut.outs) == 1 and len(cut.outs[0]) > 0 and not cut.outs[0].any()
    starved = trace.consumed is not None and not cut.ins[0].any()
    if empty or starved or (trace.call.inputs and silent.issuperset(trace.call.inputs)):
      silent.update(trace.call.outputs)
    else:
      calls.append(trace.call)
  needed = set(plan.graph.traced.flat.outputs)
  left = set()
  for call in reversed(calls):
    if needed.intersection(call.outputs):
      needed.update(set(call.inputs) - silent)
      left.add(call.name)
  return left
