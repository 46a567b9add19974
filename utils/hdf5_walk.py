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
    Exception: of many types, if the file is damaged, or refers to other files.
  """
  import h5py

  with h5py.File(path) as file:
    pending: list[Any] = [file]
    seen = set()
    while pending:
      group = pending.pop()
      dict(group.attrs)
      for name in group:
        require_own(group, name)
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


def require_own(group: Any, name: str) -> None:
  """Checks that what a group calls so is in its file: HDF5 can refer to any other file.

  Args:
    group: of an open HDF5 file.
    name: of a member.

  Raises:
    ValueError: it is in another file.
  """
  import h5py

  link = group.get(name, getlink=True)
  if isinstance(link, h5py.ExternalLink):
    raise ValueError(f'its entry {name!r} is in another file, {link.filename!r}')
  if not isinstance(link, h5py.HardLink):  # What it leads to has a hard link.
    return
  one = group[name]
  if isinstance(one, h5py.Dataset) and (one.external or one.is_virtual):
    raise ValueError(f'the data of its entry {name!r} are in other files')


def require_all_own(file: Any) -> None:
  """Checks all that is below a group, following no link; no data are read.

  Raises:
    ValueError: something is in another file.
  """
  import h5py

  pending, seen = [file], set()
  while pending:
    group = pending.pop()
    for name in group:
      require_own(group, name)
      if group.get(name, getclass=True) is not h5py.Group:
        continue
      place = h5py.h5o.get_info(group[name].id).addr
      if place not in seen:  # Links can make a ring.
        seen.add(place)
        pending.append(group[name])


if __name__ == '__main__':
  sys.path[:] = sys.argv[3:] or sys.path
  walk(sys.argv[1], int(sys.argv[2]))
