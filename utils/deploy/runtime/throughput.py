"""How many images a second several interpreters give that work at the same time, and pinned cores."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from secateurs.utils import memory
from secateurs.utils.deploy.runtime.interpreter import TFLiteModel
from secateurs.utils.deploy.runtime.timing import spread_of_median
from secateurs.utils.errors import UserError

_ROUNDS, _ROUND_SECONDS = 9, 0.2
_OF_FREE = 0.8  # Of the memory that is free, what interpreters may take.


@contextlib.contextmanager
def pinned(nb_cores: int | None) -> Iterator[None]:
  """Has this thread, and those that it starts meanwhile, run on the first cores that it may use.

  Args:
    nb_cores: how many; None leaves the thread where it is.

  Raises:
    UserError: there are not so many, or the system cannot pin.
  """
  if nb_cores is None:
    yield
    return
  if not hasattr(os, 'sched_setaffinity'):
    raise UserError(
      '--bench_cores needs Linux, which can hold a thread on some cores: leave it out.'
    )
  allowed = os.sched_getaffinity(0)
  if nb_cores > len(allowed):
    raise UserError(
      f'--bench_cores {nb_cores} was given, but this process may use {len(allowed)}: give at most that.'
    )
  os.sched_setaffinity(0, sorted(allowed)[:nb_cores])
  try:
    yield
  finally:
    os.sched_setaffinity(0, allowed)


def measure_throughput(
  paths: Mapping[str, str | os.PathLike], nb_streams: int
) -> dict[str, dict[str, float]]:
  """Frames per second of all streams together: so many interpreters of one thread each at work.

  Files take turns (A B A B ...) of a fifth of a second.

  Args:
    paths: name -> `.tflite` file.
    nb_streams: interpreters, each of which has one image in flight at all times.

  Returns:
    name -> streams, fps: the median of the turns, frames: of all turns, and spread: width of the
    median's 95 % interval, as a fraction of it.

  Raises:
    UserError: memory does not hold so many interpreters.
  """
  rng = np.random.default_rng(0)
  models: dict[str, list[TFLiteModel]] = {}
  for name, path in paths.items():
    models[name] = [_ready(path, rng)]
    _require_room(models[name][0], path, nb_streams - 1)
    models[name] += [_ready(path, rng) for _ in range(nb_streams - 1)]
  rates: dict[str, list[float]] = {name: [] for name in paths}
  frames = dict.fromkeys(paths, 0)
  for _ in range(_ROUNDS):
    for name, streams in models.items():
      done, seconds = run_together([one.invoke_once for one in streams], _ROUND_SECONDS)
      rates[name].append(done / seconds)
      frames[name] += done
  return {
    name: {
      'streams': nb_streams,
      'fps': float(np.median(found)),
      'frames': frames[name],
      'spread': spread_of_median(found),
    }
    for name, found in rates.items()
  }


def run_together(runs: Sequence[Callable[[], None]], seconds: float) -> tuple[int, float]:
  """Calls functions over and over, each in its own thread, for some time.

  Returns:
    How many calls were made, and the seconds from the common start until the last one had ended.
  """
  counts, ends = [0] * len(runs), [0.0] * len(runs)
  start = threading.Barrier(len(runs) + 1)
  stop = threading.Event()

  def work(number: int) -> None:
    start.wait()
    while True:
      runs[number]()
      counts[number] += 1
      if stop.is_set():
        break
    ends[number] = time.perf_counter()

  threads = [threading.Thread(target=work, args=(number,)) for number in range(len(runs))]
  for thread in threads:
    thread.start()
  start.wait()
  began = time.perf_counter()
  time.sleep(seconds)
  stop.set()
  for thread in threads:
    thread.join()
  return sum(counts), max(ends) - began


def _ready(path: str | os.PathLike, rng: np.random.Generator) -> TFLiteModel:
  model = TFLiteModel(path, 1)
  model.set_single(model.made_up(rng))
  model.invoke_once()
  return model


def _require_room(model: TFLiteModel, path: str | os.PathLike, nb_more: int) -> None:
  """Checks that memory holds more interpreters of a file."""
  wanted, room = nb_more * model.nb_bytes(), int(_OF_FREE * memory.free())
  if wanted > room:
    raise UserError(
      f'--bench_streams {nb_more + 1} interpreters of {path} take about '
      f'{wanted / memory.MEGABYTE:,.0f} MB, but {room / memory.MEGABYTE:,.0f} MB are free: give fewer '
      'streams.'
    )
