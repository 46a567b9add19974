"""Reads through an HDF5 file, as a separate program: `python hdf5_walk.py FILE [FOLDER ...]`.

The HDF5 library can run for ever in a damaged file. What happens here happens in a process that can
be ended. Packages are looked for in the folders: those of the process that asks.
"""

from __future__ import annotations

import sys
from typing import Any


def walk(path: str) -> None:
  """Reads all names, attributes and data.

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
          one[()]


if __name__ == '__main__':
  sys.path[:] = sys.argv[2:] or sys.path
  walk(sys.argv[1])
