"""Kernels on uniform grids while they train."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from secateurs.utils.buckets import Buckets
from secateurs.utils.training.models.uniform_grids import (
  fit_grid,
  integer_range,
  rounded,
  rounded_tensor,
)


class GridProjection:
  """The nearest point of a kernel's grids, which are fit once, when the training starts.

  The shadow is held inside the grid, so that a weight at its end comes back as soon as its gradient
  turns.

  Attributes:
    buckets: of the kernel; each has its own grid.
    bits: 2 to 16; may be set until `start`.
  """

  def __init__(self, buckets: Buckets, bits: int, *, symmetric: bool, clip: bool) -> None:
    """`clip`: see `fit_grid`."""
    self.buckets, self.bits = buckets, bits
    self._symmetric, self._clip = symmetric, clip
    shape = (buckets.nb_rows, 1)
    self._shadow = tf.Variable(tf.zeros(buckets.shape), trainable=False)
    self._steps = tf.Variable(tf.ones(shape), trainable=False)
    self._zeros = tf.Variable(tf.zeros(shape), trainable=False)
    # Variables, so that a step that is compiled once serves all numbers of bits.
    self._ends = tf.Variable(tf.zeros([2]), trainable=False)

  def start(self, kernel: np.ndarray, mask: np.ndarray) -> None:
    """Fits the grids, and starts the shadow at the kernel."""
    del mask  # Zero lies on every grid.
    rows = self.buckets.rows(kernel)
    steps, zeros = fit_grid(rows, self.bits, self._symmetric, clip=self._clip)
    self._steps.assign(steps)
    self._zeros.assign(zeros)
    self._ends.assign(np.array(integer_range(self.bits, self._symmetric), np.float32))
    self._shadow.assign(kernel)

  def project(self) -> tf.Tensor:
    """The rounded kernel."""
    rows = self.buckets.rows(tf.convert_to_tensor(self._shadow))
    ends = tf.unstack(self._ends)
    return self.buckets.kernel(rounded_tensor(rows, self._steps, self._zeros, ends))

  def move(self, change: tf.Tensor) -> None:
    """Moves the shadow, and holds it inside the grid."""
    first, last = tf.unstack(self._ends)
    rows = self.buckets.rows(self._shadow + change)
    low, high = (first - self._zeros) * self._steps, (last - self._zeros) * self._steps
    self._shadow.assign(self.buckets.kernel(tf.clip_by_value(rows, low, high)))

  def variables(self) -> Mapping[str, tf.Variable]:
    """Shadow, steps, zero points and the ends of the integers."""
    return {
      'shadow': self._shadow,
      'steps': self._steps,
      'zero_points': self._zeros,
      'ends': self._ends,
    }


def rounded_kernel(
  kernel: np.ndarray, buckets: Buckets, bits: int, *, symmetric: bool, clip: bool
) -> np.ndarray:
  """A kernel rounded to the grids that are fit to it, without any training."""
  rows = buckets.rows(kernel)
  steps, zeros = fit_grid(rows, bits, symmetric, clip=clip)
  return buckets.kernel(rounded(rows, steps, zeros, bits, symmetric))
