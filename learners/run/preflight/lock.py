"""One command at a time in the folder of a run: a lock that a crash does not leave locked."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
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


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
  """Has a folder for this process inside a `with`; one that this process had before stays taken.

  Where there is no such folder, or this process cannot write to it, there is nothing to take.

  Raises:
    UserError: another process has it.
  """
  path = folder.absolute()
  before = path in _held

  def take() -> None:
    if path.is_dir() and os.access(path, os.W_OK):
      _acquire(path)

  distributed.from_chief(take)
  try:
    yield
  finally:
    if not before:
      release(folder)


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
