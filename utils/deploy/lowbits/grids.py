"""Finds the uniform grid that weights lie on.

Training leaves a kernel on a grid, w = s * q with whole numbers q. Folding a BatchNorm multiplies every
output channel by a constant, so that each channel of the exported kernel lies on a grid with another
step. An exporter that takes the greatest weight as the greatest integer would round all others again;
this finds the step itself.
"""

from __future__ import annotations

import numpy as np

_TOLERANCE = 1e-3  # Steps. Float32 rounding moves a weight by less than 1e-4 of its 127 steps.


def recover_steps(channels: np.ndarray, most: int) -> tuple[np.ndarray, np.ndarray]:
  """The coarsest grid about zero of each row of weights.

  Args:
    channels: float [n, weights].
    most: the greatest magnitude of an integer, such as 127.

  Returns:
    (steps, greatest): float64 [n], the distance of two grid points, and int64 [n], the greatest
    magnitude in steps. A row that lies on no grid of so many steps gets max|w| / most and `most` (its
    weights will be rounded); a row of zeros 1 and 0.
  """
  values = np.abs(np.asarray(channels, np.float64))
  largest = values.max(axis=1, initial=0.0)
  steps = np.where(largest > 0, largest / most, 1.0)
  greatest = np.where(largest > 0, most, 0)
  open_rows = np.flatnonzero(largest > 0)
  for number in range(1, most + 1):
    if not len(open_rows):
      break
    places = values[open_rows] / (largest[open_rows, None] / number)
    fits = (np.abs(places - np.rint(places)) <= _TOLERANCE).all(axis=1)
    found = open_rows[fits]
    steps[found], greatest[found] = largest[found] / number, number
    open_rows = open_rows[~fits]
  return steps, greatest
