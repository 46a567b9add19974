"""NumPy files of users: arrays, or one sentence."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from secateurs.utils.errors import UserError
from secateurs.utils.unpacking import check_archive


def read_npz(path: Path) -> dict[str, np.ndarray]:
  """Reads all arrays; pickled objects are refused.

  Raises:
    UserError: it is no such archive, or damaged, or its arrays do not fit into memory.
  """
  try:
    check_archive(path)
    with np.load(path, allow_pickle=False) as archive:
      found = {name: archive[name] for name in archive.files}
      others = [name for name, value in found.items() if not isinstance(value, np.ndarray)]
      if others:  # NumPy gives the bytes of what it does not know.
        raise ValueError(f'{others[0]} is no array')
      return found
  except UserError:
    raise
  except Exception as error:  # NumPy and zipfile raise many types for what is damaged.
    reason = ' '.join(str(error).split())[:200]
    raise UserError(
      f'{path} cannot be read as a NumPy archive ({reason}): it is damaged, use another.'
    ) from error


def read_npy(path: Path) -> np.ndarray:
  """Reads one array; pickled objects are refused.

  Raises:
    UserError: it is no array, or damaged.
  """
  try:
    found = np.load(path, allow_pickle=False)
    if not isinstance(found, np.ndarray):
      raise ValueError('it holds several arrays')
    return found
  except Exception as error:  # Of many types, tokenize's own among them.
    reason = ' '.join(str(error).split())[:200]
    raise UserError(
      f'{path} cannot be read as a NumPy array ({reason}): it is damaged, use another.'
    ) from error
