"""Small YAML files of users."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from secateurs.utils.errors import UserError

_MOST_VALUES = 100_000


def read_yaml(path: Path, flag: str) -> Any:
  """Reads a file of plain values; tags that make Python objects are refused.

  Args:
    path: the file.
    flag: that named it, for messages.

  Raises:
    UserError: it is missing, no YAML, or has more values than anybody writes.
  """
  import yaml

  if not path.is_file():
    raise UserError(f'{flag} {path} does not exist: give the path of a YAML file.')
  try:
    found = yaml.safe_load(path.read_text(encoding='utf-8'))
    _require_small(found)
    return found
  except Exception as error:  # Dates that are none, and deep nesting, have types of their own.
    reason = ' '.join(str(error).split())[:200]
    raise UserError(f'{flag} {path} is no YAML file ({reason}): correct it there.') from error


def _require_small(found: Any) -> None:
  """Counts values as often as they are named: a few names of names can stand for any number.

  Raises:
    ValueError: there are too many.
  """
  pending, count = [found], 0
  while pending:
    one, count = pending.pop(), count + 1
    if count > _MOST_VALUES:
      raise ValueError(f'it stands for over {_MOST_VALUES} values')
    if isinstance(one, dict):
      pending += [*one.keys(), *one.values()]
    elif isinstance(one, (list, tuple, set)):
      pending += one
