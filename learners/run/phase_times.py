"""How long phases take and how many images, counted on where an earlier process stopped; memory."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

from secateurs.learners.run.state import PhaseTime
from secateurs.utils import memory
from secateurs.utils.training import tally

OTHER = 'other'
"""What is no phase: loading libraries and data, building networks, writing the report."""


class PhaseTimes:
  """Times of a run's phases, and of trainings inside them.

  Attributes:
    entries: by name; those of an earlier process are counted on, in place.
  """

  def __init__(self, entries: dict[str, PhaseTime], began: float) -> None:
    """Counts on from what earlier processes have counted.

    Args:
      entries: by name.
      began: when this process's part of the run began, in seconds since the epoch.
    """
    self.entries = entries
    self._clocks: dict[str, float] = {}
    self._began, self._other_before, self._in_phases = began, self.seconds(OTHER), 0.0
    self._outermost: float | None = None  # When the phase began that is running.
    self._phase: str | None = None  # Its name, and the images counted up to the last reading.
    self._seen = tally.counted()

  def seconds(self, phase: str) -> float:
    """What was counted so far."""
    return self.entries[phase].seconds if phase in self.entries else 0.0

  @contextlib.contextmanager
  def running(self, phase: str) -> Iterator[None]:
    """Counts the seconds of a phase, or of a training inside one, on top of earlier ones."""
    if phase in self._clocks:  # The training of a phase that is nothing else.
      yield
      return
    outermost = self._outermost is None
    if outermost:
      self._outermost, self._phase = time.perf_counter(), phase
      self._seen = tally.counted()
    self._clocks[phase] = self.seconds(phase) - time.perf_counter()
    try:
      if outermost:
        with memory.PeakSampler() as sampler:
          yield
          entry = self._entry(phase)
          entry.peak_mb = max(entry.peak_mb or 0, sampler.read() / memory.MEGABYTE)
      else:
        yield
    finally:
      self.read()
      del self._clocks[phase]
      if outermost:
        self._in_phases += time.perf_counter() - self._outermost
        self._outermost = self._phase = None

  def read(self) -> None:
    """Brings the entries of what is running up to this moment."""
    now = time.perf_counter()
    for phase, offset in self._clocks.items():
      self._entry(phase).seconds = offset + now
    self._read_images()
    running = 0.0 if self._outermost is None else now - self._outermost
    other = time.time() - self._began - self._in_phases - running
    self._entry(OTHER).seconds = self._other_before + max(other, 0.0)

  def _read_images(self) -> None:
    now = tally.counted()
    if self._phase is not None:
      entry = self._entry(self._phase)
      entry.images_trained += now.trained - self._seen.trained
      entry.images_scored += now.scored - self._seen.scored
    self._seen = now

  def note_training(self, phase: str, iters: int, images_per_sec: float) -> None:
    """Notes how far a training has come, and how fast; a speed of zero is not known."""
    entry = self._entry(phase)
    entry.iters = max(iters, entry.iters)
    if images_per_sec:
      entry.images_per_sec = images_per_sec

  def _entry(self, phase: str) -> PhaseTime:
    return self.entries.setdefault(phase, PhaseTime())
