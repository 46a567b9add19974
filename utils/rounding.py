"""Rounding as TensorFlow Lite rounds."""

from __future__ import annotations

import numpy as np


def nearest_whole(values: np.ndarray) -> np.ndarray:
  """The nearest whole numbers, halves away from zero (std::round of C++)."""
  return np.trunc(values + np.copysign(0.5, values))
