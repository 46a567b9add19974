import numpy as np
import pytest

from secateurs.learners.search.confidence import (
  Drop,
  least_samples,
  nb_parts,
  paired_drop,
  samples_for,
)


def test_the_upper_bound_holds_in_95_of_100_draws():
  # Pairs that disagree: 6 % of samples get worse, 4 % better, so that the drop is 2 points.
  rng, held, draws, n = np.random.default_rng(0), 0, 1000, 1000
  for _ in range(draws):
    fate = rng.choice([0, -1, 1], p=[0.9, 0.06, 0.04], size=n)
    after = (0.9 + fate).reshape(50, -1).mean(axis=1)
    held += paired_drop(np.full(50, 0.9), after, n).most >= 0.02
  assert 0.93 < held / draws < 0.98


def test_what_both_find_hard_cancels():
  before = np.linspace(0.5, 1.0, 50)
  drop = paired_drop(before, before - 0.01, 5000)
  assert drop.value == pytest.approx(0.01)
  assert drop.error == pytest.approx(1 / 5000, rel=0.01)


def test_a_single_part_shows_nothing():
  assert paired_drop([0.9], [0.9], 9).most == np.inf


@pytest.mark.parametrize(('samples', 'parts'), [(5, 1), (100, 10), (10_000, 50)])
def test_parts_have_ten_samples_at_least(samples, parts):
  assert nb_parts(samples) == parts


def test_numbers_of_samples():
  assert least_samples(0.01) == 271
  assert samples_for(Drop(0.02, 0.01), 0.01, 100) is None
  assert samples_for(Drop(0.0, 0.01), 0.0164491, 100) == 100
  assert samples_for(Drop(0.0, np.inf), 0.01, 9) is None
