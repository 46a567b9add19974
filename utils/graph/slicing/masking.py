"""The masked counterpart of a sliced model: consumers' kernel slices set to zero."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np

from secateurs.utils.graph.flat.rebuild import weight_names
from secateurs.utils.graph.slicing.planning import Plan


@contextlib.contextmanager
def masked(plan: Plan) -> Iterator[None]:
  """Within the block the plan's model is masked; afterwards it has its own weights again.

  The kernel slices that belong to dropped channels are zero in every layer that consumes them;
  nothing else changes, so the outputs are those that slicing promises to keep.
  """
  saved = []
  try:
    for trace in plan.graph.traced.first_traces().values():
      if trace.consumed is None:
        continue
      kept = plan.cut(trace).ins[0]
      if kept.all():
        continue
      variables = dict(zip(weight_names(trace.call.layer), trace.call.layer.weights))
      for name, (axis, rows) in trace.rule.rows(trace.call.layer, kept).items():
        value = variables[name].numpy()
        saved.append((variables[name], value))
        shape = [1] * value.ndim
        shape[axis] = len(rows)
        variables[name].assign(np.where(rows.reshape(shape), value, 0))
    yield
  finally:
    for variable, value in saved:
      variable.assign(value)
