"""Channel exploration: leverage and residuals against the SVD, draws, and channels that come back."""

from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from networks import digits_net, randomize, residual_net

from secateurs.learners.channels.allocation.ranked import Ranked
from secateurs.learners.channels.cuts.filter_units import filter_units
from secateurs.learners.pressure import exploring, regrowth
from secateurs.learners.pressure.submodel import Columns, SubModel
from secateurs.learners.run.training.trainer import Trainer
from secateurs.learners.run.zeros import given_masks
from secateurs.utils.graph import ChannelGraph
from secateurs.utils.training.engine.hooks import Hooks
from secateurs.utils.training.models.weights import named_weights

L = keras.layers


@pytest.fixture
def matrix():
  return np.random.default_rng(0).normal(size=(20, 9)) * np.arange(1, 10)


def test_leverage_is_that_of_the_right_singular_vectors(matrix):
  _, _, rows = np.linalg.svd(matrix, full_matrices=False)
  for rank in (1, 4, 9):
    expected = (rows[:rank] ** 2).sum(axis=0)
    found = regrowth.leverage_scores(matrix.T @ matrix, rank)
    np.testing.assert_allclose(found, expected, atol=1e-10)
    assert found.sum() == pytest.approx(rank)


def test_residuals_are_distances_from_the_span(matrix):
  kept = np.isin(np.arange(9), [1, 4, 8])
  solved, *_ = np.linalg.lstsq(matrix[:, kept], matrix, rcond=None)
  expected = np.linalg.norm(matrix - matrix[:, kept] @ solved, axis=0)
  found = regrowth.residuals(matrix.T @ matrix, kept)
  np.testing.assert_allclose(found, np.where(kept, 0, expected), rtol=1e-6, atol=1e-9)
  nothing = regrowth.residuals(matrix.T @ matrix, np.zeros(9, bool))
  np.testing.assert_allclose(nothing, np.linalg.norm(matrix, axis=0))


def test_a_column_that_the_others_express_has_no_residual(matrix):
  matrix[:, 0] = matrix[:, 1] - 2 * matrix[:, 2]
  gram = matrix.T @ matrix
  assert regrowth.residuals(gram, np.arange(9) > 0)[0] < 1e-5
  # Of a column and its copy the one that is kept leaves nothing of the other.
  matrix[:, 3] = matrix[:, 4]
  found = regrowth.residuals(matrix.T @ matrix, np.isin(np.arange(9), [3, 4]))
  assert np.isfinite(found).all()


def test_what_regrows_falls_along_a_cosine():
  fractions = [regrowth.regrown_fraction(0.3, t / 4) for t in range(5)]
  np.testing.assert_allclose(fractions, [0.3, 0.256066, 0.15, 0.043934, 0.0], atol=1e-6)
  assert regrowth.event_steps(100, 20, 0.72) == [20, 40, 60, 72]
  assert regrowth.event_steps(100, 500, 0.5) == [50]
  assert regrowth.event_steps(1, 1, 0.1) == [1]


def test_draws_follow_the_softmax():
  rng = np.random.default_rng(0)
  weights = np.log(np.array([1.0, 2.0, 7.0]))
  first = np.array([regrowth.sampled(weights, 1, rng)[0] for _ in range(4000)])
  np.testing.assert_allclose(np.bincount(first) / 4000, [0.1, 0.2, 0.7], atol=0.02)
  able = np.array([-np.inf, 0.0, 5.0, -np.inf])
  assert regrowth.sampled(able, 9, rng).tolist() == [1, 2]
  assert regrowth.sampled(able, 0, rng).size == 0


def test_columns_that_stay(matrix):
  sums, present = np.abs(matrix).sum(axis=0), np.arange(9) < 8
  made = Columns(matrix.T @ matrix, sums, 20)
  stays = np.arange(9) == 0
  found = exploring.columns(made, present, stays, 3)
  assert found.sum() == 3
  assert found[0]
  assert not found[8]
  assert exploring.columns(made, present, stays, 99).sum() == 8


def test_with_fewer_rows_than_columns_the_largest_l1_norms_stay():
  matrix = np.array([[2.0, 3.0, 0.0], [2.0, 0.0, 1.0]])  # L1: 4, 3, 1; L2: 2.8, 3, 1.
  made = Columns(matrix.T @ matrix, np.abs(matrix).sum(axis=0), 2)
  found = exploring.columns(made, np.ones(3, bool), np.zeros(3, bool), 1)
  assert found.tolist() == [True, False, False]


@pytest.fixture
def sub():
  model = randomize(residual_net())
  graph = ChannelGraph(model)
  sub = SubModel(model, graph, filter_units(graph, 'couple').units)
  sub.renew()
  return model, sub


def full(sub):
  return {unit.name: np.ones(unit.size, bool) for unit in sub.units}


def test_the_matrix_of_a_trunk_has_the_rows_of_all_its_layers(sub):
  model, sub = sub
  trunk = sub.units[0]
  names = [trunk.name, 'b0_conv2', 'b1_conv2', 'b2_conv2']
  rows = [model.get_layer(n).kernel.numpy().reshape(-1, 8) for n in names]
  made = sub.columns(trunk)
  expected = np.concatenate(rows).astype(float)
  np.testing.assert_allclose(made.gram, expected.T @ expected, rtol=1e-6)
  assert made.fan_in == len(expected)
  norms = np.abs(expected).sum(axis=0)
  np.testing.assert_allclose(made.sums, norms)
  np.testing.assert_allclose(sub.scores('l1')[trunk.name], norms / norms.mean())


def test_channels_come_back_with_their_last_weights_and_statistics(sub):
  model, sub = sub
  unit = 'b1_conv1'
  first, second = model.get_layer('b1_conv1'), model.get_layer('b1_conv2')
  norm = model.layers[model.layers.index(first) + 1]
  before = [w.numpy() for w in (first.kernel, norm.gamma, norm.moving_mean, second.kernel)]
  everything, fewer = full(sub), full(sub)
  fewer[unit] = np.arange(12) >= 5
  sub.change(everything, fewer)
  assert not second.kernel.numpy()[:, :, :5].any()
  for weight in (first.kernel, norm.gamma, norm.moving_mean, second.kernel):  # Training goes on.
    weight.assign_add(0 * weight + 0.25)
  sub.masks.apply()
  back = full(sub)
  back[unit] = np.arange(12) >= 3
  sub.change(fewer, back)
  for weight, old, axis in (
    (first.kernel, before[0], 3),
    (norm.gamma, before[1], 0),
    (norm.moving_mean, before[2], 0),
    (second.kernel, before[3], 2),
  ):
    now = np.moveaxis(weight.numpy(), axis, 0)
    was = np.moveaxis(old, axis, 0)
    np.testing.assert_allclose(now[3:5], was[3:5], rtol=1e-6)
    np.testing.assert_allclose(now[5:], was[5:] + 0.25, rtol=1e-5)
  assert not second.kernel.numpy()[:, :, :3].any()


def test_channels_are_judged_by_the_weights_with_which_they_would_come_back(sub):
  model, sub = sub
  unit = next(unit for unit in sub.units if unit.name == 'b1_conv1')
  kernel, old = model.get_layer(unit.name).kernel, model.get_layer(unit.name).kernel.numpy()
  fewer = full(sub)
  fewer[unit.name] = np.arange(12) >= 5
  fewer[sub.units[0].name] = np.arange(8) != 2
  sub.change(full(sub), fewer)
  kernel.assign(kernel * 0.5)  # Gone channels drift, as by weight decay.
  expected = np.concatenate([old[..., :5], old[..., 5:] * 0.5], axis=-1)
  expected[:, :, 2] = 0  # That channel of the trunk is not read.
  expected = expected.reshape(-1, 12).astype(float)
  made = sub.columns(unit, fewer)
  np.testing.assert_allclose(made.gram, expected.T @ expected, rtol=1e-6, atol=1e-9)
  np.testing.assert_allclose(made.sums, np.abs(expected).sum(axis=0), rtol=1e-6)
  scores = sub.scores('l1', fewer)[unit.name]
  np.testing.assert_allclose(scores, made.sums / made.sums.mean())


def test_channels_that_a_grouped_convolution_reads_come_back_whole():
  x = inputs = L.Input((8, 8, 3))
  x = L.Conv2D(16, 3, use_bias=False, name='conv')(x)
  x = L.ReLU()(L.GroupNormalization(16)(x))
  x = L.Conv2D(12, 3, groups=2, activation='relu')(x)
  model = randomize(keras.Model(inputs, L.Dense(4)(L.GlobalAveragePooling2D()(x))))
  graph = ChannelGraph(model)
  sub = SubModel(model, graph, filter_units(graph, 'keep').units)
  sub.renew()
  everything, fewer = full(sub), full(sub)
  fewer['conv'] = np.arange(8) >= 2
  x = np.random.default_rng(1).normal(size=(4, 8, 8, 3)).astype(np.float32)
  expected = model(x).numpy()
  sub.change(everything, fewer)
  assert np.abs(model(x).numpy() - expected).max() > 0.01
  sub.change(fewer, everything)
  np.testing.assert_array_equal(model(x), expected)


def test_zeros_that_are_left_compute_the_same(sub):
  model, sub = sub
  fewer = {name: np.arange(len(mask)) % 3 > 0 for name, mask in full(sub).items()}
  sub.change(full(sub), fewer)
  x = np.random.default_rng(1).normal(size=(4, 8, 8, 3)).astype(np.float32)
  expected = model(x).numpy()
  sub.zero(fewer)
  np.testing.assert_allclose(model(x), expected, atol=1e-5)
  assert not model.get_layer('b0_conv1').kernel.numpy()[..., ::3].any()


def test_zeros_that_the_network_came_with_stay_and_those_of_pruned_channels_do_not():
  model = randomize(residual_net())
  reader = model.get_layer('b1_conv2').kernel
  given = np.random.default_rng(0).random(reader.shape) > 0.5
  reader.assign(reader * given)
  values = {name: weight.numpy() for name, weight in named_weights(model).items()}
  settings = SimpleNamespace(
    training=SimpleNamespace(keep_zeros=True),
    run=SimpleNamespace(warm_start_path=None),
    helper=SimpleNamespace(net='net', given_weights=lambda: values),
  )
  session = SimpleNamespace(state=SimpleNamespace(input_zeros=0.1))
  graph = ChannelGraph(model)
  sub = SubModel(model, graph, filter_units(graph, 'keep').units)
  fewer = full(sub)
  fewer['b1_conv1'] = np.arange(12) >= 5
  sub.change(full(sub), fewer)  # A run may begin, or be resumed, with pruned channels.
  masks = [sub.masks, given_masks(settings, model)]
  trainer = Trainer(settings, None, session, None, None, None)
  masks += trainer._zeros(model, Hooks(constraints=masks))
  sub.change(fewer, full(sub))
  reader.assign_add(tf.ones_like(reader))  # A step of an optimizer.
  for one in masks:
    one.apply()
  np.testing.assert_array_equal(reader.numpy() != 0, given)


def test_a_change_prunes_to_the_counts_and_regrows_a_fraction():
  model = randomize(digits_net())
  graph = ChannelGraph(model)
  sub = SubModel(model, graph, filter_units(graph, 'keep').units)
  stays = {unit.name: np.zeros(12, bool) for unit in sub.units}
  ranked = Ranked(graph, sub.units, sub.scores('bn_gamma'), stays)
  counts = {unit.name: 4 for unit in sub.units}
  present = {unit.name: np.arange(12) < 10 for unit in sub.units}
  found = exploring.changed(sub, ranked, present, counts, 0.25, np.random.default_rng(0))
  assert [int(mask.sum()) for mask in found.values()] == [7, 7, 7]
  again = exploring.changed(sub, ranked, present, counts, 0.25, np.random.default_rng(0))
  assert all((found[name] == again[name]).all() for name in found)
  last = exploring.changed(sub, ranked, present, counts, 0.0, np.random.default_rng(0))
  assert all(mask.sum() == 4 and not mask[10:].any() for mask in last.values())
