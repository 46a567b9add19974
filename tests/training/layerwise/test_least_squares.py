import numpy as np
import pytest

from secateurs.utils.training.layerwise.least_squares import NormalEquations, refit, solve


def samples(n=400, p=12, q=5, seed=0, offset=0.0):
  rng = np.random.default_rng(seed)
  x = rng.normal(size=(n, p)) @ rng.normal(size=(p, p)) + offset
  y = x @ rng.normal(size=(p, q)) + rng.normal(size=(n, q)) + offset
  return x, y


def equations(x, y, nb_batches=7):
  sums = NormalEquations.empty(x.shape[1], y.shape[1])
  for part in np.array_split(np.arange(len(x)), nb_batches):
    sums.add(x[part], y[part])
  return sums


def test_refit_is_lstsq():
  x, y = samples()
  expected, *_ = np.linalg.lstsq(x, y, rcond=None)
  found = refit(equations(x, y).moments(False), np.ones(12, bool), ridge=0)
  np.testing.assert_allclose(found, expected, rtol=1e-8, atol=1e-10)


def test_refit_with_intercept_is_lstsq_with_a_column_of_ones():
  x, y = samples(offset=3.0)
  kept = np.arange(12) % 3 > 0
  ones = np.ones((len(x), 1))
  expected, *_ = np.linalg.lstsq(np.hstack([x[:, kept], ones]), y, rcond=None)
  moments = equations(x, y).moments(True)
  found = refit(moments, kept, ridge=0)
  np.testing.assert_allclose(found[kept], expected[:-1], rtol=1e-7, atol=1e-9)
  assert not found[~kept].any()
  np.testing.assert_allclose(moments.shift(found), expected[-1], rtol=1e-7, atol=1e-8)


def test_errors_are_those_of_the_samples():
  x, y = samples(offset=1.0)
  weights = np.random.default_rng(1).normal(size=(12, 5))
  moments = equations(x, y).moments(True)
  residual = y - x @ weights
  np.testing.assert_allclose(moments.error(weights), residual.var(axis=0), rtol=1e-9)
  np.testing.assert_allclose(moments.error_as_is(weights), (residual**2).mean(axis=0), rtol=1e-9)


@pytest.mark.parametrize('intercept', [True, False])
def test_block_is_the_problem_of_what_the_others_leave(intercept):
  x, y = samples(offset=1.0)
  weights = np.random.default_rng(1).normal(size=(12, 5))
  rows = np.arange(12) < 5
  part = equations(x, y).moments(intercept).block(rows, weights)
  expected = equations(x[:, rows], y - x[:, ~rows] @ weights[~rows]).moments(intercept)
  for name in ('gram', 'cross', 'energy', 'mean_x', 'mean_y'):
    np.testing.assert_allclose(getattr(part, name), getattr(expected, name), atol=1e-8)


def test_ridge_pulls_to_the_prior():
  x, y = samples()
  moments = equations(x, y).moments(False)
  prior = np.full((12, 5), 2.0)
  scale = np.trace(moments.gram) / 12
  expected = np.linalg.solve(
    moments.gram + 0.1 * scale * np.eye(12), moments.cross + 0.1 * scale * prior
  )
  found = solve(moments.gram, moments.cross, 0.1, prior)
  np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_equal_and_dead_inputs_do_not_break_the_solution():
  x, y = samples()
  x[:, 3] = x[:, 2]
  x[:, 4] = 0
  moments = equations(x, y).moments(True)
  found = refit(moments, np.ones(12, bool), ridge=0)
  alive = np.delete(np.arange(12), [3, 4])
  expected = refit(moments, np.isin(np.arange(12), alive), ridge=0)
  assert np.isfinite(found).all()
  np.testing.assert_allclose(moments.error(found), moments.error(expected), rtol=1e-4)


def test_memory_does_not_grow_with_the_samples():
  sums = NormalEquations.empty(6, 2)
  sizes = []
  for n in (10, 1000):
    sums.add(*samples(n, 6, 2))
    sizes.append(sum(a.nbytes for a in vars(sums).values() if isinstance(a, np.ndarray)))
  assert sizes[0] == sizes[1]


def test_bad_samples_are_told():
  sums = NormalEquations.empty(2, 1)
  with pytest.raises(ValueError, match='without samples'):
    sums.moments(True)
  sums.add(np.array([[np.nan, 1.0]]), np.array([[1.0]]))
  with pytest.raises(ValueError, match='not finite'):
    sums.moments(True)


def test_float32_samples_give_nearly_the_same_sums():
  x, y = samples(n=5000, offset=2.0)
  exact = equations(x, y)
  found = equations(x.astype(np.float32), y.astype(np.float32))
  for name in ('gram', 'cross', 'energy', 'sum_x', 'sum_y'):
    expected = getattr(exact, name)
    assert getattr(found, name).dtype == np.float64
    np.testing.assert_allclose(getattr(found, name), expected, atol=3e-6 * np.abs(expected).max())


def test_inputs_that_vary_less_than_sums_are_rounded_keep_their_weights():
  """Sums in float32 give such inputs a variance of any sign."""
  rng = np.random.default_rng(0)
  x = (1.0 + 1e-5 * rng.normal(size=(64, 40))).astype(np.float32)
  y = rng.normal(size=(64, 3)).astype(np.float32)
  sums = NormalEquations((x.T @ x), (x.T @ y), x.sum(0), y.sum(0), np.square(y).sum(0), len(x))
  moments, prior = sums.moments(True), rng.normal(size=(40, 3))
  assert not moments.gram.any()
  np.testing.assert_allclose(refit(moments, np.ones(40, bool), 1e-4, prior), prior, rtol=1e-6)


def test_refit_within_a_support_solves_each_output_over_its_own_weights():
  rng = np.random.default_rng(0)
  x, y = rng.normal(size=(60, 6)), rng.normal(size=(60, 3))
  sums = NormalEquations.empty(6, 3)
  sums.add(x, y)
  kept, support = np.arange(6) < 5, rng.random((6, 3)) < 0.6
  found = refit(sums.moments(False), kept, 0.0, support=support)
  for column in range(3):
    rows = kept & support[:, column]
    expected = np.linalg.lstsq(x[:, rows], y[:, column], rcond=None)[0]
    np.testing.assert_allclose(found[rows, column], expected, atol=1e-9)
    assert not found[~rows, column].any()
