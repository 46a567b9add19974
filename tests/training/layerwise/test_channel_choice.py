import itertools

import numpy as np
import pytest
from sklearn.linear_model import Lasso, lars_path

from secateurs.utils.training.layerwise.channel_choice import (
  SELECTIONS,
  channel_moments,
  choose,
  lasso_keep,
  lasso_path,
  scaled_by_lasso,
)
from secateurs.utils.training.layerwise.elimination import backward_order
from secateurs.utils.training.layerwise.least_squares import NormalEquations, refit
from secateurs.utils.training.layerwise.readers import Reader

C, K, Q, N = 6, 3, 4, 500  # channels, rows of each, outputs, samples


def layer(seed=0, noise=0.5, scale=None):
  """Samples X [N, K * C] (rows in the order of a kernel), weights, targets and the reader."""
  rng = np.random.default_rng(seed)
  x = np.maximum(rng.normal(size=(N, K * C)) @ rng.normal(size=(K * C, K * C)) / 3, 0)
  weights = rng.normal(size=(K * C, Q)) * np.tile(rng.uniform(0.2, 2, C), K)[:, None]
  y = x @ weights + noise * rng.normal(size=(N, Q))
  sums = NormalEquations.empty(K * C, Q)
  sums.add(x, y)
  scale = np.ones(Q) if scale is None else scale
  owner = np.tile(np.arange(C), K)
  return x, weights, y, Reader(sums.moments(True), weights, owner, scale)


def contributions(x, weights, y, scale):
  """The raw sample matrix of LASSO: one column per channel, means taken off."""
  columns = [
    ((x[:, c::C] @ weights[c::C]) / np.linalg.norm(weights[c::C]) * scale) for c in range(C)
  ]
  z = np.stack([(z - z.mean(axis=0)).ravel() for z in columns], axis=1)
  return z, ((y - y.mean(axis=0)) * scale).ravel()


@pytest.mark.parametrize('scale', [None, np.array([0.5, 1, 2, 3])])
def test_the_gram_is_that_of_the_contributions(scale):
  x, weights, y, reader = layer(scale=scale)
  z, target = contributions(x, weights, y, reader.scale)
  problem = channel_moments([reader], C).normalized()
  np.testing.assert_allclose(problem.gram, z.T @ z / N / reader.total, rtol=1e-8)
  np.testing.assert_allclose(problem.cross, z.T @ target / N / reader.total, rtol=1e-8)


def test_the_path_is_that_of_scikit_learn_on_the_samples():
  x, weights, y, reader = layer()
  z, target = contributions(x, weights, y, reader.scale)
  alphas, path = lasso_path(channel_moments([reader], C).normalized())
  expected_alphas, _, expected = lars_path(z, target, method='lasso')
  factor = len(target) / (N * reader.total)  # scikit-learn divides by the number of samples.
  np.testing.assert_allclose(alphas, expected_alphas * factor, rtol=1e-6, atol=1e-10)
  np.testing.assert_allclose(path, expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize('nb_keep', range(1, C))
def test_the_kept_set_is_that_of_coordinate_descent_with_bisection(nb_keep):
  x, weights, y, reader = layer()
  z, target = contributions(x, weights, y, reader.scale)
  low, high = 0.0, float(np.abs(z.T @ target).max() / len(target))
  for _ in range(60):
    alpha = (low + high) / 2
    found = Lasso(alpha, fit_intercept=False, tol=1e-8, max_iter=100_000).fit(z, target).coef_ != 0
    if found.sum() == nb_keep:
      break
    low, high = (alpha, high) if found.sum() > nb_keep else (low, alpha)
  keep = lasso_keep(channel_moments([reader], C).normalized(), nb_keep)
  np.testing.assert_array_equal(keep, found)


def loss_of(reader, keep):
  moments, rows = reader.moments, keep[reader.owner]
  weights = refit(moments, rows, 1e-9)
  return float(moments.error(weights) @ reader.scale**2) / reader.total


@pytest.mark.parametrize('nb_readers', [1, 2])
def test_backward_elimination_is_greedy_brute_force(nb_readers):
  scales = [None, np.array([1, 2, 0.5, 1])]
  readers = [layer(seed, scale=scales[seed])[3] for seed in range(nb_readers)]
  order, losses = backward_order(readers, C, 1e-9)
  left = np.ones(C, bool)
  for step in range(C):
    assert losses[step] == pytest.approx(sum(loss_of(r, left) for r in readers), rel=1e-5)
    rivals = {}
    for channel in np.flatnonzero(left):
      trial = left.copy()
      trial[channel] = False
      rivals[channel] = sum(loss_of(r, trial) for r in readers)
    assert order[step] == min(rivals, key=rivals.get)
    left[order[step]] = False
  assert losses[-1] == pytest.approx(nb_readers, rel=1e-5)


def test_backward_elimination_is_near_the_best_subset():
  reader = layer()[3]
  for nb_keep in (2, 3, 4):
    subsets = [np.isin(np.arange(C), s) for s in itertools.combinations(range(C), nb_keep)]
    best = min(loss_of(reader, keep) for keep in subsets)
    _, losses = backward_order([reader], C, 1e-9)
    assert losses[C - nb_keep] <= 1.2 * best


def test_uneven_channels():
  reader = layer()[3]
  owner = np.minimum(reader.owner, C - 2)  # The last channel has the rows of two.
  uneven = Reader(reader.moments, reader.weights, owner, reader.scale)
  order, losses = backward_order([uneven], C - 1, 1e-9)
  assert sorted(order) == list(range(C - 1))
  keep = np.isin(np.arange(C - 1), order[2:])
  assert losses[2] == pytest.approx(loss_of(uneven, keep), rel=1e-5)


@pytest.mark.parametrize('selection', SELECTIONS)
@pytest.mark.parametrize('nb_keep', [1, 3, C])
def test_every_selection_keeps_exactly_so_many(selection, nb_keep):
  reader = layer()[3]
  for alternating in (False, True):
    rng = np.random.default_rng(0)
    keep = choose([reader], C, nb_keep, selection, ridge=1e-4, rng=rng, alternating=alternating)
    assert keep.sum() == nb_keep


@pytest.mark.parametrize('selection', SELECTIONS)
def test_dead_and_equal_channels(selection):
  x, weights, y, _ = layer()
  x[:, 1::C] = 0
  x[:, 3::C] = x[:, 2::C]
  weights[3::C] = weights[2::C]
  sums = NormalEquations.empty(K * C, Q)
  sums.add(x, y)
  reader = Reader(sums.moments(True), weights, np.tile(np.arange(C), K), np.ones(Q))
  rng = np.random.default_rng(0)
  for nb_keep in range(1, C):
    keep = choose([reader], C, nb_keep, selection, ridge=1e-4, rng=rng)
    assert keep.sum() == nb_keep
  if selection in ('lasso', 'backward'):
    keep = choose([reader], C, C - 2, selection, ridge=1e-4, rng=rng)
    assert not keep[1]
    assert keep[2] != keep[3]


def test_golden_magnitude():
  reader = layer()[3]
  weights = np.tile(np.array([3.0, -1, 2, 0.5, -4, 0])[:, None], (K, Q))
  reader = Reader(reader.moments, weights, reader.owner, reader.scale)
  keep = choose([reader], C, 3, 'magnitude', ridge=0, rng=np.random.default_rng(0))
  assert np.flatnonzero(keep).tolist() == [0, 2, 4]


@pytest.mark.parametrize('nb_keep', [1, 3, 5])
def test_without_a_refit_rows_are_scaled_by_the_coefficients_of_lasso(nb_keep):
  """{beta_i W_i} with ||W_i|| = 1, the coefficients by scikit-learn on the samples."""
  x, weights, y, reader = layer()
  z, target = contributions(x, weights, y, reader.scale)
  _, _, path = lars_path(z, target, method='lasso')
  beta = path[:, np.flatnonzero((path != 0).sum(axis=0) >= nb_keep)[0]]
  (found,) = scaled_by_lasso([reader], C, nb_keep, 1e-4, alternating=False)
  for channel in range(C):
    norm = np.linalg.norm(weights[channel::C])
    expected = weights[channel::C] / norm * beta[channel]
    np.testing.assert_allclose(found[channel::C], expected, rtol=1e-6, atol=1e-8)


def test_the_alternating_scheme_scales_the_weights_of_its_last_round():
  x, _, y, reader = layer(noise=0.1)
  (found,) = scaled_by_lasso([reader], C, 3, 1e-4, alternating=True)
  keep = choose([reader], C, 3, 'lasso', ridge=1e-4, rng=np.random.default_rng(0), alternating=True)
  alive = np.array([found[channel::C].any() for channel in range(C)])
  np.testing.assert_array_equal(alive, keep)
  energy = np.square(y - y.mean(0)).sum()
  left = np.square((y - y.mean(0)) - (x - x.mean(0)) @ found).sum()
  assert left < energy
  # Each channel's rows are those of a refit, scaled: the weights were refit on the way.
  refitted = [refit(reader.moments, np.isin(reader.owner, some), 1e-4) for some in supersets(keep)]
  assert any(all(parallel(found[c::C], w[c::C]) for c in np.flatnonzero(keep)) for w in refitted)


def supersets(keep):
  others = np.flatnonzero(~keep)
  for size in range(len(others) + 1):
    for some in itertools.combinations(others, size):
      yield [*np.flatnonzero(keep), *some]


def parallel(one, other):
  return abs((one * other).sum()) > (1 - 1e-6) * np.linalg.norm(one) * np.linalg.norm(other)


def test_nothing_is_scaled_where_all_channels_stay():
  *_, reader = layer()
  (found,) = scaled_by_lasso([reader], C, C, 1e-4, alternating=False)
  np.testing.assert_array_equal(found, reader.weights)
