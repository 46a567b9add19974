"""What measuring how many channels stay takes of a run."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import tf_keras as keras

from secateurs.learners.run.helper import Helper


@dataclasses.dataclass(frozen=True, kw_only=True)
class Site:
  """The part that all learners of channels share.

  Attributes:
    helper: data and task.
    original: makes the network before compression, float32.
    original_tflite: its file, for latencies.
    nb_threads: of the timing.
    seed: of the search.
    trials: the file of the search.
    save: writes a checkpoint in the middle of it.
    jobs: candidates of a search, or units of a scan, that are judged at the same time.
  """

  helper: Helper
  original: Callable[[], keras.Model]
  original_tflite: Path
  nb_threads: int
  seed: int
  trials: Callable[[], Path]
  save: Callable[[], None]
  jobs: int

  def networks(self) -> list[keras.Model]:
    """As many networks before compression as are judged at the same time."""
    return [self.original() for _ in range(self.jobs)]
