import dataclasses
import itertools

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from networks import randomize
from strided_networks import NETS, residual_net, samples

from secateurs.learners.channels.allocation.ratios import nb_left
from secateurs.learners.channels.blocks.discrimination import (
  LayerObjective,
  find_blocks,
)
from secateurs.learners.channels.blocks.greedy import Greedy, UnitPruning
from secateurs.learners.channels.blocks.greedy_scores import Gradients
from secateurs.learners.channels.cuts.units import Unit, find_units
from secateurs.learners.run.layer_choice import LayerRule
from secateurs.nets.resnet import cifar_resnet
from secateurs.utils.graph import ChannelGraph
from secateurs.utils.graph.counts.counting import count, macs_of, part_of
from secateurs.utils.graph.flat.cuts import first_calls
from secateurs.utils.graph.flat.walk import flatten_model
from secateurs.utils.training import tally
from secateurs.utils.training.layerwise.frontier import Frontier
from secateurs.utils.training.layerwise.maps import MapStore
from secateurs.utils.training.tasks.classification import Classification
from secateurs.utils.training.tasks.heads import make_head

L = keras.layers


# Blocks and branches.


def test_blocks_of_resnet20():
  model = cifar_resnet(20)
  units = find_units(ChannelGraph(model), 'keep').units
  blocks = find_blocks(flatten_model(model), 3, units)
  assert [[unit.name[5:] for unit in block.units] for block in blocks] == [
    ['1_block1_conv2', '1_block2_conv2'],
    ['1_block3_conv2', '2_block1_conv2'],
    ['2_block2_conv2', '2_block3_conv2', '3_block1_conv2'],
    ['3_block2_conv2', '3_block3_conv2'],
  ]
  assert blocks[-1].tensor is None
  assert all(a.end == b.begin for a, b in itertools.pairwise(blocks))


# The moving cut.


# Scores.


def problem(build, trunk='couple', unit_number=1, method=None):
  """A unit of a network that has drifted from its original, and the loss by way of whole models."""
  original = randomize(build())
  model = randomize(build())
  model.set_weights(
    [a + 0.1 * (b - a) for a, b in zip(original.get_weights(), randomize(build(), 1).get_weights())]
  )
  images, labels = samples()
  flat = flatten_model(model)
  unit = find_units(ChannelGraph(model), trunk).units[unit_number]
  block = next(b for b in find_blocks(flat, 1, [unit]) if b.units)
  inside = block.tensor is not None and all(first_calls(flat)[r] < block.end for r in unit.readers)
  end = block.tensor if inside else flat.outputs[0]
  branch = randomize(make_head(flat.shapes[end], (10,), 'branch', 0)) if inside else None
  outputs = [flat.calls_by_layer()[name][0].outputs[0] for name in unit.readers]
  before, now = Frontier(flatten_model(original), images), Frontier(flat, images)
  for frontier in (before, now):
    frontier.advance(first_calls(flat)[unit.name])
  objective = LayerObjective(
    flat,
    now.position,
    end,
    branch,
    now.tensors,
    before.peek(outputs),
    labels,
    Classification(10),
  )
  method = method or Greedy(nb_batches_score=1, batch_size=len(labels))
  pruning = UnitPruning(
    unit, flat.layers(), objective, len(labels), method, dropped={}, phase='test'
  )
  readers = [model.get_layer(name) for name in unit.readers]
  wanted = keras.Model(original.input, [original.get_layer(n).output for n in unit.readers])(images)
  tap = next(c.layer.output for c in flat.calls if end in c.outputs)
  found = keras.Model(model.input, [*(layer.output for layer in readers), tap])

  def loss():
    *ys, z = found(images, training=False)
    total = sum(
      0.5 * float(np.mean(np.square(y.numpy() - t.numpy()), dtype=np.float64))
      for y, t in zip(ys, tf.nest.flatten(wanted))
    )
    z = (z if branch is None else branch(z, training=False)).numpy().astype(np.float64)
    z -= z.max(-1, keepdims=True)
    return total + np.mean(np.log(np.exp(z).sum(-1)) - z[np.arange(len(labels)), labels])

  return unit, pruning, readers, loss


@pytest.mark.parametrize(
  ('name', 'trunk', 'number', 'greedy'),
  [
    ('residual_net', 'keep', 0, 'remove'),
    ('residual_net', 'keep', 0, 'add'),
    ('residual_net', 'couple', 0, 'remove'),
    ('bottleneck_net', 'gather', 2, 'remove'),
    ('depthwise_net', 'keep', 0, 'remove'),
    ('plain_net', 'keep', 2, 'remove'),
  ],
)
def test_scores_are_norms_of_finite_differences(name, trunk, number, greedy):
  """By the rows of a channel that is off: with all others on (remove), or off, too (add)."""
  method = Greedy(greedy=greedy, nb_batches_score=32, batch_size=len(samples()[1]))
  unit, pruning, readers, loss = problem(NETS[name], trunk, number, method=method)
  assert unit.size <= method.nb_batches_score
  scores = pruning.scores()
  rng = np.random.default_rng(0)
  for channel in rng.choice(unit.size, 1 if len(readers) > 1 else 2, replace=False):
    total, whole = 0.0, [layer.kernel.numpy() for layer in readers]
    for layer in readers:  # All of them, before any is looked at.
      mine = unit.elements[layer.name] == channel
      layer.kernel.assign(np.where(mine[:, None], 0, layer.kernel.numpy()))
    for layer in readers:
      kernel = layer.kernel.numpy()
      places = np.argwhere(np.ones(kernel.shape, bool))
      places = places[unit.elements[layer.name][places[:, -2]] == channel]
      square = 0.0
      for place in map(tuple, places):
        values = []
        for step in (1e-2, -1e-2):
          changed = kernel.copy()
          changed[place] += step
          layer.kernel.assign(changed)
          values.append(loss())
        square += ((values[0] - values[1]) / 2e-2) ** 2
      layer.kernel.assign(kernel)
      total += np.sqrt(square)
    for layer, kernel in zip(readers, whole):
      layer.kernel.assign(kernel)
    assert scores[channel] == pytest.approx(total, rel=0.05)


def test_scores_where_channels_are_on_are_norms_of_finite_differences():
  """The document's rule: nothing is switched off for the gradient but what went before."""
  method = Greedy(score='on', nb_batches_score=2, batch_size=len(samples()[1]))
  unit, pruning, (layer,), loss = problem(NETS['residual_net'], 'keep', 0, method=method)
  pruning.mask[1] = False
  pruning._apply()
  scores, kernel = pruning.scores(), layer.kernel.numpy()
  assert scores[1] == 0
  for channel in (0, 2):
    square = 0.0
    for place in map(tuple, np.argwhere(np.ones(kernel.shape, bool))):
      if unit.elements[layer.name][place[-2]] != channel:
        continue
      values = []
      for step in (1e-2, -1e-2):
        changed = kernel.copy()
        changed[place] += step
        layer.kernel.assign(changed)
        values.append(loss())
      square += ((values[0] - values[1]) / 2e-2) ** 2
    layer.kernel.assign(kernel)
    assert scores[channel] == pytest.approx(np.sqrt(square), rel=0.05)


def test_norms_of_several_batches_are_averaged():
  rng = np.random.default_rng(0)
  x, y = (tf.constant(rng.normal(size=(12, n)), tf.float32) for n in (4, 3))
  kernel = tf.Variable(rng.normal(size=(4, 3)).astype(np.float32))

  def loss(batch):
    error = tf.gather(x, batch) @ kernel - tf.gather(y, batch)
    return tf.reduce_mean(error**2), {}

  batches = np.arange(12, dtype=np.int32).reshape(3, 4)
  expected = []
  for batch in batches:
    error = (x.numpy() @ kernel.numpy() - y.numpy())[batch]
    gradient = 2 / error.size * x.numpy()[batch].T @ error
    expected.append(np.sqrt((gradient**2).sum(axis=1)))
  on, judged = np.zeros((3, 4), np.float32), np.ones((3, 4), np.float32)
  found = Gradients(loss, [kernel], [np.arange(4)], 4).norms(batches, on, judged)
  np.testing.assert_allclose(found, np.mean(expected, axis=0), rtol=1e-5)


def test_channels_that_are_on_are_dealt_to_the_batches_and_stay_as_they_are():
  _, pruning, readers, _ = problem(residual_net, 'keep', 0, method=Greedy(nb_batches_score=3))
  pruning.mask[:3] = False
  pruning._apply()
  before = readers[0].kernel.numpy()
  assert not before[:, :, :3].any()

  scores = pruning.scores()

  np.testing.assert_array_equal(scores > 0, pruning.mask)
  np.testing.assert_array_equal(readers[0].kernel.numpy(), before)


# The greedy choice.


def toy(drift, greedy, nb_iters=0, part=1.0):
  """Six input channels that do not overlap, of different energies; the branch sees nothing."""
  x = inputs = L.Input((6, 6, 6))
  y = L.Conv2D(4, 1, use_bias=False, name='layer')(L.ReLU(name='maps')(x))
  model = keras.Model(inputs, L.Dense(10, name='logits')(L.GlobalAveragePooling2D()(y)))
  model.get_layer('logits').kernel.assign(tf.zeros((4, 10)))
  rng = np.random.default_rng(1)
  kernel = rng.normal(size=(1, 1, 6, 4))
  kernel /= np.linalg.norm(kernel, axis=-1, keepdims=True)
  model.get_layer('layer').kernel.assign(kernel * drift)
  images = np.zeros((32, 6, 6, 6), np.float32)
  for channel in range(6):
    images[:, channel, :, channel] = rng.uniform(0.5, 1.5, (32, 6)) * (1 + channel * 2 % 7)
  flat = flatten_model(model)
  unit = type('Unit', (), {})()
  unit.name, unit.size, unit.readers = 'layer', 6, ('layer',)
  unit.elements = {'layer': np.arange(6)}
  target = (images @ kernel[0, 0]).astype(np.float32)
  (number,) = [c.outputs[0] for c in flat.calls if c.name == 'layer']
  objective = LayerObjective(
    flat,
    0,
    flat.outputs[0],
    None,
    {flat.inputs[0][0]: MapStore().holding(images)},
    {number: MapStore().holding(target)},
    np.zeros(32, int),
    Classification(10),
  )
  method = Greedy(greedy=greedy, nb_iters=nb_iters, nb_batches_score=1, batch_size=32)
  pruning = UnitPruning(
    unit, flat.layers(), objective, 32, method, dropped={}, phase='toy', part=part
  )
  return pruning, images, kernel[0, 0], target


@pytest.mark.parametrize(('greedy', 'drift'), [('add', 1.0), ('remove', 0.8)])
@pytest.mark.parametrize('nb_keep', [1, 2, 3, 5])
def test_greedy_is_brute_force_where_channels_do_not_overlap(greedy, drift, nb_keep):
  pruning, images, kernel, target = toy(drift, greedy)
  pruning.run(nb_keep)
  errors = {}
  for kept in itertools.combinations(range(6), nb_keep):
    mask = np.isin(np.arange(6), kept)
    errors[kept] = np.square(images @ (drift * kernel * mask[:, None]) - target).sum()
  assert tuple(np.flatnonzero(pruning.mask)) == min(errors, key=errors.get)


def test_images_count_as_the_part_of_the_network_that_they_run_through():
  pruning, *_ = toy(1.0, 'remove', nb_iters=3, part=0.25)
  before = tally.counted()
  pruning.run(4)  # Two steps: each scores a batch of 32 and trains on three.
  after = tally.counted()
  assert (after.trained - before.trained, after.scored - before.scored) == (48, 16)


def test_a_part_of_a_block_costs_its_multiply_adds():
  model = residual_net()
  flat = flatten_model(model)
  layers = {row.name: row.macs for row in count(model).layers}
  position = len(flat.calls) // 2
  objective = LayerObjective(flat, position, None, None, {}, {}, np.zeros(1, int), None)
  after = sum(layers.get(call.name, 0) for call in flat.calls[position:])
  assert 0 < after < sum(layers.values())
  assert objective.part == pytest.approx(after / sum(layers.values()))


def test_a_part_of_a_network_of_open_size_counts_whole():
  inputs = keras.Input((None, None, 3))
  x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(4, 3)(inputs))
  flat = flatten_model(keras.Model(inputs, keras.layers.Dense(2)(x)))
  assert macs_of(flat, flat.calls) == 0
  assert macs_of(flat, flat.calls[-1:]) == 8
  assert part_of(flat, flat.calls[-1:]) == 1


@pytest.mark.parametrize(
  ('epsilon', 'low', 'high'), [(0.05, 1, 6), (0.3, 1, 6), (0.3, 4, 6), (0.0, 1, 3), (2.0, 2, 6)]
)
def test_channels_come_until_the_loss_changes_little(epsilon, low, high):
  """By brute force: the loss of the best 0, 1, 2, ... channels, and the first small change."""
  pruning, images, kernel, target = toy(1.0, 'add')
  pruning._method = dataclasses.replace(pruning._method, epsilon=epsilon)
  energies = np.square(images[..., None] * kernel).sum(axis=(0, 1, 2, 4))
  order = np.argsort(-energies)
  uniform = np.log(10)  # The loss of a branch that sees nothing.
  losses = [
    0.5 * np.square(images @ (kernel * np.isin(np.arange(6), order[:n])[:, None]) - target).mean()
    + uniform
    for n in range(7)
  ]
  expected = next(
    n
    for n in range(low, high + 1)
    if n == high or (n > 0 and abs(losses[n - 1] - losses[n]) <= epsilon * losses[0])
  )
  pruning.grow(low, high)
  assert set(np.flatnonzero(pruning.mask)) == set(order[:expected])


def test_bounds_of_the_adaptive_stop():
  unit = Unit('layer', 0, 16, ('layer',), {})
  assert Greedy(epsilon=0.1).bounds(unit) == (2, 16)
  assert Greedy(epsilon=0.1, floor=0.0, ceiling=0.5).bounds(unit) == (1, 8)
  rule = dataclasses.replace(unit, rule=LayerRule(floor=0.5))
  assert Greedy(epsilon=0.1, ceiling=0.25).bounds(rule) == (8, 8)


@pytest.mark.parametrize('greedy', ['remove', 'add'])
def test_training_between_steps_lowers_the_loss_and_keeps_the_mask(greedy):
  options = {'greedy': greedy, 'per_step': 3, 'batch_size': 24, 'lrn_rate': 1e-2}
  losses = {}
  for nb_iters in (0, 40):
    _, pruning, readers, loss = problem(
      residual_net, 'keep', 1, Greedy(**options, nb_iters=nb_iters, nb_batches_score=1)
    )
    pruning.run(4)
    losses[nb_iters] = loss()
    assert pruning.mask.sum() == 4
    assert not readers[0].kernel.numpy()[:, :, ~pruning.mask].any()
    assert readers[0].kernel.numpy()[:, :, pruning.mask].all()
  assert losses[40] < losses[0]
  assert set(pruning.means) == {'loss', 'loss_reconstruction', 'loss_discrimination'}


@pytest.mark.parametrize(
  ('size', 'ratio', 'left'),
  [(16, 0.5, 8), (16, 0.75, 4), (15, 0.5, 8), (10, 0.7, 3), (16, 0, 16)]
  + [(16, 1, 1), (100, 0.29, 71)],
)
def test_channels_left(size, ratio, left):
  assert nb_left(size, ratio) == left


def test_steps():
  assert Greedy(per_step=4).steps(16, 8) == 2
  assert Greedy(per_step=3).steps(16, 8) == 3
  assert Greedy(per_step=3, greedy='add').steps(16, 4) == 2
  assert Greedy().steps(16, 16) == 0
