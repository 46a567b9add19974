"""Memory as the system counts it."""

import os

import numpy as np
import pytest
import tensorflow as tf

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


@pytest.mark.skipif(not memory._IS_LINUX, reason='other systems have other heaps')
def test_what_tensors_took_is_given_back(monkeypatch):
  """TensorFlow's own allocator would keep it until the process ends."""
  monkeypatch.setattr(memory, '_SMALL', 0)
  monkeypatch.setattr(memory, '_GROWTH', 0)
  memory.release()
  before = memory.resident()
  tensors = [tf.fill([8 * memory.MEGABYTE // 4], 1.0) for _ in range(25)]
  assert memory.resident() - before > 180 * memory.MEGABYTE
  tensors.clear()
  memory.release()
  assert memory.resident() - before < 40 * memory.MEGABYTE


def test_the_user_may_leave_tensorflow_its_allocator(monkeypatch):
  options = []
  monkeypatch.setattr(memory, '_set_option', lambda *option: options.append(option) or True)
  monkeypatch.setenv(memory._SYSTEM_ALLOCATOR, '0')
  memory.shared_with_tensorflow()
  assert not options
  assert not memory.is_shared()
  monkeypatch.delenv(memory._SYSTEM_ALLOCATOR)
  assert not memory.is_shared()  # TensorFlow came without this project.
  memory.shared_with_tensorflow()
  assert memory.is_shared()
  assert os.environ[memory._SYSTEM_ALLOCATOR] == '1'
  assert (-8, 1) in options
