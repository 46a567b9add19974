"""Finds out whether an HDF5 file can be read, before this process opens it."""

from __future__ import annotations

import functools
import io
import os
import subprocess
import sys
import zipfile
from pathlib import Path

from secateurs.utils import hdf5_walk, memory
from secateurs.utils.errors import UserError

SIGNATURE = b'\x89HDF\r\n\x1a\n'
"""How an HDF5 file begins."""
_SECONDS, _BYTES_A_SECOND = 20.0, 20e6


def check_hdf5(path: str | os.PathLike, name: str | os.PathLike | None = None) -> None:
  """Reads an HDF5 file in a separate process, once; any other file passes.

  Args:
    path: of the file.
    name: what messages call it, where it is a copy.

  Raises:
    UserError: the file cannot be read to its end, not in reasonable time, or not in the free memory.
  """
  path = Path(path)
  if not path.is_file():
    return
  with path.open('rb') as file:
    if file.read(len(SIGNATURE)) != SIGNATURE:
      return
  stat = path.stat()
  problem = _problem(str(path.resolve()), stat.st_size, stat.st_mtime_ns)
  if problem is not None:
    raise UserError(f'{name or path} {problem}: it is damaged, use another copy of it.')


def check_archived(path: str | os.PathLike, name: str | os.PathLike | None = None) -> None:
  """Checks that the HDF5 files in a .keras file refer to no other file; any other file passes.

  Data could come from any file of the user, and would be in whatever is made of the model.

  Raises:
    UserError: one does.
    Exception: of many types, if the file is damaged.
  """
  if not os.path.isfile(path) or not zipfile.is_zipfile(path):
    return
  import h5py

  with zipfile.ZipFile(path) as archive:
    for entry in archive.namelist():
      if not entry.endswith('.h5'):
        continue
      # From memory: to go back in an entry of an archive, Python reads it again from its start.
      with h5py.File(io.BytesIO(archive.read(entry))) as file:
        try:
          hdf5_walk.require_all_own(file)
        except ValueError as error:
          raise UserError(
            f'{name or path} takes data from elsewhere ({error}), but weights in the file itself were '
            'expected: save the model again.'
          ) from error


@functools.lru_cache(maxsize=64)
def _problem(path: str, size: int, _changed: int) -> str | None:
  limit = _SECONDS + size / _BYTES_A_SECOND
  room = str(memory.free())
  command = [sys.executable, '-I', hdf5_walk.__file__, path, room, *sys.path]
  try:
    done = subprocess.run(
      command, stdin=subprocess.DEVNULL, capture_output=True, timeout=limit, check=False
    )
  except subprocess.TimeoutExpired:
    return f'cannot be read by the HDF5 library within {limit:.0f} s'
  if done.returncode == 0:
    return None
  lines = done.stderr.decode(errors='replace').strip().splitlines()
  return f'cannot be read by the HDF5 library ({lines[-1][:200] if lines else done.returncode})'
