"""What tries are compared with."""

import pytest

from secateurs.learners.search.opening import pick_reference

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
