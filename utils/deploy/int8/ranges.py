"""Ranges of activations that leave rare extremes out, for finer steps in between.

percentile: the range that holds all but 0.01 % of the values at each end. mse: the part of the range
with the least squared error of 8-bit rounding and clipping together, over a histogram of the values
(as in TensorRT's and AIMET's calibration).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from secateurs.utils import nested
from secateurs.utils.deploy.int8.opened import OpenFile
from secateurs.utils.deploy.int8.recipes import Ranges
from secateurs.utils.deploy.int8.running import Runner

_BINS, _LEFT_OUT, _LEVELS, _BATCH = 1024, 1e-4, 255, 16
_PARTS = np.linspace(0.3, 1.0, 36)


def clipped_ranges(content: bytes, ranges: Ranges, images: Any, how: str) -> dict[str, Any]:
  """Narrower ranges of the activations that operators make; inputs and outputs keep theirs.

  Args:
    content: of the float file.
    ranges: least and greatest values.
    images: inputs [n, ...] that the values come from.
    how: percentile or mse.
  """
  file = OpenFile(content)
  kept = {file.name(number) for number in (*file.inputs, *file.outputs)}
  names = [name for name in ranges if name not in kept and np.ptp(_ends(ranges[name])) > 0]
  counts = {name: np.zeros(_BINS) for name in names}
  for start in range(0, nested.size(images), _BATCH):
    runner = Runner(content, nested.rows(images, slice(start, start + _BATCH)))
    for values in runner.pieces(names):
      for name, one in values.items():
        counts[name] += np.histogram(one, _BINS, tuple(_ends(ranges[name])))[0]
  find = {'percentile': percentile_range, 'mse': mse_range}[how]
  found = {name: dict(one) for name, one in ranges.items()}
  for name in names:
    shape = np.shape(ranges[name]['min'])
    low, high = find(counts[name], *_ends(ranges[name]))
    found[name] = {
      'min': np.full(shape, low, np.float32),
      'max': np.full(shape, high, np.float32),
    }
  return found


def percentile_range(counts: np.ndarray, low: float, high: float) -> tuple[float, float]:
  """The range without 0.01 % of the values at each end; zero stays in it.

  Args:
    counts: of values in bins of one width between low and high, [bins].
    low: start of the first bin.
    high: end of the last bin.
  """
  width = (high - low) / len(counts)
  part = np.cumsum(counts) / max(counts.sum(), 1)
  first = int(np.searchsorted(part, _LEFT_OUT, side='right'))
  last = int(np.searchsorted(part, 1 - _LEFT_OUT, side='left'))
  return min(low + first * width, 0.0), max(low + (last + 1) * width, 0.0)


def mse_range(counts: np.ndarray, low: float, high: float) -> tuple[float, float]:
  """The part of [low, high] with the least squared error in 8 bits; arguments as above.

  Each value outside errs by its distance, each inside by a twelfth of a squared step. The parts that
  are tried scale each end by 0.3 to 1; an end at zero stays there.
  """
  low, high = min(low, 0.0), max(high, 0.0)
  places = low + (np.arange(len(counts)) + 0.5) * (high - low) / len(counts)
  best = np.inf, low, high
  for below in _PARTS if low < 0 else (1.0,):
    for above in _PARTS if high > 0 else (1.0,):
      left, right = low * below, high * above
      step = (right - left) / _LEVELS
      beyond = np.maximum(left - places, 0) + np.maximum(places - right, 0)
      error = np.sum(counts * np.where(beyond > 0, beyond**2, step**2 / 12))
      if error < best[0]:
        best = error, left, right
  return best[1], best[2]


def _ends(one: Any) -> np.ndarray:
  return np.array([np.min(one['min']), np.max(one['max'])], np.float64)
