"""How long phases take, counted on where an earlier process stopped."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from secateurs.learners.run.state import PhaseTime


class PhaseTimes:
  """Times of a run's phases, and of trainings inside them.

  Attributes:
    entries: by name; those of an earlier process are counted on, in place.
  """

  def __init__(self, entries: dict[str, PhaseTime]) -> None:
    self.entries = entries
    self._clocks: dict[str, float] = {}

  def seconds(self, phase: str) -> float:
    """What was counted so far."""
    return self.entries[phase].seconds if phase in self.entries else 0.0

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
      self._entry(phase).seconds = offset + time.perf_counter()

  def note_training(self, phase: str, iters: int, images_per_sec: float) -> None:
    """Notes how far a training has come, and how fast; a speed of zero is not known."""
    entry = self._entry(phase)
    entry.iters = max(iters, entry.iters)
    if images_per_sec:
      entry.images_per_sec = images_per_sec

  def _entry(self, phase: str) -> PhaseTime:
    return self.entries.setdefault(phase, PhaseTime())
