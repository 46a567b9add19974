"""Makes up for the changed statistics of normalisation layers that lost channels."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

from secateurs.utils.errors import UserError
from secateurs.utils.graph.flat.walk import flatten_model
from secateurs.utils.graph.groups.tracing import trace_model
from secateurs.utils.graph.rules.base import Trace
from secateurs.utils.graph.slicing.planning import Plan

_NORMS = (keras.layers.LayerNormalization, keras.layers.GroupNormalization)


def correct_norms(plan: Plan, small: keras.Model, batches: Iterable[Any]) -> list[str]:
  """Fits scale and offset of every norm over channels that lost some, in closed form.

  For each channel that is left, y of the original and x of the sliced model's normalisation are
  compared over all samples and positions: a x + b with the least squared error has
  a = cov(x, y) / var(x) and b = mean(y) - a mean(x). Gamma becomes a gamma, beta a beta + b. Layers
  are corrected in the order of the model, each on what the corrected ones before it give.

  Norms without both scale and offset, and those over other axes than the last, stay as they are.

  Args:
    plan: the plan, of a graph with norms='cut'.
    small: the model that it gave; its gamma and beta are set.
    batches: inputs, read once for each layer: a list of arrays, for instance.

  Returns:
    Names of the corrected layers.

  Raises:
    UserError: if `batches` is empty or ends after one pass.
  """
  if iter(batches) is batches:
    raise UserError('correct_norms reads the batches several times: give a list or a Dataset.')
  done, left = [], {layer.name: layer for layer in small.layers}
  traces = plan.graph.first_traces
  for name in cut_norms(plan):
    trace = traces[name]
    layer = trace.call.layer
    fits = type(layer) in _NORMS and layer.center and layer.scale and name in left
    if not fits or not _on_last_axis(trace) or len(layer.gamma.shape) != 1:
      continue
    _correct(layer, left[name], plan.cut(trace).ins[0], plan.graph.model, small, batches)
    done.append(name)
  return done


def cut_norms(plan: Plan) -> list[str]:
  """Names of the layers whose statistics run over fewer channels than before, in order."""
  return [
    name
    for name, trace in plan.graph.first_traces.items()
    if trace.rule.normalises and trace.rule.masked_call(plan.cut(trace)) is not None
  ]


def narrowed_norms(model: keras.Model, small: keras.Model) -> list[str]:
  """Names of the layers whose statistics run over fewer channels in `small`, in order.

  Args:
    model: a network.
    small: one that was cut from it, in however many steps.
  """
  found = []
  traced, flat = trace_model(model), flatten_model(small)
  calls = flat.calls_by_layer()
  for name, trace in traced.first_traces().items():
    if not trace.rule.normalises or name not in calls or trace.ins[0].axis is None:
      continue
    # A GroupNormalization that lost whole groups is what it was.
    groups = [getattr(call.layer, 'groups', 1) for call in (trace.call, calls[name][0])]
    axis, shape = trace.ins[0].axis, flat.shapes[calls[name][0].inputs[0]]
    over = axis in [one % len(shape) for one in tf.nest.flatten(trace.call.layer.axis)]
    if over and shape[axis] != trace.in_shapes[0][axis] and groups[0] == groups[1]:
      found.append(name)
  return found


def _on_last_axis(trace: Trace) -> bool:
  return trace.ins[0].axis == len(trace.in_shapes[0]) - 1


def _correct(
  old: keras.layers.Layer,
  new: keras.layers.Layer,
  kept: np.ndarray,
  model: keras.Model,
  small: keras.Model,
  batches: Iterable[Any],
) -> None:
  first = keras.Model(model.inputs, old.get_output_at(0))
  second = keras.Model(small.inputs, new.get_output_at(0))
  count, sums = 0, np.zeros((4, int(kept.sum())))
  for batch in batches:
    y = np.asarray(first(batch, training=False), np.float64)[..., kept].reshape(-1, sums.shape[1])
    x = np.asarray(second(batch, training=False), np.float64).reshape(-1, sums.shape[1])
    count += len(x)
    sums += [x.sum(0), y.sum(0), (x * x).sum(0), (x * y).sum(0)]
  if not count:
    raise UserError('correct_norms got no batches, expected at least one.')
  mean_x, mean_y, xx, xy = sums / count
  variance = xx - mean_x**2
  scale = np.where(variance > 1e-12, (xy - mean_x * mean_y) / np.maximum(variance, 1e-12), 1.0)
  new.beta.assign(tf.cast(scale * new.beta.numpy() + mean_y - scale * mean_x, new.beta.dtype))
  new.gamma.assign(tf.cast(scale * new.gamma.numpy(), new.gamma.dtype))
