"""Small YAML files of users."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from secateurs.utils.errors import UserError


def read_yaml(path: Path, flag: str) -> Any:
  """Reads a file of plain values; tags that make Python objects are refused.

  Args:
    path: the file.
    flag: that named it, for messages.

  Raises:
    UserError: it is missing, or no YAML.
  """
  import yaml

  if not path.is_file():
    raise UserError(f'{flag} {path} does not exist: give the path of a YAML file.')
  try:
    return yaml.safe_load(path.read_text(encoding='utf-8'))
  except (yaml.YAMLError, UnicodeDecodeError) as error:
    reason = ' '.join(str(error).split())[:200]
    raise UserError(f'{flag} {path} is no YAML file ({reason}): correct it there.') from error
