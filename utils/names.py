"""Names of layers and tensors that no other one has."""

from __future__ import annotations

from collections.abc import Container


def unique_name(name: str, taken: Container[str], reserved: Container[str] = ()) -> str:
  """The name itself if it is free, else with the first number after it that makes it so.

  Args:
    name: what is wished.
    taken: names that are in use.
    reserved: names that are not made up, but may be taken by who wishes just them.
  """
  found, copy = name, 0
  while found in taken or (copy and found in reserved):
    copy += 1
    found = f'{name}_{copy}'
  return found
