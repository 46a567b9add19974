"""Properties of how sparsity is spread, and oracles of the scan and the regression."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from hypothesis import given, settings
from hypothesis import strategies as st

from secateurs.learners.judging import Judge
from secateurs.learners.sensitivity import equal_harm, scan, sigma_ratio
from secateurs.learners.sparse_ratios import heuristic, meet_total, uniform
from secateurs.learners.sparse_search import (
  TOTAL,
  Effort,
  Reward,
  gram_matrices,
  multi_objective,
  propose,
  regress,
  single_objective,
)
from secateurs.learners.trials import Candidate
from secateurs.utils.training.masks import MaskSet, nb_kept
from secateurs.utils.training.patterns import Unstructured

SIZES = st.lists(st.integers(1, 5000), min_size=1, max_size=8)
RESNET = {'small': 2304, 'middle': 9216, 'large': 36864}


@settings(deadline=None)
@given(SIZES, st.floats(0, 1), st.integers(0, 2**32 - 1))
def test_the_total_is_met_to_one_weight(sizes, ratio, seed):
  named = {str(i): size for i, size in enumerate(sizes)}
  factors = dict(zip(named, np.random.default_rng(seed).uniform(0.4, 2.5, 8)))
  for given_factors in (None, factors):
    kept = heuristic(named, ratio, given_factors)
    assert sum(kept.values()) == max(nb_kept(sum(sizes), ratio), len(sizes))
    assert all(1 <= kept[name] <= size for name, size in named.items())


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
  assert ratios['small'] < ratios['middle'] < ratios['large'] < 0.75


def test_proposals():
  assert propose(RESNET, 0.9, {}).counts == uniform(RESNET, 0.9)
  ones = dict.fromkeys(RESNET, 1.0)
  assert propose(RESNET, 0.9, ones).counts == heuristic(RESNET, 0.9)
  more = propose(RESNET, 0.9, {**ones, 'small': 2.0})
  assert more.counts['small'] > heuristic(RESNET, 0.9)['small']
  assert more.cost == propose(RESNET, 0.9, ones).cost
  assert propose(RESNET, 0.9, {**ones, TOTAL: 0.5}).cost == pytest.approx(more.cost / 2, abs=1)
  assert propose(RESNET, 0.9, {**ones, TOTAL: 2.0}).cost == more.cost
  assert multi_objective(0.9, 1000) > multi_objective(0.9, 2000) > multi_objective(0.8, 2000)


def test_the_scan_gives_losses_of_one_pruned_kernel_and_restores_it():
  rng = np.random.default_rng(0)
  kernels = {name: tf.Variable(rng.normal(size=(10, 10))) for name in 'ab'}
  before = {name: kernel.numpy() for name, kernel in kernels.items()}

  def loss():
    """By how much the kernels differ from what they were; `b` counts ten times."""
    lost = {name: float(np.sum((before[name] - kernels[name].numpy()) ** 2)) for name in 'ab'}
    return lost['a'] + 10 * lost['b']

  for by_sigma in (False, True):
    curves = scan(kernels, loss, Unstructured(), by_sigma=by_sigma)
    for name in 'ab':
      np.testing.assert_array_equal(kernels[name].numpy(), before[name])
      assert curves[name][0] == (0.0, 0.0)
      for ratio, value in curves[name][1:]:
        small = np.sort(before[name].ravel() ** 2)[: 100 - nb_kept(100, ratio)]
        assert value == pytest.approx((10 if name == 'b' else 1) * small.sum())
  assert sigma_ratio(before['a'], 1.0) == np.mean(np.abs(before['a']) < before['a'].std())
  kept = equal_harm(curves, {'a': 100, 'b': 100}, 0.7)
  assert sum(kept.values()) == 60
  assert kept['a'] < kept['b'] - 10


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
  np.testing.assert_allclose(found['dense'], x.T @ x / len(x), rtol=1e-5)


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
    {'dense': np.eye(6)},
    SimpleNamespace(optimizer=SimpleNamespace(variables=[])),
    lambda: iter(()),
    Judge(model, images, labels),
    Effort(nb_iters_rg=5, lrn_rate_rg=1.0, nb_iters_ft=0),
    single_objective,
  )
  for kept in (6, 12, 18):
    reward(Candidate({'dense': kept}, kept))
    assert np.count_nonzero(kernels['dense'].numpy()) == kept
  assert len(calls) == 1
