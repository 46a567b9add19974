"""The multibox loss: classes with hard negative mining, and boxes (Liu et al. 2016, section 2.2)."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from secateurs.utils.detection.boxes import encode
from secateurs.utils.detection.matching import THRESHOLD, match

NEGATIVES = 3
BACKGROUND = 0
"""Place of the background among the logits; class k has place k + 1."""


class Losses(NamedTuple):
  """Sums over the default boxes of each image, float32 [n] each.

  Attributes:
    classes: cross-entropy of matched default boxes and of the hardest others.
    boxes: smooth L1 of the offsets of matched default boxes.
    matched: number of matched default boxes.
  """

  classes: tf.Tensor
  boxes: tf.Tensor
  matched: tf.Tensor


def smooth_l1(differences: tf.Tensor) -> tf.Tensor:
  """0.5 x^2 where |x| < 1, else |x| - 0.5, of each number (Girshick 2015, equation 3)."""
  size = tf.abs(differences)
  return tf.where(size < 1, 0.5 * size**2, size - 0.5)


def multibox(
  boxes: tf.Tensor,
  classes: tf.Tensor,
  offsets: tf.Tensor,
  logits: tf.Tensor,
  anchors: tf.Tensor,
  *,
  threshold: float = THRESHOLD,
  negatives: float = NEGATIVES,
) -> Losses:
  """Both parts of the loss, not yet divided by the number of matched default boxes.

  Of the default boxes without an object, those with the greatest cross-entropy count: `negatives` for
  each matched one of the same image. An image without objects adds nothing.

  Args:
    boxes: objects, float [n, m, 4].
    classes: their classes, int [n, m]; negative where there is no object.
    offsets: of the network, float [n, a, 4].
    logits: of the network, float [n, a, 1 + classes], the background first.
    anchors: default boxes, float [a, 4].
    threshold: least IoU of a match.
    negatives: how many default boxes without an object count for each with one.
  """
  found = match(boxes, classes >= 0, anchors, threshold)
  positive = found >= 0
  place = tf.maximum(found, 0)
  labels = tf.where(positive, tf.gather(classes, place, batch_dims=1) + 1, BACKGROUND)
  entropy = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, tf.cast(logits, tf.float32))
  known = tf.cast(positive, tf.float32)
  matched = tf.reduce_sum(known, 1)

  size = tf.shape(positive)[1]
  hardest = tf.math.top_k(tf.where(positive, 0.0, entropy), size).values
  counts = tf.range(size)[None] < tf.cast(negatives * matched, tf.int32)[:, None]
  mined = tf.reduce_sum(tf.where(counts, hardest, 0.0), 1)

  wanted = encode(tf.gather(boxes, place, batch_dims=1), anchors)
  wanted = tf.where(positive[..., None], wanted, 0.0)
  distance = tf.reduce_sum(smooth_l1(tf.cast(offsets, tf.float32) - wanted), -1)
  return Losses(
    tf.reduce_sum(entropy * known, 1) + mined, tf.reduce_sum(distance * known, 1), matched
  )
