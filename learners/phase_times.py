"""How long phases take, counted on where an earlier process stopped."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any


class PhaseTimes:
  """Times of a run's phases, and of trainings inside them.

  Attributes:
    entries: JSON objects by name: `seconds`, `iters` (steps) and, behind a training, `images_per_sec`.
  """

  def __init__(self, entries: dict[str, dict[str, Any]]) -> None:
    """`entries`: those of an earlier process; they are changed in place."""
    self.entries = entries
    self._clocks: dict[str, float] = {}

  def seconds(self, phase: str) -> float:
    """What was counted so far."""
    return self.entries.get(phase, {}).get('seconds', 0.0)

  @contextlib.contextmanager
  def running(self, phase: str) -> Iterator[None]:
    """Counts the seconds of a phase, or of a training inside one, on top of earlier ones."""
    if phase in self._clocks:  # The training of a phase that is nothing else.
      yield
      return
    self._clocks[phase] = self.seconds(phase) - time.perf_counter()
    try:
      yield
    finally:
      self.read()
      del self._clocks[phase]

  def read(self) -> None:
    """Brings the entries of what is running up to this moment."""
    for phase, offset in self._clocks.items():
      self._entry(phase)['seconds'] = offset + time.perf_counter()

  def note_training(self, phase: str, iters: int, images_per_sec: float) -> None:
    """Takes note of how far a training has come, and how fast; a speed of zero is not known."""
    entry = self._entry(phase)
    entry['iters'] = max(iters, entry['iters'])
    if images_per_sec:
      entry['images_per_sec'] = images_per_sec

  def _entry(self, phase: str) -> dict[str, Any]:
    return self.entries.setdefault(phase, {'iters': 0, 'seconds': 0.0})
