"""Reads through an HDF5 file, as a separate program: `python hdf5_walk.py FILE BYTES [FOLDER ...]`.

The HDF5 library can run for ever in a damaged file. What happens here happens in a process that can
be ended. Packages are looked for in the folders: those of the process that asks.
"""

from __future__ import annotations

import sys
from typing import Any


def walk(path: str, room: int) -> None:
  """Reads all names, attributes and data.

  Args:
    path: of the file.
    room: bytes that the data may take in all; a small file can say that it holds any number of zeros.

  Raises:
    Exception: of many types, if the file is damaged.
  """
  import h5py

  with h5py.File(path) as file:
    pending: list[Any] = [file]
    seen = set()
    while pending:
      group = pending.pop()
      dict(group.attrs)
      for name in group:
        one = group[name]
        place = h5py.h5o.get_info(one.id).addr
        if place in seen:  # Links can make a ring.
          continue
        seen.add(place)
        if isinstance(one, h5py.Group):
          pending.append(one)
        else:
          dict(one.attrs)
          room -= (one.size or 0) * one.dtype.itemsize  # Of an empty one the size is None.
          if room < 0:
            raise MemoryError('it holds more data than fits into memory')
          one[()]


if __name__ == '__main__':
  sys.path[:] = sys.argv[3:] or sys.path
  walk(sys.argv[1], int(sys.argv[2]))
