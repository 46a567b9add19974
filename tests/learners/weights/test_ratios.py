"""Properties of how sparsity is spread, and oracles of the scan and the regression."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from hypothesis import given, settings
from hypothesis import strategies as st

from secateurs.learners.run.training import divergence
from secateurs.learners.run.training.judging import Judge
from secateurs.learners.run.training.trials import Candidate
from secateurs.learners.weights.ratios import by_curves, heuristic, meet_total, most_zeros, uniform
from secateurs.learners.weights.regression import Regression, gram_matrices, regress
from secateurs.learners.weights.search import (
  TOTAL,
  Reward,
  kernel_parts,
  multi_objective,
  propose,
  single_objective,
)
from secateurs.learners.weights.sensitivity import equal_harm, scan, sigma_ratio
from secateurs.utils.training.engine.masks import MaskSet, nb_kept
from secateurs.utils.training.engine.patterns import Unstructured
from secateurs.utils.training.models.weights import kernels_by_name
from secateurs.utils.training.tasks.classification import Classification

SIZES = st.lists(st.integers(1, 5000), min_size=1, max_size=8)
CURVE = [(0.0, 0.0), (0.5, 0.01), (0.8, 0.1), (0.9, 0.4), (0.98, 2.0)]
RESNET = {'small': 2304, 'middle': 9216, 'large': 36864}


@settings(deadline=None)
@given(SIZES, st.floats(0, 1))
def test_the_total_is_met_to_one_weight(sizes, ratio):
  named = {str(i): size for i, size in enumerate(sizes)}
  kept = heuristic(named, ratio)
  assert sum(kept.values()) == max(nb_kept(sum(sizes), ratio), len(sizes))
  assert all(1 <= kept[name] <= size for name, size in named.items())


@settings(deadline=None)
@given(SIZES, st.floats(0, 1), st.integers(0, 2**32 - 1))
def test_zeros_go_where_they_cost_least(sizes, ratio, seed):
  rng, named = np.random.default_rng(seed), {str(i): size for i, size in enumerate(sizes)}
  curves = {
    name: [(0.0, 0.0), *zip((0.3, 0.6, 0.9, 0.99), np.cumsum(rng.uniform(0, 1, 4)))]
    for name in named
  }
  kept = by_curves(curves, named, ratio)
  assert sum(kept.values()) == max(nb_kept(sum(sizes), ratio), len(sizes))
  for name, size in named.items():
    assert max(np.floor(size * (1 - most_zeros(ratio))), 1) <= kept[name] <= size


def test_no_other_weight_would_cost_less():
  """Moving a step of zeros from one kernel to another never lowers the sum of the curves."""
  steep = {'small': 1.0, 'middle': 0.2, 'large': 3.0}
  curves = {name: [(x, steep[name] * y) for x, y in CURVE] for name in RESNET}
  kept = by_curves(curves, RESNET, 0.8)

  def price(name, gone):
    """Of the next 200 weights behind `gone`."""
    shares = np.array([gone, gone + 200]) / RESNET[name]
    return np.diff(divergence.losses_at(curves[name], shares))[0]

  last = {name: price(name, RESNET[name] - kept[name] - 400) for name in RESNET}
  following = {name: price(name, RESNET[name] - kept[name] + 200) for name in RESNET}
  for name in RESNET:
    assert all(last[name] <= following[other] for other in RESNET if other != name)
  shares = {name: kept[name] / size for name, size in RESNET.items()}
  assert shares['middle'] < shares['large'] < shares['small']  # Not by size alone.


def test_kernels_of_one_price_lose_alike():
  """With one curve for all, weights of large kernels are cheap; with one price all lose alike."""
  kept = by_curves(dict.fromkeys(RESNET, CURVE), RESNET, 0.9)
  shares = [kept[name] / size for name, size in RESNET.items()]
  assert shares == sorted(shares, reverse=True)
  by_weight = {n: [(x, y * size) for x, y in CURVE] for n, size in RESNET.items()}
  kept = by_curves(by_weight, RESNET, 0.9)
  for name, size in RESNET.items():
    assert kept[name] / size == pytest.approx(0.1, abs=0.005)


@pytest.mark.parametrize('ratio', [0.3, 0.9])
def test_curves_of_kernels_are_those_of_networks_with_one_kernel_pruned(ratio):
  x = inputs = keras.Input((8, 8, 3))
  x = keras.layers.Conv2D(6, 3, name='first', activation='relu')(x)
  x = keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(8, 3, name='second')(x))
  model = keras.Model(inputs, keras.layers.Dense(4, name='dense')(x))
  images = np.random.default_rng(0).normal(size=(40, 8, 8, 3)).astype(np.float32)
  kernels = {layer.name: layer.kernel for layer in model.layers if layer.weights}
  before, whole = model.get_weights(), tf.nn.log_softmax(model(images)).numpy()
  regression = Regression(gram_matrices(model, list(kernels), [images], seed=0, points=9), 20, 1.0)
  parts = kernel_parts(model, kernels, Unstructured(), regression, ratio)
  curves = divergence.scan(model, parts, images, Classification(4))
  for a, b in zip(model.get_weights(), before, strict=True):
    np.testing.assert_array_equal(a, b)
  for name, kernel in kernels.items():
    shares = [share for share, _ in curves[name]]
    assert shares[0] == 0
    assert ratio in shares
    assert shares[-1] == most_zeros(ratio)
    weights = kernel.numpy()
    mask = Unstructured().mask(weights, nb_kept(weights.size, ratio))
    kernel.assign(regression(name, weights, mask))
    assert np.count_nonzero(kernel) <= nb_kept(weights.size, ratio)
    now = tf.nn.log_softmax(model(images)).numpy()
    kernel.assign(weights)
    expected = (np.exp(whole) * (whole - now)).sum(-1).mean()
    assert dict(curves[name])[ratio] == pytest.approx(expected, rel=0.02, abs=1e-5)


def test_kernels_of_all_kinds_of_layers_can_be_parts():
  """Those of a layer with several, and of layers in nested models that have one name."""
  keras.backend.clear_session()

  def nested(name):
    inputs = keras.Input((8, 8, 4))
    return keras.Model(
      inputs, keras.layers.Conv2D(4, 3, padding='same', name='conv')(inputs), name=name
    )

  inputs = keras.Input((8, 8, 4))
  x = keras.layers.SeparableConv2D(4, 3, padding='same', name='separable')(inputs)
  x = nested('two')(nested('one')(x))
  x = keras.layers.Reshape((64, 4))(x)
  x = keras.layers.MultiHeadAttention(2, 2, name='attention')(x, x)
  model = keras.Model(inputs, keras.layers.Dense(3, name='dense')(keras.layers.Flatten()(x)))
  kernels = kernels_by_name(model)
  assert len(kernels) >= 8
  parts = kernel_parts(model, kernels, Unstructured(), Regression({}, 0, 1.0), 0.5)
  images = np.random.default_rng(0).normal(size=(8, 8, 8, 4)).astype(np.float32)
  curves = divergence.scan(model, parts, images, Classification(4))
  assert curves.keys() == kernels.keys()
  assert all(curve[-1][1] > 0 for curve in curves.values())


def test_losses_between_and_behind_the_points_of_a_curve():
  found = divergence.losses_at([*CURVE[:3], (0.9, 0.05)], np.array([0.0, 0.25, 0.5, 0.8, 0.9, 1.0]))
  assert found[[0, 2, 3, 4, 5]] == pytest.approx([0, 0.01, 0.1, 0.1, 0.1])  # It never falls.
  assert 0 < found[1] < 0.01
  assert divergence.losses_at(CURVE, np.array([1.0]))[0] == pytest.approx(2.0 + 0.02 * 20)
  assert divergence.losses_at([(0.0, 0.0)], np.array([0.0, 1.0])).tolist() == [0, 0]


@settings(deadline=None)
@given(SIZES, st.integers(0, 2**32 - 1), st.floats(0, 1))
def test_meet_total(sizes, seed, share):
  wanted = np.random.default_rng(seed).uniform(1e-3, 1, len(sizes))
  total = round(share * sum(sizes))
  found = meet_total(wanted, np.array(sizes), total)
  assert sum(found) == min(max(total, len(sizes)), sum(sizes))


def test_heuristic_by_hand():
  """Ratios in proportion to log n: 7.742, 9.129, 10.515, as long as no cap is met."""
  kept = heuristic(RESNET, 0.5)
  ratios = {name: 1 - kept[name] / size for name, size in RESNET.items()}
  scale = 0.5 * sum(RESNET.values()) / sum(math.log(n) * n for n in RESNET.values())
  for name, size in RESNET.items():
    assert ratios[name] == pytest.approx(scale * math.log(size), abs=1 / size)
  assert ratios['small'] < ratios['middle'] < ratios['large'] < 0.6


def test_large_kernels_are_not_emptied_for_small_ones():
  kept = heuristic(RESNET, 0.9)
  densities = {name: kept[name] / size for name, size in RESNET.items()}
  assert densities['large'] == pytest.approx(0.08, abs=1e-4)
  left = {name: 1 - densities[name] for name in ('small', 'middle')}
  steepness = math.log(RESNET['middle']) / math.log(RESNET['small'])
  assert left['middle'] / left['small'] == pytest.approx(steepness, abs=1e-3)


def test_proposals():
  curves = dict.fromkeys(RESNET, CURVE)
  assert propose(curves, RESNET, 0.9, {}).counts == uniform(RESNET, 0.9)
  ones = dict.fromkeys(RESNET, 1.0)
  by_one = propose(curves, RESNET, 0.9, ones)
  assert by_one.counts == by_curves(curves, RESNET, 0.9)
  more = propose(curves, RESNET, 0.9, {**ones, 'small': 2.0})
  assert more.counts['small'] > by_one.counts['small']
  assert more.cost == by_one.cost
  half = propose(curves, RESNET, 0.9, {**ones, TOTAL: 0.5})
  assert half.cost == pytest.approx(more.cost / 2, abs=1)
  assert propose(curves, RESNET, 0.9, {**ones, TOTAL: 2.0}).cost == more.cost
  assert multi_objective(0.9, 1000) > multi_objective(0.9, 2000) > multi_objective(0.8, 2000)


def test_the_scan_gives_losses_of_one_pruned_kernel_and_restores_it():
  rng = np.random.default_rng(0)

  def net():
    x = inputs = keras.Input((6, 6, 3))
    for name in 'ab':
      x = keras.layers.Conv2D(8, 3, padding='same', activation='relu', name=name)(x)
    x = keras.layers.Dense(4, name='c')(keras.layers.GlobalAveragePooling2D()(x))
    return keras.Model(inputs, x)

  model, other, task = net(), net(), Classification(4)
  other.set_weights(model.get_weights())
  kernels, copies = kernels_by_name(model), kernels_by_name(other)
  before = {name: kernel.numpy() for name, kernel in kernels.items()}
  samples = rng.normal(size=(40, 6, 6, 3)).astype(np.float32), rng.integers(0, 4, 40, np.int32)
  loss = Judge(model, *samples, task).loss
  for by_sigma in (False, True):
    curves = scan([(model, kernels)], samples, task, Unstructured(), by_sigma=by_sigma)
    both = [(model, kernels), (other, copies)]
    assert scan(both, samples, task, Unstructured(), by_sigma=by_sigma) == curves
    for name, weights in before.items():
      np.testing.assert_array_equal(kernels[name].numpy(), weights)
      assert curves[name][0] == (0.0, pytest.approx(loss(), rel=1e-3))
      for ratio, value in curves[name][1::3]:
        smallest = np.argsort(np.abs(weights).ravel())[
          : weights.size - nb_kept(weights.size, ratio)
        ]
        pruned = weights.copy()
        pruned.ravel()[smallest] = 0
        kernels[name].assign(pruned)
        assert value == pytest.approx(loss(), rel=1e-3)
      kernels[name].assign(weights)
  assert sigma_ratio(before['a'], 1.0) == np.mean(np.abs(before['a']) < before['a'].std())
  sizes = {name: weights.size for name, weights in before.items()}
  assert sum(equal_harm(curves, sizes, 0.7).values()) == nb_kept(sum(sizes.values()), 0.7)


def test_equal_harm_by_hand():
  """Both losses rise linearly, one three times as fast: it loses a third of what the other does."""
  curves = {'a': [(0.0, 1.0), (0.9, 1.9)], 'b': [(0.0, 1.0), (0.9, 3.7)]}
  kept = equal_harm(curves, {'a': 1000, 'b': 1000}, 0.4)
  assert kept['a'] == pytest.approx(400, abs=1)
  assert kept['b'] == pytest.approx(800, abs=1)


def test_regression_finds_the_masked_least_squares_solution():
  rng = np.random.default_rng(1)
  x = rng.normal(size=(500, 12)) @ rng.normal(size=(12, 12))
  weights, mask = rng.normal(size=(12, 5)), rng.random((12, 5)) < 0.5
  gram = x.T @ x / len(x)
  greatest = np.linalg.eigvalsh(gram)[-1]
  found = regress(gram, greatest, weights, mask, 3000, 1.0)
  for column in range(5):
    stay = mask[:, column]
    best = np.linalg.lstsq(x[:, stay], x @ weights[:, column], rcond=None)[0]
    np.testing.assert_allclose(found[stay, column], best, rtol=1e-3, atol=1e-6)
    assert not found[~stay, column].any()
  errors = [
    np.sum((x @ (regress(gram, greatest, weights, mask, n, 1.0) - weights)) ** 2)
    for n in (0, 5, 20, 100)
  ]
  assert errors == sorted(errors, reverse=True)


def test_gram_matrices_are_not_about_the_means():
  """A trial gives no layer another bias, so that a changed mean of its outputs is an error."""
  inputs = keras.Input((6,))
  model = keras.Model(inputs, keras.layers.Dense(4, name='dense')(inputs))
  batches = list(np.random.default_rng(2).normal(3.0, 1.0, size=(2, 50, 6)).astype(np.float32))
  x = np.concatenate(batches)
  found = gram_matrices(model, ['dense'], batches, seed=0, points=1)
  np.testing.assert_allclose(found['dense'], x.T @ x / len(x), rtol=1e-3)  # Maps are float16.


def test_eigenvalues_are_taken_once_a_search(monkeypatch):
  inputs = keras.Input((6,))
  model = keras.Model(inputs, keras.layers.Dense(4, name='dense')(inputs))
  kernels = {'dense': model.layers[1].kernel}
  calls, eigvalsh = [], np.linalg.eigvalsh
  monkeypatch.setattr(np.linalg, 'eigvalsh', lambda gram: calls.append(1) or eigvalsh(gram))
  images, labels = np.ones((8, 6), np.float32), np.zeros(8, np.int32)
  reward = Reward(
    model,
    kernels,
    MaskSet(list(kernels.values())),
    Regression({'dense': np.eye(6)}, 5, 1.0),
    SimpleNamespace(optimizer=SimpleNamespace(variables=[])),
    tf.data.Dataset.range(0),
    Judge(model, images, labels, Classification(4)),
    0,
    single_objective,
  )
  for kept in (6, 12, 18):
    reward(Candidate({'dense': kept}, kept))
    assert np.count_nonzero(kernels['dense'].numpy()) == kept
  assert len(calls) == 1
