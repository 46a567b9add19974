"""One command at a time in the folders of a run: locks that a crash does not leave locked."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import filelock

from secateurs.utils.errors import UserError
from secateurs.utils.training import distributed

_held: dict[Path, tuple[filelock.FileLock, Path]] = {}
"""What this process has, which may use a folder several times, and for which run's first folder."""


def acquire(folders: Mapping[Path, str]) -> None:
  """Takes folders for this process; of several processes of a job the chief takes them for all.

  The operating system frees the locks when the process ends, however it ends.

  Args:
    folders: of a run, the first of which names it, with the flag that chooses another one.

  Raises:
    UserError: another process has one of them; then none is taken.
  """
  distributed.from_chief(lambda: _acquire(folders))


@contextlib.contextmanager
def held(folders: Mapping[Path, str]) -> Iterator[None]:
  """Has folders for this process inside a `with`; those that this process had before stay taken.

  Where there is no such folder, or this process cannot write to it, there is nothing to take.

  Args:
    folders: as of `acquire`.

  Raises:
    UserError: another process has one of them.
  """
  run = next(iter(folders))
  before = run.absolute() in _held
  there = {
    path: flag for path, flag in folders.items() if path.is_dir() and os.access(path, os.W_OK)
  }
  distributed.from_chief(lambda: _acquire(there, run))
  try:
    yield
  finally:
    if not before:
      release(run)


def release(folder: Path) -> None:
  """Gives back a run's first folder and those that were taken with it, if this process has them."""
  run = folder.absolute()
  for path in [path for path, (_, owner) in _held.items() if owner == run]:
    _held.pop(path)[0].release()


def _acquire(folders: Mapping[Path, str], run: Path | None = None) -> None:
  owner = (run or next(iter(folders))).absolute()
  taken: list[Path] = []
  for folder, flag in folders.items():
    path = folder.absolute()
    if path in _held:
      continue
    lock = filelock.FileLock(path / '.lock')
    try:
      lock.acquire(blocking=False)
    except filelock.Timeout as error:
      for earlier in taken:
        _held.pop(earlier)[0].release()
      raise UserError(
        f'Another command is working in {path}: wait until it has ended, or give another {flag}.'
      ) from error
    _held[path] = lock, owner
    taken.append(path)
