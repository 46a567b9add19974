"""What a run says to the user."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from secateurs.utils.training import distributed
from secateurs.utils.training.engine.progress import format_seconds

_SECONDS_BETWEEN_LINES = 20.0
T = TypeVar('T')


def say(text: str) -> None:
  """Prints a line; of several processes one does."""
  if distributed.is_chief():
    print(text, flush=True)


def with_eta(items: Iterable[T], total: int, work: str) -> Iterator[T]:
  """Passes items on, and prints every 20 seconds how many of them are done and the time left.

  Args:
    items: what is worked on, one after the other.
    total: how many there are.
    work: what is done, the beginning of the lines.
  """
  began = last = time.monotonic()
  for done, item in enumerate(items):
    now = time.monotonic()
    if done and now - last >= _SECONDS_BETWEEN_LINES:
      left = (total - done) * (now - began) / done
      say(f'{work}  {done}/{total}  ETA {format_seconds(left)}')
      last = now
    yield item
