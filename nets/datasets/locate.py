"""Finds the folder of a data set: the flag, then path.conf, then the environment."""

from __future__ import annotations

import os
from pathlib import Path

from secateurs.utils.errors import UserError

ENVIRONMENT = 'SECATEURS_DATA'
PATH_CONF = Path('path.conf')


def read_path_conf(path: Path = PATH_CONF) -> dict[str, str]:
  """Reads `key = value` lines; `#` starts a comment, and the value None means not set.

  Raises:
    UserError: a line is not empty, not a comment and not an assignment.
  """
  entries: dict[str, str] = {}
  if not path.is_file():
    return entries
  for number, line in enumerate(path.read_text(encoding='utf-8').splitlines(), 1):
    line = line.split('#', 1)[0].strip()
    if not line:
      continue
    key, separator, value = (part.strip() for part in line.partition('='))
    if not separator or not key:
      raise UserError(
        f'{path} line {number} is {line!r}, but `key = value` was expected: fix or delete it.'
      )
    if value and value != 'None':
      entries[key] = value
  return entries


def data_folder(dataset: str, flag: str | None) -> tuple[Path, str] | None:
  """Finds the folder given for a data set.

  Args:
    dataset: its name, such as `cifar10`.
    flag: value of --data_dir_local.

  Returns:
    The folder and the place that names it (for error messages), or None if no folder is named.

  Raises:
    UserError: the folder does not exist.
  """
  key = f'data_dir_local_{dataset}'
  candidates = (
    ('--data_dir_local', flag),
    (f'{key} in path.conf', read_path_conf().get(key)),
    (f'the environment variable {ENVIRONMENT}', os.environ.get(ENVIRONMENT)),
  )
  for source, value in candidates:
    if not value:
      continue
    folder = Path(value).expanduser()
    if not folder.is_dir():
      raise UserError(
        f'{source} names {value}, which is not a folder: give the folder that contains the data.'
      )
    return folder, source
  return None
