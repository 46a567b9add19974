"""Memory of this process and of the machine, in bytes, as the system counts it."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import resource
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

MEGABYTE = 1 << 20
_CGROUP = Path('/sys/fs/cgroup')
_SECONDS_BETWEEN_SAMPLES = 0.05
_SMALL, _GROWTH = 1536 * MEGABYTE, 256 * MEGABYTE
_IS_LINUX = sys.platform.startswith('linux')
_M_MMAP_THRESHOLD, _USUAL_MMAP_THRESHOLD = -3, 32 * MEGABYTE  # Of glibc's mallopt.

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
  set_option = getattr(ctypes.CDLL(None), 'mallopt', None) if _IS_LINUX else None
  if set_option is None:
    yield
    return
  set_option(_M_MMAP_THRESHOLD, MEGABYTE)
  try:
    yield
  finally:
    set_option(_M_MMAP_THRESHOLD, _USUAL_MMAP_THRESHOLD)
    release()


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
