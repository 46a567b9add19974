"""Checkpoints that survive a kill at any moment.

A checkpoint is a tf.train checkpoint (`<prefix>-<n>.index`, `<prefix>-<n>.data-*`) plus a record
`<prefix>-<n>.json` with the run's state, the size and CRC-32 of each of its files, and a CRC-32 of the
record itself. The record is written last and moved into place in one step: a checkpoint without one is
torn, one whose files or record differ from it is damaged. Neither is ever chosen; of the damaged ones
the user hears. With several processes the chief reads and writes for all.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import re
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from secateurs.utils.errors import UserError, first_line
from secateurs.utils.files import atomic_path
from secateurs.utils.training import distributed
from secateurs.utils.training.models.weights import assign_weights

_NB_KEPT = 2
_CHUNK = 1 << 20
_SUM = 'crc32'
_KEY_PREFIX = 'variables/'
_KEY_SUFFIX = '/.ATTRIBUTES/VARIABLE_VALUE'


@dataclasses.dataclass(frozen=True)
class Saved:
  """A whole checkpoint on disk.

  Attributes:
    prefix: path of its files without their endings.
    number: counts up within a store.
    state: what was given to `CheckpointStore.save`.
  """

  prefix: Path
  number: int
  state: dict[str, Any]

  def restore(self, variables: Mapping[str, tf.Variable], *, group: str) -> None:
    """Assigns the values of one group, such as `model`, to variables of the same names.

    Raises:
      UserError: names or shapes differ.
    """
    assign_weights(variables, self.values(group), f'checkpoint {self.prefix}')

  def values(self, group: str) -> dict[str, np.ndarray]:
    """The arrays of one group by name, without the group's own name."""
    return distributed.from_chief(lambda: checkpoint_values(self.prefix, group))


class CheckpointStore:
  """The checkpoints below one prefix, such as ./models/model.ckpt; the last two are kept."""

  def __init__(self, prefix: str | Path) -> None:
    self.prefix = Path(prefix)

  def save(self, groups: Mapping[str, Mapping[str, tf.Variable]], state: Mapping[str, Any]) -> None:
    """Writes a checkpoint and deletes those before the last one.

    Args:
      groups: variables by name, by group, such as {'model': {...}, 'optimizer': {...}}.
      state: what else a resumed run must know; must be JSON.

    Raises:
      UserError: the folder cannot be written to.
    """
    distributed.from_chief(lambda: self._save(groups, state))

  def _save(
    self, groups: Mapping[str, Mapping[str, tf.Variable]], state: Mapping[str, Any]
  ) -> None:
    numbers = self._numbers()
    number = max(numbers, default=0) + 1
    target = self._path(number)
    variables = {f'{group}/{n}': v for group, members in groups.items() for n, v in members.items()}
    try:
      self.prefix.parent.mkdir(parents=True, exist_ok=True)
      tf.train.Checkpoint(variables=variables).write(str(target))
      record = {'state': dict(state), 'files': {f.name: _fingerprint(f) for f in _files(target)}}
      record[_SUM] = _sum_of(record)
      with atomic_path(_record_path(target)) as partial:
        partial.write_text(json.dumps(record, indent=1), encoding='utf-8')
    except (OSError, tf.errors.OpError) as error:
      raise UserError(
        f'The checkpoint {target} could not be written ({_reason(error)}): make room or give another '
        'path; the checkpoints before it were kept.'
      ) from error
    for old in sorted(numbers)[: 1 - _NB_KEPT or None]:
      self._delete(old)

  def latest(self) -> Saved | None:
    """The newest whole checkpoint, or None; damaged ones that are newer are named in a line."""
    return distributed.from_chief(self._latest)

  def _latest(self) -> Saved | None:
    damaged, found = [], None
    for number in sorted(self._numbers(), reverse=True):
      prefix = self._path(number)
      record = _read_record(prefix)
      if record is not None:
        found = Saved(prefix, number, record['state'])
        break
      if _record_path(prefix).is_file():
        damaged.append(prefix)
    for prefix in damaged:
      _say_damaged(str(prefix), None if found is None else str(found.prefix))
    return found

  def set_aside(self, folder: Path) -> None:
    """Moves all checkpoints into a new folder."""
    distributed.from_chief(lambda: self._set_aside(folder))

  def _set_aside(self, folder: Path) -> None:
    folder.mkdir(parents=True)
    for number in self._numbers():
      prefix = self._path(number)
      # The record first: without it the files that are left do not look whole.
      for file in [_record_path(prefix), *_files(prefix)]:
        if file.is_file():
          file.rename(folder / file.name)

  def _path(self, number: int) -> Path:
    return self.prefix.with_name(f'{self.prefix.name}-{number}')

  def _numbers(self) -> set[int]:
    pattern = re.compile(re.escape(self.prefix.name) + r'-(\d+)\.(?:index|data-.*|json)')
    folder = self.prefix.parent
    names = (p.name for p in folder.iterdir()) if folder.is_dir() else ()
    return {int(match[1]) for name in names if (match := pattern.fullmatch(name))}

  def _delete(self, number: int) -> None:
    """Deletes a checkpoint, its record first, so that it never looks whole in between."""
    prefix = self._path(number)
    _record_path(prefix).unlink(missing_ok=True)
    for file in _files(prefix):
      file.unlink(missing_ok=True)


def require_undamaged(prefix: Path) -> None:
  """Checks the files of a checkpoint against its record, if that is there.

  Args:
    prefix: path of its files without their endings.

  Raises:
    UserError: they differ.
  """
  if _record_path(prefix).is_file() and _read_record(prefix) is None:
    raise UserError(
      f'{prefix} is damaged: its files are not those that were written; use another checkpoint.'
    )


@functools.lru_cache(maxsize=64)  # A run looks for its checkpoint several times.
def _say_damaged(prefix: str, taken: str | None) -> None:
  instead = f'{taken} is taken' if taken else 'there is no whole one, what it held is done again'
  print(
    f'Warning: the checkpoint {prefix} is damaged, its files are not those that were written: '
    f'{instead}.',
    flush=True,
  )


def _record_path(prefix: Path) -> Path:
  return prefix.with_name(f'{prefix.name}.json')


def _sum_of(record: Mapping[str, Any]) -> int:
  """CRC-32 of a record without its own sum, as it reads once it was written."""
  return zlib.crc32(json.dumps({key: record[key] for key in record if key != _SUM}).encode())


def _files(prefix: Path) -> list[Path]:
  endings = re.compile(re.escape(prefix.name) + r'\.(?:index|data-.*)')
  return sorted(p for p in prefix.parent.iterdir() if endings.fullmatch(p.name))


def _fingerprint(path: Path) -> dict[str, int]:
  size = checksum = 0
  with path.open('rb') as file:
    while chunk := file.read(_CHUNK):
      size += len(chunk)
      checksum = zlib.crc32(chunk, checksum)
  return {'bytes': size, 'crc32': checksum}


def _read_record(prefix: Path) -> dict[str, Any] | None:
  """The record of a checkpoint whose files are all as it says; those of old ones have no sum."""
  try:
    record = json.loads(_record_path(prefix).read_text(encoding='utf-8'))
    if not set(record) <= {'state', 'files', _SUM} or record.get(_SUM) not in (
      None,
      _sum_of(record),
    ):
      return None
    whole = all(
      _fingerprint(prefix.with_name(name)) == expected for name, expected in record['files'].items()
    )
    return record if whole and record['files'] and 'state' in record else None
  except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
    return None


def _reason(error: Exception) -> str:
  if isinstance(error, OSError) and error.strerror:
    return error.strerror
  return first_line(error)


def checkpoint_values(prefix: str | Path, group: str) -> dict[str, np.ndarray]:
  """One group's tensors of a checkpoint that `CheckpointStore` wrote, by name.

  The names are without the group's own; no other tensor is read.
  """
  reader, start = tf.train.load_checkpoint(str(prefix)), f'{group}/'
  names = {key: _name_of_key(key) for key in reader.get_variable_to_shape_map()}
  return {
    name.removeprefix(start): reader.get_tensor(key)
    for key, name in names.items()
    if name is not None and name.startswith(start)
  }


def _name_of_key(key: str) -> str | None:
  if not (key.startswith(_KEY_PREFIX) and key.endswith(_KEY_SUFFIX)):
    return None
  name = key[len(_KEY_PREFIX) : -len(_KEY_SUFFIX)]
  return name.replace('.S', '/').replace('..', '.')
