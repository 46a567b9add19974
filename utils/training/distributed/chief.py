"""What one rank does for all: the chief's files and decisions, and what a host needs once."""

from __future__ import annotations

import contextlib
import pickle
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from secateurs.utils.errors import UserError
from secateurs.utils.training.distributed.objects import (
  T,
  barrier,
  broadcast_object,
  gather_objects,
)
from secateurs.utils.training.distributed.world import alone, horovod, is_chief, size


def from_chief(function: Callable[[], T]) -> T:
  """Runs a function on the chief alone and gives its value to all ranks.

  What it raises is raised on all ranks.
  """
  if size() == 1:
    return function()
  value, error = None, None
  if is_chief():
    with alone():
      try:
        value = function()
      except Exception as raised:
        error = raised
    broadcast_object((None, _portable(error)) if error is not None else (value, None))
    if error is not None:
      raise error
    return value
  value, error = broadcast_object((value, error))
  if error is not None:
    raise error
  return value


def _portable(error: Exception) -> Exception:
  """The error itself if it can be sent, else one with the same text."""
  try:
    pickle.loads(pickle.dumps(error))
  except Exception:
    return RuntimeError(f'{type(error).__name__}: {error}')
  return error


def first_on_host(function: Callable[[], T]) -> T:
  """Runs a function on all ranks, on one rank of each host before the others.

  For what fills a host's cache, such as a download: the others find it there.
  """
  hvd = horovod()
  if hvd is None:
    return function()
  if hvd.local_rank() != 0:
    barrier()
    return function()
  try:
    return function()
  finally:
    barrier()


@contextlib.contextmanager
def chiefs_file(path: Path) -> Iterator[Path]:
  """A path at which every rank finds the chief's file; folders are taken to be on all hosts."""
  if size() == 1 or from_chief(path.is_dir):
    yield path
    return
  content = from_chief(path.read_bytes)
  if is_chief():
    yield path
    return
  with tempfile.TemporaryDirectory(prefix='secateurs-') as folder:
    copy = Path(folder) / path.name
    copy.write_bytes(content)
    yield copy


def require_agreement(facts: dict[str, Any]) -> None:
  """Compares what must be the same on all ranks, such as flags and versions.

  Raises:
    UserError: a rank has other facts than the chief; each is named.
  """
  everyone = gather_objects(facts)
  for number, theirs in enumerate(everyone):
    differing = [
      f'{key} {everyone[0].get(key)} on rank 0 but {theirs.get(key)} on rank {number}'
      for key in {**everyone[0], **theirs}
      if everyone[0].get(key) != theirs.get(key)
    ]
    if differing:
      raise UserError(
        f'The processes of this job do not agree ({"; ".join(differing[:6])}): start all of them '
        'with the same flags, from the same version of the code and its libraries.'
      )
