import numpy as np
import pytest

from secateurs.learners.search import stepping
from secateurs.learners.search.confidence import (
  Drop,
  least_samples,
  nb_parts,
  paired_drop,
  samples_for,
)
from secateurs.learners.search.stepping import Stand


def test_the_upper_bound_holds_in_95_of_100_draws():
  # Pairs that disagree: 6 % of samples get worse, 4 % better, so that the drop is 2 points.
  rng, held, draws, n = np.random.default_rng(0), 0, 1000, 1000
  for _ in range(draws):
    fate = rng.choice([0, -1, 1], p=[0.9, 0.06, 0.04], size=n)
    after = (0.9 + fate).reshape(50, -1).mean(axis=1)
    held += paired_drop(np.full(50, 0.9), after, n).most >= 0.02
  assert 0.93 < held / draws < 0.98


def passes_by_luck(looks, searches=4000, limit=0.01, error=0.003):
  """Fraction of searches that take a network although every one that they try loses too much."""
  rng, taken = np.random.default_rng(1), 0
  for _ in range(searches):
    stand, wrong = Stand(1.0, 0.7, 0, 0.0), False
    while not wrong and stepping.over(stand, limit=None, most_tries=16, most_seconds=1) is None:
      drops = (Drop(limit + 1e-9 + error * rng.normal(), error, looks) for _ in range(2))
      wrong = any(drop.most <= limit for drop in drops)
      stand = Stand(1.0, stepping.next_step(stand.step, wrong), stand.nb_tries + 1, 0.0)
    taken += wrong
  return taken / searches


def test_a_whole_search_takes_what_loses_too_much_in_5_of_100_cases_at_most():
  assert stepping.nb_looks(0.7, 16) == 7
  assert stepping.nb_looks(0.7, 1) == stepping.nb_looks(0.93, 16) == 3
  assert passes_by_luck(1) > 0.2
  assert 0.03 < passes_by_luck(7) < 0.055


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
  assert least_samples(0.01, 7) == 601
  assert Drop.of(0.01, Drop(0.01, 0.002, 7).most, 7).error == pytest.approx(0.002)
  assert samples_for(Drop(0.02, 0.01), 0.01, 100) is None
  assert samples_for(Drop(0.0, 0.01), 0.0164491, 100) == 100
  assert samples_for(Drop(0.0, np.inf), 0.01, 9) is None
