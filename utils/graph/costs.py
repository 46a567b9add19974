"""MACs and parameters of a sliced model, computed before it is built."""

from __future__ import annotations

import math

from secateurs.utils.graph.planning import Plan
from secateurs.utils.graph.rebuild import weight_names
from secateurs.utils.graph.rules.kernels import Dense

_KERNELS = ('kernel', 'depthwise_kernel', 'pointwise_kernel')


def plan_cost(plan: Plan) -> tuple[int, int]:
  """Returns (MACs for one sample, parameters) of the model that `plan` describes.

  Equal to `count()` of the sliced model: a layer's MACs are proportional to the size of its
  kernels, because the number of positions at which they are applied does not change. (A Dense
  layer along another axis than the channels is the exception.)
  """
  macs = params = 0
  rows = {row.name: row for row in plan.graph.counts().layers}
  left = _layers_left(plan)
  for name, trace in plan.graph.traced.first_traces().items():
    row = rows.get(name)
    if row is None or name not in left:
      continue
    cut = plan.cut(trace)
    axes = trace.rule.axes(cut)
    old_kernel = new_kernel = new_params = 0
    for weight, variable in zip(weight_names(cut.layer), cut.layer.weights):
      shape = list(variable.shape)
      old = math.prod(shape)
      for axis, mask in axes.get(weight, ()):
        shape[axis] = int(mask.sum())
      new = math.prod(shape)
      new_params += new
      if weight in _KERNELS:
        old_kernel, new_kernel = old_kernel + old, new_kernel + new
    if name in plan.added_bias and not cut.layer.use_bias:
      new_params += int(cut.outs[0].sum())
    if trace.consumed is None and isinstance(trace.rule, Dense):
      # The channels are positions here: fewer of them, the kernel whole.
      old_kernel, new_kernel = len(cut.outs[0]), int(cut.outs[0].sum())
    macs += row.macs * new_kernel // old_kernel if old_kernel else row.macs
    params += new_params
  return macs, params


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
