"""Things that are chosen by name: duplicate names raise, unknown ones suggest the nearest."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Generic, TypeVar

from secateurs.utils.errors import UserError

T = TypeVar('T')


class Registry(Mapping[str, T], Generic[T]):
  """A dictionary of named things of one kind, in the order in which they were added."""

  def __init__(self, kind: str) -> None:
    """`kind`: what the things are, for messages, such as criterion."""
    self._kind, self._entries = kind, {}

  def add(self, name: str, entry: T) -> T:
    """Makes a thing known.

    Raises:
      ValueError: the name is taken by another thing.
    """
    if self._entries.get(name, entry) is not entry:
      raise ValueError(f'Two entries have the {self._kind} name {name!r}.')
    self._entries[name] = entry
    return entry

  def find(self, name: str) -> T:
    """The thing of a name.

    Raises:
      UserError: there is none.
    """
    if name not in self._entries:
      raise UserError(unknown(self._kind, name, self._entries))
    return self._entries[name]

  def __getitem__(self, name: str) -> T:
    return self._entries[name]

  def __iter__(self) -> Iterator[str]:
    return iter(self._entries)

  def __len__(self) -> int:
    return len(self._entries)


def unknown(kind: str, name: str, known: Mapping[str, object]) -> str:
  """A sentence about a name that nothing has, with the nearest that something has."""
  near = difflib.get_close_matches(name, known, 1)
  hint = f' Did you mean {near[0]}?' if near else ''
  return f'{name!r} is no {kind}; expected one of {", ".join(known)}.{hint}'
