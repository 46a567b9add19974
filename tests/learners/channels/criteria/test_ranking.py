import numpy as np
import pytest

from secateurs.learners.channels.criteria import ranking
from secateurs.learners.channels.criteria.filters import fpgm, lamp
from secateurs.learners.channels.filter_schedule import stages
from secateurs.utils.errors import UserError

SCORES = np.array([3.0, 1.0, 4.0, 1.0, 5.0])


@pytest.mark.parametrize(
  ('order', 'expected'),
  # Of the two of score 1 the last goes first; edge: lowest, highest, second lowest, ...
  [('best', [3, 1, 0, 2, 4]), ('reverse', [4, 2, 0, 3, 1]), ('edge', [3, 4, 1, 2, 0])],
)
def test_the_order_in_which_channels_go(order, expected):
  assert ranking.removal_order(SCORES, order).tolist() == expected
  keys = ranking.keys(SCORES, order)
  for nb_keep in range(1, 6):
    kept = np.flatnonzero(ranking.best(keys, nb_keep))
    if order != 'reverse':  # Of equal scores reverse keeps the first, too.
      assert kept.tolist() == sorted(expected[5 - nb_keep :])
  assert ranking.best(ranking.keys(SCORES, 'reverse'), 2).tolist() == [0, 1, 0, 1, 0]


def test_units_of_scores():
  assert ranking.normalized(SCORES, 'none').tolist() == SCORES.tolist()
  assert ranking.normalized(SCORES, 'mean').mean() == pytest.approx(1)
  assert np.linalg.norm(ranking.normalized(SCORES, 'l2')) == pytest.approx(1)
  assert ranking.normalized(np.zeros(3), 'mean').tolist() == [0, 0, 0]


def test_fate_comes_before_scores():
  stays, gone = np.array([0, 1, 0, 0, 0], bool), np.array([0, 0, 0, 0, 1], bool)
  keys = ranking.with_fate(SCORES, stays, gone)
  assert ranking.best(keys, 2).tolist() == [False, True, True, False, False]
  with pytest.raises(UserError, match='1 of 5 scores are not finite'):
    ranking.with_fate(np.where(stays, np.nan, SCORES), stays, gone)


def test_fpgm_is_the_sum_of_distances():
  filters = np.random.default_rng(0).normal(size=(6, 5))
  slow = [sum(np.linalg.norm(filters[:, j] - filters[:, k]) for k in range(5)) for j in range(5)]
  np.testing.assert_allclose(fpgm(filters), slow, rtol=1e-10)
  # Columns 0, 1 and 5 on a line: the one in the middle is nearest to the others.
  assert np.argmin(fpgm(np.array([[0.0, 1.0, 5.0]]))) == 1


def test_lamp_by_hand():
  # Squares 4, 1, 9 and 1: 4/(4+9), 1/(1+4+9), 9/9, 1/(1+1+4+9).
  found = lamp(np.array([[2.0, -1.0, 3.0, 1.0]]))
  np.testing.assert_allclose(found, [4 / 13, 1 / 14, 1, 1 / 15])
  assert lamp(np.zeros((2, 2))).tolist() == [0, 0]


def test_schedules():
  assert [s.name for s in stages('one-shot', 1, 'ab')] == ['round1']
  ends = [(s.name, s.units, s.done, s.last) for s in stages('end-to-end', 2, 'ab')]
  assert ends == [('round1', ('a', 'b'), 0.5, False), ('round2', ('a', 'b'), 1.0, True)]
  single = stages('layer-by-layer', 2, 'ab')
  assert [s.units for s in single] == [('a',), ('b',), ('a',), ('b',)]
  assert [s.last for s in single] == [False, False, False, True]
