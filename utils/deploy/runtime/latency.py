"""How long one image takes, measured for all files in one run."""

import math
import os
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from secateurs.utils.deploy.runtime.interpreter import TFLiteModel
from secateurs.utils.deploy.runtime.timing import Timing, time_interleaved

SECONDS_PER_FRAME = 0.02
"""How long a file whose median does not settle is timed, for each frame that was asked for."""

_WARMUP_SECONDS, _LEAST_WARMUP = 0.5, 3


Timed = str | os.PathLike | Callable[[int], Callable[[], object]]
"""A `.tflite` file, or what gives a function that runs one sample with a number of threads."""


def _warm_up(run: Callable[[], object], nb_frames: int) -> None:
  began = time.perf_counter()
  for done in range(nb_frames):
    if done >= _LEAST_WARMUP and time.perf_counter() - began > _WARMUP_SECONDS:
      return
    run()


def _run_of(given: Timed, nb_threads: int, rng: np.random.Generator) -> Callable[[], object]:
  if callable(given):
    return given(nb_threads)
  model = TFLiteModel(given, nb_threads)
  model.set_single(model.made_up(rng))
  return model.invoke_once


def summarize(timing: Timing, threads: int) -> dict[str, float]:
  """Returns one entry of the report's `latency` list.

  Args:
    timing: of the file.
    threads: threads that ran it.

  Returns:
    threads, p50_ms (median) and p90_ms of one frame, fps: frames per second at the median, frames:
    the number of frames timed, spread: width of the median's 95 % interval as a fraction of it, and
    settled: whether that is small. A mean would charge a file with whatever else the machine did
    during its frames.
  """
  millis = np.asarray(timing.times_ns, np.float64) / 1e6
  median, p90 = np.percentile(millis, (50, 90))
  return {
    'threads': int(threads),
    'p50_ms': float(median),
    'p90_ms': float(p90),
    'fps': float(1e3 / median),
    'frames': len(timing.times_ns),
    'spread': timing.spread if math.isfinite(timing.spread) else None,
    'settled': timing.settled,
  }


def measure_latency(
  paths: Mapping[str, Timed],
  *,
  nb_frames: int = 200,
  threads: Sequence[int] = (1, 2),
  warmup: int = 20,
) -> dict[str, list[dict[str, float]]]:
  """Times TensorFlow Lite files, and what runs others, against each other at batch 1.

  For each number of threads the files are interleaved (A B A B ...) in short blocks, until the medians
  of all of them have settled or the time is over; see `timing`.

  Args:
    paths: name -> `.tflite` file, or a function, see `Timed`.
    nb_frames: timed frames per file and number of threads; fewer where medians settle before, more
      where they do not.
    threads: numbers of interpreter threads.
    warmup: untimed frames per file before the first timed one; fewer where they take longer than half
      a second, but three.

  Returns:
    name -> one dict per number of threads, in that order, as `summarize` gives it.

  Raises:
    ValueError: nb_frames or a number of threads is below 1, or warmup below 0.
    UserError: a file is missing or is no TensorFlow Lite model.
  """
  if nb_frames < 1 or warmup < 0 or not threads or min(threads) < 1:
    raise ValueError(
      f'expected nb_frames >= 1, warmup >= 0 and threads >= 1, got nb_frames={nb_frames}, '
      f'warmup={warmup}, threads={tuple(threads)}'
    )
  rng = np.random.default_rng(0)
  results = {name: [] for name in paths}
  for nb_threads in threads:
    runs = {name: _run_of(given, nb_threads, rng) for name, given in paths.items()}
    for run in runs.values():
      _warm_up(run, warmup)
    timed = time_interleaved(runs, nb_frames=nb_frames, seconds=SECONDS_PER_FRAME * nb_frames)
    for name in paths:
      results[name].append(summarize(timed[name], nb_threads))
  return results
