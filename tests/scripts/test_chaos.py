"""scripts/chaos.py: what counts as a difference, and one run that is killed."""

import dataclasses
import random
import re
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / 'scripts'))
import chaos

END = chaos.End({'kept': [0, 2]}, [{'value': 0.9}], [np.ones(3)], {'m.tflite': b'abc'})


def test_equal_ends_do_not_differ():
  again = dataclasses.replace(END, weights=[np.ones(3)])
  assert chaos.differences(END, again) == []


@pytest.mark.parametrize(
  ('change', 'text'),
  [
    ({'plan': {'kept': [0, 1]}}, 'The plans differ'),
    ({'scores': [{'value': 0.8}]}, 'The scores differ'),
    ({'weights': [np.zeros(3)]}, 'The weights differ'),
    ({'weights': []}, 'The weights differ'),
    ({'files': {'m.tflite': b'abd'}}, r'The bytes of m\.tflite differ'),
    ({'files': {}}, 'The files differ'),
  ],
)
def test_what_differs_is_named(change, text):
  (told,) = chaos.differences(END, dataclasses.replace(END, **change))
  assert re.search(text, told)


@pytest.mark.slow
@pytest.mark.exhaustive
def test_a_killed_run_ends_as_one_that_was_not():
  found = chaos.tally('weight-sparse', 2, 1, random.Random(0))
  assert found.faults == []
  assert found.by.total() == 2
  assert 'the same' in chaos.table([found])
