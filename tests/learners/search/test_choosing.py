import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from secateurs.learners.search.choosing import Choice, choose, loss_of, most_saved


def choice(name, losses, savings, kind='channels', inside=None):
  return Choice(name, kind, tuple(range(len(losses))), tuple(losses), savings, inside)


def by_trying_all(choices, need):
  """The least loss of all combinations that save enough and take nothing twice."""
  best = None
  for places in itertools.product(*(range(len(one.levels)) for one in choices)):
    picked = {one.name: place for one, place in zip(choices, places)}
    if any(one.inside and picked[one.name] and picked[one.inside] for one in choices):
      continue
    if sum(one.savings[picked[one.name]] for one in choices) < need - 1e-9:
      continue
    loss = loss_of(choices, picked)
    best = loss if best is None else min(best, loss)
  return best


numbers = st.integers(0, 20)


@settings(max_examples=40, deadline=None)
@given(
  st.lists(st.lists(st.tuples(numbers, numbers), min_size=1, max_size=3), min_size=1, max_size=4)
)
def test_the_least_loss_of_all_combinations_is_found(table):
  choices = [choice('block', (0, 5), (0, 9), kind='block')]
  for number, rows in enumerate(table):
    losses, savings = zip(*rows)
    inside = 'block' if number % 2 else None
    choices.append(choice(f'part{number}', (0, *losses), (0, *savings), inside=inside))
  for need in (1, 10, 25):
    picked, expected = choose(choices, need), by_trying_all(choices, need)
    assert (picked is None) == (expected is None)
    if picked is not None:
      assert np.isclose(loss_of(choices, picked), expected)


def test_a_part_that_a_block_takes_along_does_not_save_twice():
  choices = [
    choice('block', (0, 1), (0, 10), kind='block'),
    choice('inner', (0, 1), (0, 6), inside='block'),
    choice('other', (0, 9), (0, 5)),
  ]
  assert choose(choices, 12) == {'block': 1, 'inner': 0, 'other': 1}
  assert most_saved(choices) == 15


def test_nothing_goes_where_nothing_is_needed():
  assert choose([choice('one', (0, 0), (0, 3))], 0) == {'one': 0}


def test_a_need_out_of_reach_is_none():
  assert choose([choice('one', (0, 1), (0, 3))], 4) is None
  assert choose([], 1) is None


@pytest.mark.parametrize('need', [(3, 0), (2, 4), (5, 5), (9, 1)])
def test_memory_asks_for_savings_at_each_operator(need):
  rng = np.random.default_rng(sum(need))
  choices = [
    choice(name, (0, *np.cumsum(rng.exponential(size=2))), np.cumsum([[0, 0], *table], axis=0))
    for name, table in (
      ('first', [[2, 0], [2, 0]]),  # Lies at the first operator alone,
      ('both', [[1, 1], [2, 2]]),
      ('second', [[0, 3], [0, 1]]),
    )
  ]
  best = min(
    (
      sum(one.losses[place] for one, place in zip(choices, places))
      for places in itertools.product(range(3), repeat=3)
      if (sum(one.savings[place] for one, place in zip(choices, places)) >= need).all()
    ),
    default=None,
  )
  picked = choose(choices, np.array(need, float))
  assert (picked is None) == (best is None)
  if picked is not None:
    assert np.isclose(loss_of(choices, picked), best)
