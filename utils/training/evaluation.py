"""Accuracy, loss and other means over every sample exactly once, shared out among processes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import tensorflow as tf
import tf_keras as keras

from secateurs.utils.training import distributed
from secateurs.utils.training.criteria import Criteria

_TOP_K = 5
_MIN_CLASSES_FOR_TOP_K = 20  # Top-5 of ten classes says little.


@dataclasses.dataclass(frozen=True)
class Evaluation:
  """Results over one split.

  Attributes:
    accuracy: share of samples whose greatest output is their label, in [0, 1].
    accuracy_top5: the same for the five greatest; None with fewer than 20 classes.
    loss: mean cross-entropy, or the user's loss.
    nb_samples: samples seen.
    metrics: means of the user's metrics by name.
  """

  accuracy: float
  accuracy_top5: float | None
  loss: float
  nb_samples: int
  metrics: dict[str, float] = dataclasses.field(default_factory=dict)


def evaluate(
  model: keras.Model, batches: tf.data.Dataset, criteria: Criteria | None = None
) -> Evaluation:
  """Evaluates a model that gives logits on batches of (images, labels) of any sizes.

  With several processes each is given other batches (`distributed.shard`), and all get the totals.
  """
  criteria = criteria or Criteria()

  @tf.function
  def totals(data: tf.data.Dataset) -> tuple:
    counts, means = _nothing(criteria)
    for images, labels in data:
      counts, means = _add(counts, means, model(images, training=False), labels, criteria)
    return counts, means

  return _summary(*totals(batches), model.output_shape[-1], criteria)


def evaluate_function(
  predict: Callable[[np.ndarray], np.ndarray],
  batches: tf.data.Dataset,
  criteria: Criteria | None = None,
) -> Evaluation:
  """Evaluates any function from images to logits, such as an interpreter's; batches as above."""
  criteria = criteria or Criteria()
  (counts, means), nb_classes = _nothing(criteria), 0
  for images, labels in batches:
    logits = predict(images.numpy())
    nb_classes = logits.shape[-1]
    counts, means = _add(counts, means, tf.constant(logits), labels, criteria)
  return _summary(counts, means, max(distributed.gather_objects(nb_classes)), criteria)


def _nothing(criteria: Criteria) -> tuple[tuple, tuple]:
  """Samples seen, right, and right among five; sums of the loss and the user's metrics."""
  counts = tuple(tf.constant(0, tf.int64) for _ in range(3))
  return counts, tuple(tf.constant(0.0) for _ in ('loss', *criteria.metric_names))


def _add(
  counts: tuple, sums: tuple, logits: tf.Tensor, labels: tf.Tensor, criteria: Criteria
) -> tuple[tuple, tuple]:
  logits = tf.cast(logits, tf.float32)
  count = tf.shape(labels, tf.int64)[0]
  right = tf.argmax(logits, -1, tf.int32) == labels
  top5 = tf.math.in_top_k(labels, logits, min(_TOP_K, logits.shape[-1]))
  found = (count, tf.math.count_nonzero(right), tf.math.count_nonzero(top5))
  means = (criteria.loss(labels, logits), *criteria.metrics(labels, logits).values())
  return (
    tuple(total + new for total, new in zip(counts, found, strict=True)),
    tuple(
      total + mean * tf.cast(count, tf.float32) for total, mean in zip(sums, means, strict=True)
    ),
  )


def _summary(counts: tuple, sums: tuple, nb_classes: int, criteria: Criteria) -> Evaluation:
  totals = distributed.sum(*map(np.float64, (*counts, *sums)))
  count, right, top5, loss, *others = (float(total) for total in totals)
  if not count:
    raise ValueError('There is nothing to evaluate on: the split has no samples.')
  has_top5 = nb_classes >= _MIN_CLASSES_FOR_TOP_K
  metrics = dict(zip(criteria.metric_names, (total / count for total in others), strict=True))
  return Evaluation(
    right / count, top5 / count if has_top5 else None, loss / count, int(count), metrics
  )
