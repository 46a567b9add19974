"""The samples that searches judge networks on, which are never those of the evaluation set."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
import tf_keras as keras

from secateurs.learners.helper import Helper
from secateurs.utils.training import distributed
from secateurs.utils.training.criteria import Criteria

_BATCH = 250
_NOTE = 'Ratios are judged on training images; --nb_smpls_val holds others out.'


def judging_split(helper: Helper) -> str:
  """`val` where samples are held out of training, else `train`."""
  return 'val' if helper.nb_samples('val') else 'train'


def judging_notes(helper: Helper) -> list[str]:
  """What the reader of a report must know: nothing where samples were held out."""
  return [] if judging_split(helper) == 'val' else [_NOTE]


def judging_samples(helper: Helper, nb_samples: int) -> tuple[np.ndarray, np.ndarray]:
  """Images [n, h, w, c] and labels [n] to judge on: at most so many of `judging_split`.

  They are spread evenly over the split, which may be ordered by classes; all processes get the same.
  """
  split = judging_split(helper)
  batch = min(nb_samples, _BATCH)
  stride = max(helper.nb_samples(split) // nb_samples, 1)
  size = -(-helper.nb_samples(split) // stride)  # Less than twice what is wanted.
  parts, seen = [], 0
  for images, labels in helper.eval_batches(split, batch, shard=(0, stride)):
    places = np.arange(seen, seen + len(labels))
    chosen = (places + 1) * nb_samples // size > places * nb_samples // size
    parts.append((images.numpy()[chosen], labels.numpy()[chosen]))
    seen += len(labels)
  images, labels = (np.concatenate(column) for column in zip(*parts))
  return images[:nb_samples], labels[:nb_samples]


class Judge:
  """Accuracy and loss of one network, whose weights may change between calls, on some samples.

  With several processes each judges on some of the batches; all get the same sums.
  """

  def __init__(
    self,
    model: keras.Model,
    images: np.ndarray,
    labels: np.ndarray,
    criteria: Criteria | None = None,
  ) -> None:
    """`images` [n, h, w, c], `labels` [n]; the network gives logits; `criteria` has their loss."""
    self._model, self._criteria = model, criteria or Criteria()
    self._images, self._labels = tf.constant(images), tf.constant(labels)
    self._totals = tf.function(self._sum)

  def __call__(self) -> tuple[float, float]:
    """Accuracy in [0, 1] and mean loss."""
    correct, loss = distributed.sum(*(value.numpy() for value in self._totals()))
    size = len(self._labels)
    return float(correct) / size, float(loss) / size

  def accuracy(self) -> float:
    """Accuracy in [0, 1]."""
    return self()[0]

  def loss(self) -> float:
    """Mean loss."""
    return self()[1]

  def _sum(self) -> tuple[tf.Tensor, tf.Tensor]:
    correct, loss = tf.constant(0.0), tf.constant(0.0)
    rank, size = distributed.shard()
    total = tf.shape(self._labels)[0]
    for start in tf.range(tf.minimum(rank * _BATCH, total), total, size * _BATCH):
      images, labels = self._images[start : start + _BATCH], self._labels[start : start + _BATCH]
      logits = tf.cast(self._model(images, training=False), tf.float32)
      hits = tf.cast(tf.argmax(logits, -1, labels.dtype) == labels, tf.float32)
      correct += tf.reduce_sum(hits)
      loss += self._criteria.loss(labels, logits) * tf.cast(tf.shape(labels)[0], tf.float32)
    return correct, loss
