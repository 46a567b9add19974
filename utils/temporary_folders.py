"""Temporary folders that do not outlive a killed process for long."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import filelock

_PREFIX = 'secateurs-held-'
_LOCK = '.lock'
_SECONDS_TO_LOCK = 60.0  # A younger folder may be about to be locked.


@contextlib.contextmanager
def held_folder() -> Iterator[Path]:
  """Yields a new folder in that for temporary files, and removes it at the end.

  A process that is killed leaves it there. Its lock then is free, by which the next call finds such
  folders and removes them; those of processes that live, in other containers too, stay.

  Raises:
    OSError: there is no room.
  """
  remove_abandoned()
  folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
  try:
    with filelock.FileLock(folder / _LOCK):
      inside = folder / 'files'
      inside.mkdir()
      yield inside
  finally:
    shutil.rmtree(folder, ignore_errors=True)


def remove_abandoned() -> None:
  """Removes what killed processes have left."""
  for folder in Path(tempfile.gettempdir()).glob(f'{_PREFIX}*'):
    with contextlib.suppress(OSError):  # It is gone, or locked by a process that lives.
      found = folder.lstat()
      mine = found.st_uid == os.getuid() and stat.S_ISDIR(found.st_mode)
      if not mine or time.time() - found.st_mtime < _SECONDS_TO_LOCK:
        continue
      with filelock.FileLock(folder / _LOCK, timeout=0):
        shutil.rmtree(folder, ignore_errors=True)
