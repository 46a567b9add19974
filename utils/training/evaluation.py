"""Accuracy over every sample exactly once, each process taking its share of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import tensorflow as tf
import tf_keras as keras

from secateurs.utils.training import distributed
from secateurs.utils.training.objectives import cross_entropy

_TOP_K = 5
_MIN_CLASSES_FOR_TOP_K = 20  # Top-5 of ten classes says little.


@dataclasses.dataclass(frozen=True)
class Evaluation:
  """Results over one split.

  Attributes:
    accuracy: share of samples whose greatest output is their label, in [0, 1].
    accuracy_top5: the same for the five greatest; None with fewer than 20 classes.
    loss: mean cross-entropy.
    nb_samples: samples seen.
  """

  accuracy: float
  accuracy_top5: float | None
  loss: float
  nb_samples: int


def evaluate(model: keras.Model, batches: tf.data.Dataset) -> Evaluation:
  """Evaluates a model that gives logits on batches of (images, labels) of any sizes.

  With several processes each is given other batches (`distributed.shard`), and all get the totals.
  """

  @tf.function
  def totals(data: tf.data.Dataset) -> tuple:
    sums = (tf.constant(0, tf.int64), tf.constant(0, tf.int64), 0.0, tf.constant(0, tf.int64))
    for images, labels in data:
      sums = _add(sums, model(images, training=False), labels)
    return sums

  return _summary(totals(batches), model.output_shape[-1])


def evaluate_function(
  predict: Callable[[np.ndarray], np.ndarray], batches: tf.data.Dataset
) -> Evaluation:
  """Evaluates any function from images to logits, such as an interpreter's; batches as above."""
  sums, nb_classes = (np.int64(0), np.int64(0), np.float32(0), np.int64(0)), 0
  for images, labels in batches:
    logits = predict(images.numpy())
    nb_classes = logits.shape[-1]
    sums = _add(sums, tf.constant(logits), labels)
  return _summary(sums, max(distributed.gather_objects(nb_classes)))


def _add(sums: tuple, logits: tf.Tensor, labels: tf.Tensor) -> tuple:
  logits = tf.cast(logits, tf.float32)
  count = tf.shape(labels, tf.int64)[0]
  right = tf.argmax(logits, -1, tf.int32) == labels
  top5 = tf.math.in_top_k(labels, logits, min(_TOP_K, logits.shape[-1]))
  return (
    sums[0] + tf.math.count_nonzero(right),
    sums[1] + tf.math.count_nonzero(top5),
    sums[2] + cross_entropy(labels, logits) * tf.cast(count, tf.float32),
    sums[3] + count,
  )


def _summary(sums: tuple, nb_classes: int) -> Evaluation:
  right, top5, loss, count = (float(total) for total in distributed.sum(*map(np.float64, sums)))
  if not count:
    raise ValueError('There is nothing to evaluate on: the split has no samples.')
  has_top5 = nb_classes >= _MIN_CLASSES_FOR_TOP_K
  return Evaluation(right / count, top5 / count if has_top5 else None, loss / count, int(count))
