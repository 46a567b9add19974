import itertools

import numpy as np
import pytest

from secateurs.utils.training.layerwise.thinet import kept_first, removed_first, scalars

RNG = np.random.default_rng(0)


def moments(nb_channels=6, nb_samples=50):
  contributions = RNG.normal(size=(nb_samples, nb_channels)) * RNG.uniform(0.2, 2, nb_channels)
  contributions[:, 1] = 0.7 * contributions[:, 0] + 0.05 * contributions[:, 1]
  target = contributions.sum(axis=1) + 0.1 * RNG.normal(size=nb_samples)
  return contributions, target


def test_removed_channels_sum_up_to_the_least():
  z, _ = moments()
  left, order = list(range(6)), []
  for _ in range(4):
    worst = min(left, key=lambda c: np.square(z[:, [*order, c]].sum(axis=1)).sum())
    left.remove(worst)
    order.append(worst)
  assert removed_first(z.T @ z, 4).tolist() == order


def residual(z, y, chosen):
  if not chosen:
    return float(y @ y)
  solved = np.linalg.lstsq(z[:, chosen], y, rcond=None)[0]
  return float(np.square(y - z[:, chosen] @ solved).sum())


def test_kept_channels_leave_the_least_residual():
  z, y = moments()
  order = []
  for _ in range(4):
    order.append(min(set(range(6)) - set(order), key=lambda c: residual(z, y, [*order, c])))
  assert kept_first(z.T @ z, z.T @ y, 4).tolist() == order
  # No worse than the worst of all sets, of course, and near the best of them.
  sets = [residual(z, y, list(s)) for s in itertools.combinations(range(6), 4)]
  assert residual(z, y, order) <= np.quantile(sets, 0.2)


def test_dead_and_equal_channels_come_last():
  z = RNG.normal(size=(30, 4))
  z[:, 1], z[:, 2] = z[:, 0], 0
  y = z.sum(axis=1)
  assert set(kept_first(z.T @ z, z.T @ y, 4)[:2].tolist()) == {0, 3}
  assert sorted(kept_first(z.T @ z, z.T @ y, 4).tolist()) == [0, 1, 2, 3]


def test_scalars_are_least_squares():
  z, y = moments()
  keep = np.array([1, 0, 1, 1, 0, 1], bool)
  found = scalars(z.T @ z, z.T @ y, keep, 0.0)
  expected = np.linalg.lstsq(z[:, keep], y, rcond=None)[0]
  np.testing.assert_allclose(found[keep], expected, rtol=1e-6)
  assert not found[~keep].any()
  held = scalars(z.T @ z, z.T @ y, keep, 1e6)
  assert held[keep] == pytest.approx(1, abs=1e-3)
