"""How long one image takes, measured for all files in one run."""

import math
import os
import time
from collections.abc import Mapping, Sequence

import numpy as np

from secateurs.utils.deploy.interpreter import TFLiteModel

BLOCK_FRAMES = 10
"""Frames of one file before the next file runs."""

_LEAST_FRAMES, _TOLERANCE = 30, 0.01
_WARMUP_SECONDS, _LEAST_WARMUP = 0.5, 3
_Z = 1.96  # Of an interval that holds the median in 95 % of all cases.


def _time_frames(model: TFLiteModel, nb_frames: int) -> list[int]:
  """Runs one untimed frame, to bring the weights back into the cache, then times the others, ns."""
  model.invoke_once()
  times = []
  for _ in range(nb_frames):
    start = time.perf_counter_ns()
    model.invoke_once()
    times.append(time.perf_counter_ns() - start)
  return times


def _warm_up(model: TFLiteModel, nb_frames: int) -> None:
  began = time.perf_counter()
  for done in range(nb_frames):
    if done >= _LEAST_WARMUP and time.perf_counter() - began > _WARMUP_SECONDS:
      return
    model.invoke_once()


def summarize(times_ns: Sequence[int], threads: int) -> dict[str, float]:
  """Returns one entry of the report's `latency` list.

  Args:
    times_ns: time of each frame, ns.
    threads: threads that ran it.

  Returns:
    threads, p50_ms (median) and p90_ms of one frame, fps: frames per second at the median, and the
    number of frames timed. A mean would charge a file with whatever else the machine did during its
    frames.
  """
  millis = np.asarray(times_ns, np.float64) / 1e6
  median, p90 = np.percentile(millis, (50, 90))
  return {
    'threads': int(threads),
    'p50_ms': float(median),
    'p90_ms': float(p90),
    'fps': float(1e3 / median),
    'frames': len(times_ns),
  }


def is_settled(times_ns: Sequence[int]) -> bool:
  """Whether the median of at least 30 frames is known to 1 %: half of its 95 % interval is below that.

  The interval's ends are the order statistics n / 2 -+ 1.96 sqrt(n) / 2, whatever the distribution.
  """
  n = len(times_ns)
  if n < _LEAST_FRAMES:
    return False
  ordered, reach = np.sort(times_ns), _Z * math.sqrt(n) / 2
  low, high = (
    ordered[max(math.floor(n / 2 - reach), 0)],
    ordered[min(math.ceil(n / 2 + reach), n - 1)],
  )
  return bool(high - low <= 2 * _TOLERANCE * np.median(ordered))


def measure_latency(
  paths: Mapping[str, str | os.PathLike],
  *,
  nb_frames: int = 200,
  threads: Sequence[int] = (1, 2),
  warmup: int = 20,
) -> dict[str, list[dict[str, float]]]:
  """Times TensorFlow Lite files against each other at batch 1.

  For each number of threads the files are interleaved (A B A B ...) in blocks of BLOCK_FRAMES, so that
  a machine that grows slower or faster does so for all of them. Within a block a file runs as it
  would alone: the frame after each change of file is run but not counted. Timing ends as soon as the
  medians of all files have settled (`is_settled`).

  Args:
    paths: name -> `.tflite` file.
    nb_frames: the most timed frames per file and number of threads.
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
    models = {name: TFLiteModel(path, nb_threads) for name, path in paths.items()}
    times = {name: [] for name in paths}
    for model in models.values():
      model.set_single(model.made_up(rng))
      _warm_up(model, warmup)
    for done in range(0, nb_frames, BLOCK_FRAMES):
      for name, model in models.items():
        times[name] += _time_frames(model, min(BLOCK_FRAMES, nb_frames - done))
      if all(is_settled(one) for one in times.values()):
        break
    for name in paths:
      results[name].append(summarize(times[name], nb_threads))
  return results
