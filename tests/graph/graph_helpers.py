"""Shared by the graph tests: random weights that matter, random keeps, the masked comparison."""

import numpy as np
import tensorflow as tf
import tf_keras as keras

from secateurs.utils.graph import ChannelGraph, apply_plan, count, masked, plan_cost, plan_slice

TOLERANCE = 1e-4


def randomize(model, seed=0):
  """Gives every weight a value that shows in the output: no zeros, no ones, positive variances."""
  rng = np.random.default_rng(seed)
  for weight in model.weights:
    name = weight.name.split('/')[-1]
    shape = tuple(weight.shape)
    if 'variance' in name or 'gamma' in name:
      value = rng.uniform(0.5, 1.5, shape)
    elif 'kernel' in name:
      fan = max(1, int(np.prod(shape[:-1])))
      value = rng.normal(size=shape) * (2.0 / fan) ** 0.5
    else:
      value = rng.normal(size=shape) * 0.3
    weight.assign(value)
  return model


def random_inputs(model, seed=1, batch=2):
  rng = np.random.default_rng(seed)
  return [_values(rng, (batch, *t.shape[1:]), t.dtype) for t in model.inputs]


def _values(rng, shape, dtype):
  if dtype.is_integer:  # numbers of tokens
    return rng.integers(0, 5, shape).astype(dtype.as_numpy_dtype)
  return rng.normal(size=shape).astype(np.float32)


def outputs(model, inputs):
  result = model(inputs if len(inputs) > 1 else inputs[0], training=False)
  return [np.asarray(one, np.float64) for one in tf.nest.flatten(result)]


def random_keep(graph, ratio, seed=0):
  rng = np.random.default_rng(seed)
  keep = {}
  for group in graph.groups:
    if not group.prunable:
      continue
    order = rng.permutation(np.flatnonzero(group.free))
    mask = np.ones(group.size, bool)
    mask[order[: min(round(ratio * group.size), group.size - 1)]] = False
    keep[group.index] = mask
  return keep


def difference(left, right):
  """Largest difference relative to the range of the first."""
  worst = 0.0
  for a, b in zip(left, right, strict=True):
    assert a.shape == b.shape
    assert np.isfinite(a).all()
    worst = max(worst, np.abs(a - b).max() / (np.ptp(a) or 1.0))
  return worst


def check_slice(model, keep, graph=None, **options):
  """Slices, compares with the masked model, checks counts and that the original is untouched."""
  before = [w.copy() for w in model.get_weights()]
  graph = graph or ChannelGraph(model)
  plan = plan_slice(graph, keep, **options)
  small = apply_plan(plan)
  inputs = random_inputs(model)
  with masked(plan):
    expected = outputs(model, inputs)
  assert difference(expected, outputs(small, inputs)) <= TOLERANCE
  for old, new in zip(before, model.get_weights(), strict=True):
    np.testing.assert_array_equal(old, new)
  counted = count(small)
  assert plan_cost(plan) == (counted.macs, counted.params)
  assert not set(map(id, model.weights)) & set(map(id, small.weights))
  return small


def conv(filters, name=None, **kwargs):
  kwargs.setdefault('padding', 'same')
  kwargs.setdefault('kernel_size', 3)
  return keras.layers.Conv2D(filters, name=name, **kwargs)
