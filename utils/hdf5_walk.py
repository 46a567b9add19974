"""Reads through an HDF5 file, as a separate program: `python hdf5_walk.py FILE BYTES [FOLDER ...]`.

The HDF5 library can run without end in a damaged file. What happens here happens in a process that can
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
        if not holds(group, name):
          continue
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


def holds(group: Any, name: str) -> bool:
  """Whether a group holds a member itself, where it may also be another name for one elsewhere.

  Args:
    group: of an open HDF5 file, which can refer to any other file.
    name: of a member.

  Raises:
    ValueError: it is in another file.
  """
  import h5py

  link = group.get(name, getlink=True)
  if isinstance(link, h5py.ExternalLink):
    raise ValueError(f'its entry {name!r} is in another file, {link.filename!r}')
  if not isinstance(link, h5py.HardLink):
    return False
  one = group[name]
  if isinstance(one, h5py.Dataset) and (one.external or one.is_virtual):
    raise ValueError(f'the data of its entry {name!r} are in other files')
  return True


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
      if not holds(group, name) or group.get(name, getclass=True) is not h5py.Group:
        continue
      place = h5py.h5o.get_info(group[name].id).addr
      if place not in seen:  # Links can make a ring.
        seen.add(place)
        pending.append(group[name])


if __name__ == '__main__':
  sys.path[:] = sys.argv[3:] or sys.path
  walk(sys.argv[1], int(sys.argv[2]))
