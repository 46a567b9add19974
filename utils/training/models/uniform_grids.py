"""Uniform grids: the values that a weight or an activation of few bits can have.

  r = S (q - Z),    q = clip(round(r / S) + Z, q_min, q_max)

with a step S > 0 and whole numbers q and Z (Jacob et al. 2018, arXiv:1712.05877, equations 1 and 12).
Zero lies on every grid: 0 gives q = Z, and Z gives 0 back exactly, so that pruned weights and padding
stay what they are.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from secateurs.utils.rounding import nearest_whole

_NB_CLIPS, _LOWEST_CLIP = 48, 0.25


def integer_range(bits: int, symmetric: bool) -> tuple[int, int]:
  """The least and the greatest integer of a grid.

  A symmetric grid has Z = 0 and as many steps on both sides, from -(2^(bits-1) - 1), as TensorFlow
  Lite has it for weights; another one counts from 0 to 2^bits - 1.
  """
  if symmetric:
    most = 2 ** (bits - 1) - 1
    return -most, most
  return 0, 2**bits - 1


def grid_of(
  low: np.ndarray, high: np.ndarray, bits: int, symmetric: bool
) -> tuple[np.ndarray, np.ndarray]:
  """Steps and zero points of ranges, which are widened to hold zero.

  Args:
    low: least values, of any shape.
    high: greatest values.
    bits: 2 to 16.
    symmetric: whether the grid is symmetric about zero.

  Returns:
    (S, Z): float64 and int64 of that shape; S = 1 where the range is empty.
  """
  first, last = integer_range(bits, symmetric)
  low, high = np.minimum(np.asarray(low, np.float64), 0), np.maximum(np.asarray(high, float), 0)
  if symmetric:
    steps = np.maximum(-low, high) / last
    return np.where(steps > 0, steps, 1.0), np.zeros(np.shape(steps), np.int64)
  steps = (high - low) / (last - first)
  steps = np.where(steps > 0, steps, 1.0)
  return steps, np.clip(nearest_whole(first - low / steps), first, last).astype(np.int64)


def rounded(
  values: np.ndarray, steps: np.ndarray, zeros: np.ndarray, bits: int, symmetric: bool
) -> np.ndarray:
  """Values on their grids, S (q - Z), in the type of the values."""
  first, last = integer_range(bits, symmetric)
  places = np.clip(nearest_whole(values / steps) + zeros, first, last)
  return ((places - zeros) * steps).astype(values.dtype)


def rounded_tensor(values: Any, steps: Any, zeros: Any, bits: Any) -> Any:
  """`rounded` for float32 tensors with an integer range given as (first, last), in graph mode."""
  import tensorflow as tf

  first, last = bits
  ratio = values / steps
  places = tf.sign(ratio) * tf.floor(tf.abs(ratio) + 0.5)
  places = tf.clip_by_value(places + zeros, first, last)
  return (places - zeros) * steps


def fit_grid(
  rows: np.ndarray, bits: int, symmetric: bool, *, clip: bool
) -> tuple[np.ndarray, np.ndarray]:
  """Grids for rows of weights.

  Args:
    rows: float [n, weights].
    bits: 2 to 16.
    symmetric: whether grids are symmetric about zero.
    clip: whether the range is the fraction of the row's range, of 48 from 0.25 to 1, that leaves the
      least squared error; else the whole range.

  Returns:
    (S, Z): float32 and float32 [n, 1].
  """
  low, high = rows.min(axis=1), rows.max(axis=1)
  best_steps, best_zeros = grid_of(low, high, bits, symmetric)
  if clip:
    least = np.full(len(rows), np.inf)
    for fraction in np.linspace(1.0, _LOWEST_CLIP, _NB_CLIPS):
      steps, zeros = grid_of(low * fraction, high * fraction, bits, symmetric)
      near = rounded(rows, steps[:, None], zeros[:, None], bits, symmetric)
      errors = np.square(near - rows, dtype=np.float64).sum(axis=1)
      better = errors < least
      least = np.where(better, errors, least)
      best_steps = np.where(better, steps, best_steps)
      best_zeros = np.where(better, zeros, best_zeros)
  return best_steps[:, None].astype(np.float32), best_zeros[:, None].astype(np.float32)
