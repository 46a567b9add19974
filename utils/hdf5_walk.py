"""Reads through an HDF5 file, as a separate program: `python hdf5_walk.py FILE`.

The HDF5 library can run for ever in a damaged file. What happens here happens in a process that can
be ended.
"""

from __future__ import annotations

import sys

import h5py


def walk(path: str) -> None:
  """Reads all names, attributes and data.

  Raises:
    Exception: of many types, if the file is damaged.
  """
  with h5py.File(path) as file:
    pending: list[h5py.Group] = [file]
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
  walk(sys.argv[1])
