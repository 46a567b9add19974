"""One command at a time in the folder of a run: a lock that a crash does not leave locked."""

from __future__ import annotations

from pathlib import Path

import filelock

from secateurs.utils.errors import UserError
from secateurs.utils.training import distributed

_held: dict[Path, filelock.FileLock] = {}  # By this process, which may use a folder several times.


def acquire(folder: Path) -> None:
  """Takes a folder for this process; of several processes of a job the chief takes it for all.

  The operating system frees the lock when the process ends, however it ends.

  Raises:
    UserError: another process has it.
  """
  distributed.from_chief(lambda: _acquire(folder.absolute()))


def release(folder: Path) -> None:
  """Gives a folder back, if this process has it."""
  lock = _held.pop(folder.absolute(), None)
  if lock is not None:
    lock.release()


def _acquire(folder: Path) -> None:
  if folder in _held:
    return
  lock = filelock.FileLock(folder / '.lock')
  try:
    lock.acquire(blocking=False)
  except filelock.Timeout as error:
    raise UserError(
      f'Another command is working in {folder}: wait until it has ended, or give another --run_dir.'
    ) from error
  _held[folder] = lock
