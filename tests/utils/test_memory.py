"""Memory as the system counts it."""

import os
import subprocess
import sys

import numpy as np
import pytest

from secateurs.utils import memory


def test_a_peak_that_is_over_is_sampled():
  with memory.PeakSampler() as sampler:
    before = memory.resident()
    array = np.ones(200 * memory.MEGABYTE, np.uint8)
    grown = memory.resident()
    for _ in range(20):
      array[:] = 2
    del array
    found = sampler.read()
  assert grown - before > 150 * memory.MEGABYTE
  assert found > before + 150 * memory.MEGABYTE
  assert memory.peak() > 0.99 * found  # The system counts both to some pages.


def test_a_container_has_less_free_than_its_machine(tmp_path, monkeypatch):
  whole = memory.free()
  (tmp_path / 'memory.max').write_text('3000000')
  (tmp_path / 'memory.current').write_text('1000000')
  monkeypatch.setattr(memory, '_CGROUP', tmp_path)
  assert memory.free() == 2_000_000
  # Files that were read are no use of memory.
  (tmp_path / 'memory.stat').write_text('anon 90\ninactive_file 400000\nactive_file 7\n')
  assert memory.free() == 2_400_000
  (tmp_path / 'memory.stat').write_text('nonsense\n')
  assert memory.free() == 2_000_000
  (tmp_path / 'memory.max').write_text('max')
  assert memory.free() == pytest.approx(whole, rel=0.5)


def test_memory_is_given_back_only_after_growth(monkeypatch):
  """Looking for garbage takes seconds in a process of millions of objects."""
  held, collected = [2 << 30], []
  monkeypatch.setattr(memory, 'resident', lambda: held[0])
  monkeypatch.setattr(memory.gc, 'collect', lambda: collected.append(held[0]))
  monkeypatch.setattr(memory, '_after_release', 0)
  for now in (
    1 << 30,
    2 << 30,
    (2 << 30) + 1,
    (2 << 30) + (300 << 20),
    2 << 30,
    (2 << 30) + (260 << 20),
  ):
    held[0] = now
    memory.release()
  assert collected == [2 << 30, (2 << 30) + (300 << 20), (2 << 30) + (260 << 20)]


_GIVEN_BACK = """
from secateurs.utils import memory
from secateurs.utils.quiet import quiet_tensorflow
quiet_tensorflow()
import tensorflow as tf
memory._SMALL = memory._GROWTH = 0
memory.release()
before = memory.resident()
tensors = [tf.fill([8 * memory.MEGABYTE // 4], 1.0) for _ in range(25)]
assert memory.resident() - before > 180 * memory.MEGABYTE
tensors.clear()
memory.release()
print((memory.resident() - before) // memory.MEGABYTE)
"""


@pytest.mark.skipif(not memory._IS_LINUX, reason='other systems have other heaps')
def test_what_tensors_took_is_given_back_where_that_is_asked_for():
  """TensorFlow's own allocator would keep it until the process ends."""
  run = subprocess.run(
    [sys.executable, '-c', _GIVEN_BACK],
    env=os.environ | {memory._SYSTEM_ALLOCATOR: '1'},
    capture_output=True,
    text=True,
    check=True,
  )
  assert int(run.stdout) < 40


@pytest.mark.parametrize(
  ('asked', 'free', 'shared'),
  [('0', 1, False), ('1', 99, True), (None, 15, True), (None, 17, False)],
)
def test_memory_is_shared_where_it_is_scarce(monkeypatch, asked, free, shared):
  options = []
  monkeypatch.setattr(memory, '_set_option', lambda *option: options.append(option) or True)
  monkeypatch.setattr(memory, 'free', lambda: free << 30)
  if asked is None:
    monkeypatch.delenv(memory._SYSTEM_ALLOCATOR, raising=False)
  else:
    monkeypatch.setenv(memory._SYSTEM_ALLOCATOR, asked)
  memory.shared_with_tensorflow()
  assert memory.is_shared() is shared
  assert ((-8, 1) in options) is shared
  monkeypatch.delenv(memory._SYSTEM_ALLOCATOR)
  assert not memory.is_shared()  # TensorFlow came without this project.
