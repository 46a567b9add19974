"""What tries are compared with, and how long trainings may be."""

import pytest

from secateurs.learners.search.config import JsConfig
from secateurs.learners.search.opening import pick_reference, time_shares

ORIGINAL = (0.96, [0.95, 0.97])
AFTERWARDS = 'the original after the training of a try'


@pytest.mark.parametrize(
  ('control', 'harm', 'expected'),
  [
    # It has forgotten what it knew: as much as tries forget.
    ((0.94, [0.93, 0.95]), 0.0, (AFTERWARDS, [0.93, 0.95], 0.94)),
    # The training has spoiled it, on what it trained on as well: no excuse for tries.
    ((0.5, [0.4, 0.6]), 0.46, ('the original', [0.95, 0.97], 0.96)),
    ((0.5, [0.4, 0.6]), 0.44, (AFTERWARDS, [0.84, 1.04], 0.94)),
    # It is no worse.
    ((0.97, [0.97, 0.97]), 0.0, ('the original', [0.95, 0.97], 0.96)),
  ],
)
def test_what_training_spoils_is_no_reference(control, harm, expected):
  name, parts, value = pick_reference(ORIGINAL, control, harm)
  assert (name, parts) == (expected[0], pytest.approx(expected[1]))
  assert value == pytest.approx(expected[2])


def test_what_is_undone_is_no_reference():
  control = (0.5, [0.4, 0.6])
  assert pick_reference(ORIGINAL, control, 0.44, allowed=0.05)[0] == 'the original'
  assert pick_reference(ORIGINAL, (0.94, [0.93, 0.95]), 0.01, allowed=0.05)[0] == AFTERWARDS


def test_the_last_training_has_most_of_the_time_where_the_cost_has_a_limit():
  tried, end = time_shares(JsConfig(max_bytes='55kB'), start=150e3)
  assert (3 * tried, end) == (pytest.approx(0.25), 0.45)  # 105, 73.5 and 55 kB.
  assert time_shares(JsConfig(max_bytes='55kB', nb_tries=1), start=150e3)[0] == 0.25
  assert time_shares(JsConfig(max_bytes='55kB'), start=50e3)[0] == 0.25


def test_without_a_limit_time_is_shared_among_the_tries_that_may_come():
  assert time_shares(JsConfig(nb_tries=16), start=1.0) == (0.35 / 8, 0.25)
  assert time_shares(JsConfig(nb_tries=2), start=1.0) == (0.35 / 2, 0.25)
