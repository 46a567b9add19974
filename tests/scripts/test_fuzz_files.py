"""Damaged files: refused in a sentence, or read as they were; some cases of scripts/fuzz_files.py."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / 'scripts'))
import fuzz_files
import fuzz_kinds

KINDS = fuzz_kinds.kinds()
# A case takes some tenths of a second.
LONG = ('h5', 'jpg', 'keras', 'png', 'records', 'tflite', 'tflite_int8', 'tflite_verified')


@pytest.mark.parametrize('name', sorted(set(KINDS) - set(LONG)))
def test_no_damage_is_read_or_ends_in_a_traceback(name):
  found = fuzz_files.fuzz(KINDS[name], range(100))
  assert not found.faults
  assert found.counts['refused'] or name in (
    'metrics',
    'trials',
  )  # These end before what is damaged.


@pytest.mark.parametrize('name', LONG)
def test_some_damages_of_files_that_take_longer(name):
  assert not fuzz_files.fuzz(KINDS[name], range(4)).faults


def test_a_reader_that_lets_damage_pass_is_found(tmp_path):
  """What the script is for: values that are not those of the file, and other errors."""

  def make(folder):
    path = folder / 'x.bin'
    path.write_bytes(bytes(range(200)))
    return path

  silent = fuzz_files.fuzz(
    fuzz_kinds.Kind(make, lambda path: path.read_bytes(), sums=True), range(20)
  )
  assert silent.counts['fault'] >= 19
  text = fuzz_files.fuzz(
    fuzz_kinds.Kind(make, lambda path: np.frombuffer(path.read_bytes(), '<u8')), range(20)
  )
  assert any('ValueError' in note for _, note in text.faults)
