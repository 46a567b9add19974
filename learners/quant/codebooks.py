"""Kernels that share few values while they train."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from secateurs.learners.quant.clusters import codebook_of
from secateurs.utils.buckets import Buckets

MODES = ('centroids', 'weights', 'both')


class CodebookProjection:
  """A kernel whose weights are entries of the codebooks of its buckets.

  What trains: `centroids`, the entries alone, each weight keeps its entry (Han et al. 2016, section
  3.3: the gradients of all weights that share an entry are added up); `weights`, exact weights that
  straight-through gradients move, and that take the nearest entry at each step; or `both`.

  Deviation: an entry moves by the mean of its weights' steps, not by their sum (`step='sum'`), so that
  one learning rate suits codebooks whose entries stand for ten or for ten thousand weights.
  """

  def __init__(
    self, buckets: Buckets, bits: int, *, init: str, mode: str, step: str = 'mean'
  ) -> None:
    """`bits`: a codebook has 2^bits entries."""
    self.buckets, self.bits = buckets, bits
    self._init, self._mode, self._step = init, mode, step
    rows, size = buckets.nb_rows, 2**bits
    self._codebooks = tf.Variable(tf.zeros([rows, size]), trainable=False)
    # Exact weights, or the numbers of their entries, which float32 holds exactly.
    self._shadow = tf.Variable(tf.zeros(buckets.shape), trainable=False)
    self._counted = tf.Variable(tf.ones(buckets.shape), trainable=False)

  def start(self, kernel: np.ndarray, mask: np.ndarray) -> None:
    """Fits the codebooks to the weights that are not pruned."""
    rows = self.buckets.rows(kernel)
    stays = self.buckets.rows(mask.astype(np.float32)) > 0
    books = [
      codebook_of(row[kept], 2**self.bits, self._init)
      for row, kept in zip(rows, stays, strict=True)
    ]
    self._codebooks.assign(np.stack(books))
    self._counted.assign(mask.astype(np.float32))
    self._shadow.assign(kernel)
    if self._mode == 'centroids':
      numbers = self._nearest(self.buckets.rows(tf.constant(kernel)))
      self._shadow.assign(self.buckets.kernel(tf.cast(numbers, tf.float32)))

  def project(self) -> tf.Tensor:
    """Each weight's entry."""
    entries = tf.gather(self._codebooks, self._numbers(), batch_dims=1)
    return self.buckets.kernel(entries)

  def move(self, change: tf.Tensor) -> None:
    """Moves entries, exact weights, or both."""
    if self._mode != 'weights':
      moved = self._codebooks + self._entry_steps(change)
      # Sorted, so that the nearest entry can be searched for; numbers of entries must stay.
      self._codebooks.assign(moved if self._mode == 'centroids' else tf.sort(moved, axis=1))
    if self._mode != 'centroids':
      self._shadow.assign_add(change)

  def variables(self) -> Mapping[str, tf.Variable]:
    """Codebooks, what entries follow from, and which weights count."""
    return {'codebooks': self._codebooks, 'shadow': self._shadow, 'counted': self._counted}

  def _entry_steps(self, change: tf.Tensor) -> tf.Tensor:
    rows, size = self.buckets.nb_rows, 2**self.bits
    numbers = self._numbers() + tf.range(rows)[:, tf.newaxis] * size
    counted = self.buckets.rows(tf.convert_to_tensor(self._counted))
    steps = self.buckets.rows(change) * counted
    sums = tf.math.unsorted_segment_sum(steps, numbers, rows * size)
    if self._step == 'mean':
      sums /= tf.maximum(tf.math.unsorted_segment_sum(counted, numbers, rows * size), 1.0)
    return tf.reshape(sums, [rows, size])

  def _numbers(self) -> tf.Tensor:
    rows = self.buckets.rows(tf.convert_to_tensor(self._shadow))
    return tf.cast(rows, tf.int32) if self._mode == 'centroids' else self._nearest(rows)

  def _nearest(self, rows: tf.Tensor) -> tf.Tensor:
    middles = (self._codebooks[:, 1:] + self._codebooks[:, :-1]) / 2
    return tf.searchsorted(middles, rows, side='left')
