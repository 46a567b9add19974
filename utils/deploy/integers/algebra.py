"""The algebra of integer networks: scale, zero point, and the multiplier M = 2^-n M0.

Jacob et al. 2018 (arXiv:1712.05877), section 2. Real numbers r are held as integers q,

  r = S (q - Z),   S = (r_max - r_min) / (q_max - q_min),   Z = round(q_max - r_max / S),

and a layer that sums products of two such numbers gives

  q3 = Z3 + M sum (q1 - Z1) (q2 - Z2),   M = S1 S2 / S3 = 2^-n M0,   M0 in [0.5, 1),

so that all numbers except for M are whole; M0 is held as round(2^31 M0), an int32, and the product with
it is a multiplication and shifts. `integers` runs a whole network that way.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

_ONE = 1 << 31


def scale_and_zero_point(
  low: float, high: float, q_min: int = -128, q_max: int = 127
) -> tuple[float, int]:
  """S and Z for real numbers in [low, high], which is widened to hold zero.

  Zero then lies on the grid: quantising it gives Z, and Z gives exactly zero back.

  Args:
    low: r_min.
    high: r_max.
    q_min: the least integer.
    q_max: the greatest integer.

  Returns:
    (S, Z).

  Raises:
    ValueError: the range is empty or not finite.
  """
  low, high = min(low, 0.0), max(high, 0.0)
  if not (math.isfinite(low) and math.isfinite(high) and low < high):
    raise ValueError(f'[{low}, {high}] is no range of real numbers.')
  scale = (high - low) / (q_max - q_min)
  return scale, int(np.clip(_half_away(q_max - high / scale), q_min, q_max))


def quantize(values: np.ndarray, scale: float, zero: int, q_min: int, q_max: int) -> np.ndarray:
  """q = clip(round(r / S) + Z) of real numbers of any shape, halves away from zero, as int64."""
  steps = np.asarray(values, np.float64) / scale
  rounded = np.sign(steps) * np.floor(np.abs(steps) + 0.5)
  return np.clip(rounded + zero, q_min, q_max).astype(np.int64)


@dataclasses.dataclass(frozen=True)
class Multiplier:
  """M = 2^-n M0 as a fixed-point number, for one channel or several.

  Attributes:
    m0: int64 [channels], round(2^31 M0), each in [2^30, 2^31), or 0.
    n: int64 [channels], how far to shift right; negative where M is 1 or more.
  """

  m0: np.ndarray
  n: np.ndarray

  @staticmethod
  def of(real: np.ndarray | float) -> Multiplier:
    """The multiplier of positive real numbers M: one, or [channels]."""
    fraction, exponent = np.frexp(np.atleast_1d(np.asarray(real, np.float64)))
    m0 = np.floor(fraction * _ONE + 0.5).astype(np.int64)
    over = m0 == _ONE  # Rounded up to 1: halved, and one shift less.
    return Multiplier(np.where(over, m0 // 2, m0), -(exponent.astype(np.int64) + over))

  def __call__(self, values: np.ndarray) -> np.ndarray:
    """M times whole numbers, int64 [..., channels], in integer arithmetic alone.

    The high half of a doubled 64-bit product, rounded, then a shift that rounds halves away from zero:
    what TensorFlow Lite's reference kernels compute.
    """
    left, right = np.maximum(-self.n, 0), np.maximum(self.n, 0)
    product = (values << left) * self.m0
    nudge = np.where(product >= 0, 1 << 30, 1 - (1 << 30))
    total = product + nudge
    high = np.sign(total) * (np.abs(total) >> 31)  # Towards zero, as C divides.
    return rounded_shift(high, right)


def rounded_shift(values: np.ndarray, places: np.ndarray | int) -> np.ndarray:
  """Whole numbers [..., channels] divided by 2^places, one or [channels], halves away from zero."""
  mask = (1 << np.asarray(places, np.int64)) - 1
  threshold = (mask >> 1) + (values < 0)
  return (values >> places) + ((values & mask) > threshold)


def _half_away(value: float) -> int:
  return int(math.copysign(math.floor(abs(value) + 0.5), value))
