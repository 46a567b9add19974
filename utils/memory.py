"""Memory of this process and of the machine, in bytes, as the system counts it."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import resource
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

MEGABYTE = 1 << 20
_CGROUP = Path('/sys/fs/cgroup')
_SECONDS_BETWEEN_SAMPLES = 0.05
_SMALL, _GROWTH = 1536 * MEGABYTE, 256 * MEGABYTE
_PLENTY = 16384 * MEGABYTE
_IS_LINUX = sys.platform.startswith('linux')
# Of glibc's mallopt; 32 MB is the most that the threshold of single mappings may be.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
_USUAL_MMAP_THRESHOLD, _NEVER = 32 * MEGABYTE, 2**31 - 1
_SYSTEM_ALLOCATOR = 'TF_ONEDNN_USE_SYSTEM_ALLOCATOR'  # Read by TensorFlow at its first tensor.
_OFF = ('0', 'false')

_after_release = 0  # What the process held after it gave back memory the last time; at most.


def resident() -> int:
  """What this process holds in memory now."""
  import psutil

  return psutil.Process().memory_info().rss


def peak() -> int:
  """The most that this process has held so far."""
  most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  return most if sys.platform == 'darwin' else 1024 * most


def free() -> int:
  """What this process may still take: what the machine has free, or less inside a limited container."""
  import psutil

  available = psutil.virtual_memory().available
  try:
    limit = int((_CGROUP / 'memory.max').read_text())
    used = int((_CGROUP / 'memory.current').read_text()) - _given_back()
  except (OSError, ValueError):  # No such limit, or none of version 2.
    return available
  return max(min(available, limit - used), 0)


def _given_back() -> int:
  """What of a container's use are copies of files that the system drops when memory is needed."""
  try:
    lines = (_CGROUP / 'memory.stat').read_text().splitlines()
    return int(dict(line.split() for line in lines).get('inactive_file', 0))
  except (OSError, ValueError):
    return 0


def shared_with_tensorflow() -> None:
  """Has TensorFlow take its memory from the C library where it is scarce; before its first tensor.

  Built with oneDNN it otherwise keeps what it has freed for itself, so that matrices of NumPy and files
  that are made after a training come on top of what that training took. Here all threads share one
  heap, which keeps blocks of up to 32 MB until `release`: otherwise each step would ask the system for
  its memory again. As a step takes 4 to 9 % longer (docs/scale.md), this is done where less than 16 GB
  are free, or where TF_ONEDNN_USE_SYSTEM_ALLOCATOR=1 asks for it; 0 leaves TensorFlow its own
  allocator in any case. Results are the same.
  """
  wanted = os.environ.setdefault(_SYSTEM_ALLOCATOR, '1' if free() < _PLENTY else '0')
  if wanted not in _OFF:
    _set_option(_M_ARENA_MAX, 1)
    _set_option(_M_TRIM_THRESHOLD, _NEVER)
    _set_option(_M_MMAP_THRESHOLD, _USUAL_MMAP_THRESHOLD)


def is_shared() -> bool:
  """Whether TensorFlow gives back what it has freed: not where it came before this project."""
  return os.environ.get(_SYSTEM_ALLOCATOR, '0') not in _OFF


def release() -> None:
  """Gives back to the system what the process has freed but the C library still keeps for it.

  Feature maps and weights come and go in many sizes and threads; without this hundreds of megabytes
  of holes stay until the end. A process that is small or has not grown since is left alone: looking for
  garbage among millions of objects takes seconds.
  """
  global _after_release
  now = resident()
  _after_release = min(_after_release, now)
  if now < max(_SMALL, _after_release + _GROWTH):
    return
  gc.collect()
  if _IS_LINUX:
    trim = getattr(ctypes.CDLL(None), 'malloc_trim', None)  # glibc alone has it.
    if trim is not None:
      trim(0)
  _after_release = resident()


@contextlib.contextmanager
def returned_at_once() -> Iterator[None]:
  """Has the C library give back freed memory of over a megabyte at once inside the block.

  By default it keeps up to 32 MB of each size for the next request, which is faster but lets the peak
  of work on many copies of all weights, such as an export, grow to twice what it needs.
  """
  if not _set_option(_M_MMAP_THRESHOLD, MEGABYTE):
    yield
    return
  try:
    yield
  finally:
    _set_option(_M_MMAP_THRESHOLD, _USUAL_MMAP_THRESHOLD)
    release()


def _set_option(option: int, value: int) -> bool:
  """Sets an option of the C library's heap; whether it has such options, as glibc alone does."""
  mallopt = getattr(ctypes.CDLL(None), 'mallopt', None) if _IS_LINUX else None
  return mallopt is not None and mallopt(option, value) == 1


class PeakSampler:
  """The most that this process holds while the sampler runs.

  The system keeps one peak for the whole process; that of a part of it is sampled, 20 times a second.
  """

  def __init__(self) -> None:
    self._most = 0
    self._stop = threading.Event()
    self._thread = threading.Thread(target=self._watch, name='memory', daemon=True)

  def __enter__(self) -> PeakSampler:
    self._thread.start()
    return self

  def __exit__(self, *error: object) -> None:
    self._stop.set()
    self._thread.join()

  def read(self) -> int:
    """The peak so far, in bytes."""
    self._most = max(self._most, resident())
    return self._most

  def _watch(self) -> None:
    while not self._stop.wait(_SECONDS_BETWEEN_SAMPLES):
      self.read()
