"""Non-maximum suppression: of boxes of one class that overlap, the one with the best score stays."""

from __future__ import annotations

import dataclasses

import tensorflow as tf

NOTHING = -1.0
"""Class of a row of detections that is empty."""


@dataclasses.dataclass(frozen=True)
class Suppression:
  """How detections are chosen from what a network gives.

  Attributes:
    score: least probability of a detection.
    iou: two detections of one class overlap at most so much.
    per_class: detections of an image and a class at most.
    total: detections of an image at most.
  """

  score: float = 0.01
  iou: float = 0.45
  per_class: int = 200
  total: int = 200


def suppressed(boxes: tf.Tensor, scores: tf.Tensor, how: Suppression) -> tf.Tensor:
  """Detections of a batch, by TensorFlow's own kernel; runs in graph mode.

  Boxes are cut to the image first.

  Args:
    boxes: float [n, a, 4].
    scores: probabilities of the classes without the background, float [n, a, c].
    how: thresholds and numbers.

  Returns:
    float32 [n, total, 6]: box, score and class, the best score first; rows without a detection are
    zero with class NOTHING.
  """
  found = tf.image.combined_non_max_suppression(
    tf.clip_by_value(boxes, 0.0, 1.0)[:, :, None],
    scores,
    how.per_class,
    how.total,
    iou_threshold=how.iou,
    score_threshold=how.score,
    clip_boxes=False,
  )
  there = tf.range(how.total)[None] < found.valid_detections[:, None]
  classes = tf.where(there, found.nmsed_classes, NOTHING)
  return tf.concat([found.nmsed_boxes, found.nmsed_scores[..., None], classes[..., None]], -1)


def suppressed_plainly(
  boxes: tf.Tensor, scores: tf.Tensor, how: Suppression, candidates: int = 1000
) -> tf.Tensor:
  """The same for a single image with operations that TensorFlow Lite has, for exported files.

  The `candidates` best pairs of box and class enter one suppression, in which boxes of different
  classes lie far apart. Deviation from `suppressed`: that limit takes the place of `per_class`.

  Args:
    boxes: float [a, 4].
    scores: float [a, c].
    how: thresholds and numbers.
    candidates: pairs that enter.

  Returns:
    float32 [total, 6], as above.
  """
  nb_classes = scores.shape[-1]
  best, place = tf.math.top_k(
    tf.reshape(scores, [-1]), min(candidates, scores.shape[0] * nb_classes)
  )
  row = tf.cast(tf.math.floordiv(place, nb_classes), tf.int32)
  kind = tf.cast(place - row * nb_classes, tf.float32)
  chosen = tf.clip_by_value(tf.gather(boxes, row), 0.0, 1.0)
  apart = chosen + 2.0 * kind[:, None]
  kept, number = tf.raw_ops.NonMaxSuppressionV4(
    boxes=apart,
    scores=best,
    max_output_size=how.total,
    iou_threshold=how.iou,
    score_threshold=how.score,
    pad_to_max_output_size=True,
  )
  there = tf.cast(tf.range(how.total) < number, tf.float32)[:, None]
  rows = tf.concat([chosen, best[:, None], kind[:, None]], -1)
  nothing = tf.constant([0.0] * 5 + [NOTHING])
  return tf.gather(rows, kept) * there + nothing * (1.0 - there)
