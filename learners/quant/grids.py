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
  """

  def __init__(self, buckets: Buckets, bits: int, *, symmetric: bool, clip: bool) -> None:
    """`bits`: 2 to 16; `clip`: see `fit_grid`."""
    self.buckets, self.bits = buckets, bits
    self._symmetric, self._clip = symmetric, clip
    shape = (buckets.nb_rows, 1)
    self._shadow = tf.Variable(tf.zeros(buckets.shape), trainable=False)
    self._steps = tf.Variable(tf.ones(shape), trainable=False)
    self._zeros = tf.Variable(tf.zeros(shape), trainable=False)

  def start(self, kernel: np.ndarray, mask: np.ndarray) -> None:
    """Fits the grids, and starts the shadow at the kernel."""
    del mask  # Zero lies on every grid.
    steps, zeros = fit_grid(
      self.buckets.rows(kernel), self.bits, self._symmetric, clip=self._clip
    )
    self._steps.assign(steps)
    self._zeros.assign(zeros)
    self._shadow.assign(kernel)

  def project(self) -> tf.Tensor:
    """The rounded kernel."""
    rows = self.buckets.rows(tf.convert_to_tensor(self._shadow))
    first_last = integer_range(self.bits, self._symmetric)
    return self.buckets.kernel(rounded_tensor(rows, self._steps, self._zeros, first_last))

  def move(self, change: tf.Tensor) -> None:
    """Moves the shadow, and holds it inside the grid."""
    first, last = integer_range(self.bits, self._symmetric)
    rows = self.buckets.rows(self._shadow + change)
    low, high = (first - self._zeros) * self._steps, (last - self._zeros) * self._steps
    self._shadow.assign(self.buckets.kernel(tf.clip_by_value(rows, low, high)))

  def variables(self) -> Mapping[str, tf.Variable]:
    """Shadow, steps and zero points."""
    return {'shadow': self._shadow, 'steps': self._steps, 'zero_points': self._zeros}


def rounded_kernel(
  kernel: np.ndarray, buckets: Buckets, bits: int, *, symmetric: bool, clip: bool
) -> np.ndarray:
  """A kernel rounded to the grids that are fit to it, without any training."""
  rows = buckets.rows(kernel)
  steps, zeros = fit_grid(rows, bits, symmetric, clip=clip)
  return buckets.kernel(rounded(rows, steps, zeros, bits, symmetric))
