"""scripts/chaos.py and chaos_disk.py: what counts as a difference, and runs that are disturbed."""

import dataclasses
import random
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / 'scripts'))
import chaos
import chaos_disk

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


def test_moments(tmp_path):
  process = subprocess.Popen(['sleep', '60'])
  assert chaos.wait(process, 0.05)
  assert chaos.wait(process, 60, until=lambda: True)
  process.kill()
  assert not chaos.wait(process, 60)
  (tmp_path / 'models_ws_eval').mkdir()
  for name in ('.lock', 'model.tflite'):
    (tmp_path / 'models_ws_eval' / name).touch()
  (file,) = chaos.exported(tmp_path)
  written = file.stat().st_mtime
  gone = tmp_path / 'gone'
  assert list(chaos.newer([file, gone], written - 1)) == [True]
  assert list(chaos.newer([file], written + 1)) == [False]


@pytest.mark.slow
def test_a_killed_run_ends_as_one_that_was_not():
  found = chaos.tally('weight-sparse', 2, 1, random.Random(0))
  assert found.faults == []
  assert found.by.total() == 2
  assert 'the same' in chaos.table([found])


@pytest.mark.parametrize(
  ('code', 'output', 'must_fail', 'fault'),
  [
    (1, 'Error: no room: make some.', True, None),
    (0, 'deploy', False, None),
    (0, 'deploy', True, 'ends well'),
    (1, 'Traceback (most recent call last)', True, 'no sentence'),
    (1, 'Error: OSError: x (this is not a mistake of yours that', True, 'no sentence'),
    (-6, 'Aborted', True, 'ends with -6 without a sentence'),
  ],
)
def test_how_a_run_without_a_disk_may_end(code, output, must_fail, fault):
  found = chaos_disk.Found('weight-sparse', END, 1.0, 100, '_ws')
  found.ended('full at 0.50', code, output, must_fail=must_fail)
  assert len(found.faults) == (fault is not None)
  assert fault is None or fault in found.faults[0]
  outcome = 'the same' if fault is None else 'differs'
  assert chaos_disk.row(found) == f'| weight-sparse | 1 | 0 | 0 | 0 | {outcome} |'


@pytest.mark.parametrize(
  ('prefix', 'folders'), [('_ws', ['models_ws', 'models_ws_eval']), ('', ['models_eval'])]
)
@pytest.mark.parametrize('baseline', [[], ['models_eval']])
def test_the_folders_of_each_learner(tmp_path, prefix, folders, baseline):
  for name in {'models', *folders, *baseline}:
    (tmp_path / name).mkdir()
  assert chaos_disk.prefix_of(tmp_path) == prefix
  assert chaos_disk.folders_of(prefix) == ['.', 'logs', 'models', *folders]


@pytest.mark.slow
@pytest.mark.exhaustive
def test_a_run_whose_folder_goes_or_is_taken():
  found = chaos_disk.disturb('weight-sparse', ['removed', 'occupied'], 1, random.Random(0))
  assert found.faults == []
  assert found.ends.total() == 6
