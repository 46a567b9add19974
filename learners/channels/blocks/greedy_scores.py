"""What the greedy choice judges channels by: gradients by their kernel rows, and the loss itself."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from secateurs.utils.training import distributed
from secateurs.utils.training.engine.loop import Objective
from secateurs.utils.training.engine.pieces import value_and_gradients
from secateurs.utils.training.layerwise.gradient_choice import channel_norms

SCORES = ('off', 'on')


def judged_where_off(
  mask: np.ndarray, nb_batches: int, deal: np.random.Generator, greedy: str
) -> np.ndarray:
  """The channels that are off in each batch and judged by it: 1 or 0, [nb_batches, channels].

  With `remove` those that are on are dealt to the batches; with `add` all that are off are judged by
  every batch.
  """
  if greedy == 'add':
    return np.tile((~mask).astype(np.float32), (nb_batches, 1))
  absent = np.zeros([nb_batches, len(mask)], np.float32)
  order = deal.permutation(np.flatnonzero(mask))
  nb_groups = min(nb_batches, len(order))
  for batch, row in enumerate(absent):
    row[order[batch % nb_groups :: nb_groups]] = 1
  return absent


class Gradients:
  """Frobenius norms of a loss's gradient by the kernel rows of each channel."""

  def __init__(
    self,
    objective: Objective,
    kernels: Sequence[tf.Variable],
    elements: Sequence[np.ndarray],
    size: int,
    nb_pieces: int = 1,
  ) -> None:
    """Keeps what it is given.

    Args:
      objective: a loss of int32 batches of sample numbers.
      kernels: of the layers that read the channels.
      elements: for each, which channel each of its inputs is, or -1.
      size: number of channels.
      nb_pieces: how many pieces a batch is run in.
    """
    self._objective, self._kernels, self._nb_pieces = objective, list(kernels), nb_pieces
    self._elements, self._size = list(elements), size
    self._norms, self._losses = tf.function(self._mean_norms), tf.function(self._mean_loss)

  def norms(self, batches: np.ndarray, off: np.ndarray, judged: np.ndarray) -> np.ndarray:
    """Norms, averaged over batches and processes: float32 [size]; 0 for channels no batch judges.

    Args:
      batches: sample numbers, int32 [batches, samples].
      off: 1 for channels that a batch is run without, [batches, size].
      judged: 1 for those whose norms it adds, [batches, size].
    """
    found = self._norms(tf.constant(batches), tf.constant(off), tf.constant(judged))
    return distributed.sum(found.numpy()) / distributed.size()

  def loss(self, batches: np.ndarray) -> float:
    """The loss with the kernels as they are, averaged over batches and processes."""
    found = self._losses(tf.constant(batches)).numpy()
    return float(distributed.sum(np.array([found]))[0] / distributed.size())

  def _mean_norms(self, batches: tf.Tensor, off: tf.Tensor, judged: tf.Tensor) -> tf.Tensor:
    whole = [kernel.read_value() for kernel in self._kernels]
    total = tf.zeros([self._size])
    for number in tf.range(tf.shape(batches)[0]):
      # One after the other: iterations that run at once would each hold their feature maps.
      tf.autograph.experimental.set_loop_options(parallel_iterations=1)
      for kernel, values, element in zip(self._kernels, whole, self._elements, strict=True):
        on = 1 - tf.where(element >= 0, tf.gather(off[number], np.maximum(element, 0)), 0.0)
        kernel.assign(values * on[:, None])
      _, _, gradients = value_and_gradients(
        self._objective, self._kernels, batches[number], self._nb_pieces
      )
      total += channel_norms(gradients, self._elements, self._size) * judged[number]
    for kernel, values in zip(self._kernels, whole, strict=True):
      kernel.assign(values)
    return tf.math.divide_no_nan(total, tf.reduce_sum(judged, axis=0))

  def _mean_loss(self, batches: tf.Tensor) -> tf.Tensor:
    total = tf.constant(0.0)
    for number in tf.range(tf.shape(batches)[0]):
      tf.autograph.experimental.set_loop_options(parallel_iterations=1)
      loss, _, _ = value_and_gradients(
        self._objective, self._kernels, batches[number], self._nb_pieces
      )
      total += tf.cast(loss, tf.float32)
    return total / tf.cast(tf.shape(batches)[0], tf.float32)
