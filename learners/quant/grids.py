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

  The shadow is held inside the grid, so that a weight at its end leaves it as soon as its gradient
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


class BinaryProjection:
  """Two values for each bucket of a kernel: a (where the exact weight is at least 0) and -a.

  a is the mean magnitude of the bucket's exact weights, at all times: the a that leaves the least
  squared error (Rastegari et al. 2016, "XNOR-Net", arXiv:1603.05279, section 3.1). Exact weights are
  held in [-1, 1] or, where they start outside, within their first range (Courbariaux et al. 2015).

  Deviation: all kernels are binary, the first and the last one, too; zeros that a kernel starts with
  stay zeros, and do not count for a.

  Attributes:
    buckets: of the kernel.
    bits: 1.
  """

  bits = 1

  def __init__(self, buckets: Buckets) -> None:
    self.buckets = buckets
    self._shadow = tf.Variable(tf.zeros(buckets.shape), trainable=False)
    self._counted = tf.Variable(tf.ones(buckets.shape), trainable=False)
    self._most = tf.Variable(1.0, trainable=False)

  def start(self, kernel: np.ndarray, mask: np.ndarray) -> None:
    """Starts the shadow at the kernel."""
    self._shadow.assign(kernel)
    self._counted.assign(mask.astype(np.float32))
    self._most.assign(max(float(np.abs(kernel).max()), 1.0))

  def project(self) -> tf.Tensor:
    """Signs times mean magnitudes."""
    rows = self.buckets.rows(tf.convert_to_tensor(self._shadow))
    counted = self.buckets.rows(tf.convert_to_tensor(self._counted))
    sums = tf.reduce_sum(tf.abs(rows) * counted, axis=1, keepdims=True)
    size = tf.math.divide_no_nan(sums, tf.reduce_sum(counted, axis=1, keepdims=True))
    return self.buckets.kernel(tf.where(rows < 0, -size, size))

  def move(self, change: tf.Tensor) -> None:
    """Moves the shadow within its range."""
    self._shadow.assign(tf.clip_by_value(self._shadow + change, -self._most, self._most))

  def variables(self) -> Mapping[str, tf.Variable]:
    """Shadow, which weights count, and the range."""
    return {'shadow': self._shadow, 'counted': self._counted, 'most': self._most}


def rounded_kernel(
  kernel: np.ndarray, buckets: Buckets, bits: int, *, symmetric: bool, clip: bool
) -> np.ndarray:
  """A kernel rounded to the grids that are fit to it, without any training."""
  rows = buckets.rows(kernel)
  steps, zeros = fit_grid(rows, bits, symmetric, clip=clip)
  return buckets.kernel(rounded(rows, steps, zeros, bits, symmetric))
