"""What the phases of a run do beside training steps, as far as it is known before they run."""

from __future__ import annotations

import dataclasses

from secateurs.learners.run.settings import Settings
from secateurs.utils.deploy.runtime.latency import SECONDS_PER_FRAME

_EXPORT_SECONDS, _EXPORT_SECONDS_PER_MB = 5.0, 0.2
"""Of a network's files and their comparison; assumed. VGG-16's 512 MB take 102 s (docs/scale.md)."""


@dataclasses.dataclass(frozen=True)
class Work:
  """Beside training steps.

  Attributes:
    nb_images: images that networks are run on, such as to evaluate them or to judge channels.
    nb_exports: networks whose files are made.
    nb_timed: files that are timed.
  """

  nb_images: int = 0
  nb_exports: int = 0
  nb_timed: int = 0

  def __add__(self, other: Work) -> Work:
    """Both."""
    pairs = zip(dataclasses.astuple(self), dataclasses.astuple(other), strict=True)
    return Work(*(one + another for one, another in pairs))


def of_original(settings: Settings) -> Work:
  """Evaluating and exporting the network before compression."""
  files = 1 + settings.run.wants_int8
  return Work(files * settings.helper.nb_samples('eval'), 1)


def of_result(settings: Settings, *, sparse: bool = False, originals: bool = False) -> Work:
  """Evaluating, exporting and timing the result.

  Args:
    settings: of the run.
    sparse: whether a file without the zeros is made, too.
    originals: whether the files of the network before are timed with it.
  """
  files = 1 + settings.wants_int8
  timed = files + sparse + originals * (1 + settings.run.wants_int8)
  return Work(files * settings.helper.nb_samples('eval'), 1, timed)


def exporting_seconds(work: Work, megabytes: float) -> float:
  """What making the files takes, by an assumed speed.

  Args:
    work: of all phases.
    megabytes: of the network's weights.
  """
  return work.nb_exports * (_EXPORT_SECONDS + _EXPORT_SECONDS_PER_MB * megabytes)


def timing_seconds(work: Work, settings: Settings) -> float:
  """What timing the files takes at the most: medians that settle end it earlier."""
  run = settings.run
  return work.nb_timed * len(run.threads) * run.bench_frames * SECONDS_PER_FRAME
