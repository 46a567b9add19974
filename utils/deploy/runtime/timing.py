"""Times functions against each other on a machine that does other things, too."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np

BLOCK_SECONDS = 0.005
"""About how long one function runs before the next one does."""
SPREAD = 0.03
"""Width of the median's 95 % interval, as a fraction of the median, at which it counts as settled."""
_MIN_BLOCKS, _MIN_FRAMES, _MAX_FRAMES = 8, 3, 500  # The last two: frames of a block.
_MIN_SECONDS = 0.1  # A few milliseconds may be spent in one interruption.
_SIGMAS = 1.96


@dataclasses.dataclass
class Timing:
  """Times of one function.

  Attributes:
    times_ns: of each call, ns.
    medians: of each block, ns.
  """

  times_ns: list[int] = dataclasses.field(default_factory=list)
  medians: list[float] = dataclasses.field(default_factory=list)

  @property
  def median(self) -> float:
    """Of the blocks' medians, ns."""
    return float(np.median(self.medians))

  @property
  def spread(self) -> float:
    """Width of the median's interval, see `spread_of_median`."""
    return spread_of_median(self.medians)

  @property
  def settled(self) -> bool:
    """Whether the median is known within `SPREAD`."""
    return len(self.medians) >= _MIN_BLOCKS and self.spread <= SPREAD


def spread_of_median(values: Sequence[float]) -> float:
  """Width of the 95 % confidence interval of a median, as a fraction of it.

  The interval is that between the order statistics of rank n / 2 -+ 0.98 sqrt(n), whatever the
  distribution (Conover 1999, Practical Nonparametric Statistics, section 3.2). Of few values it is
  their range.
  """
  ordered, n = np.sort(np.asarray(values, np.float64)), len(values)
  if n < 2:
    return math.inf
  half = _SIGMAS / 2 * math.sqrt(n)
  low = max(math.floor(n / 2 - half), 0)
  high = min(math.ceil(n / 2 + half), n - 1)
  return float((ordered[high] - ordered[low]) / np.median(ordered))


def time_interleaved(
  runs: Mapping[str, Callable[[], None]],
  *,
  nb_frames: int,
  seconds: float,
  clock: Callable[[], int] = time.perf_counter_ns,
) -> dict[str, Timing]:
  """Times functions in short blocks, alternately (A B A B ...), until their medians have settled.

  What the machine does beside it then meets all of them. Each block begins with a call that is not
  counted, which brings what the function needs back into the cache, and lasts about BLOCK_SECONDS.

  Args:
    runs: what to time, by name.
    nb_frames: calls of each function that are counted at least, where medians do not settle.
    seconds: how much longer each function is timed then.
    clock: gives ns.
  """
  found = {name: Timing() for name in runs}
  sizes: dict[str, int] = {}
  began = clock()
  while True:
    for name, run in runs.items():
      size = sizes.get(name, _MIN_FRAMES)
      times = _block(run, size, clock)
      found[name].times_ns += times
      found[name].medians.append(float(np.median(times)))
      wanted = BLOCK_SECONDS * 1e9 / max(found[name].median, 1.0)
      sizes[name] = int(np.clip(round(wanted), _MIN_FRAMES, _MAX_FRAMES))
    elapsed = (clock() - began) / 1e9
    enough = all(len(timing.times_ns) >= nb_frames for timing in found.values())
    limit = seconds * max(len(runs), 1)
    settled = all(timing.settled for timing in found.values())
    if (settled and elapsed >= min(_MIN_SECONDS, limit)) or (enough and elapsed >= limit):
      return found


def _block(run: Callable[[], None], nb_frames: int, clock: Callable[[], int]) -> list[int]:
  run()
  times = []
  for _ in range(nb_frames):
    start = clock()
    run()
    times.append(clock() - start)
  return times
