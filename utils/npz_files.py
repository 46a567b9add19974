"""NumPy archives of users: all arrays by name, or one sentence."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np

from secateurs.utils.errors import UserError

_DAMAGES = (zipfile.BadZipFile, zlib.error, ValueError, OSError, EOFError, KeyError)
_DAMAGES += (
  NotImplementedError,
  RuntimeError,
)  # A method of compression, or a password, that is none.


def read_npz(path: Path) -> dict[str, np.ndarray]:
  """Reads all arrays; pickled objects are refused.

  Raises:
    UserError: it is no such archive, or damaged.
  """
  try:
    with np.load(path, allow_pickle=False) as archive:
      return {name: archive[name] for name in archive.files}
  except _DAMAGES as error:
    reason = ' '.join(str(error).split())[:200]
    raise UserError(
      f'{path} cannot be read as a NumPy archive ({reason}): it is damaged, use another.'
    ) from error
