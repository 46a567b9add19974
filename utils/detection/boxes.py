"""Boxes: overlap, and offsets from default boxes.

A box is (y_min, x_min, y_max, x_max) in fractions of the image's height and width, edges of pixels
rather than their centres: the whole image is (0, 0, 1, 1).
"""

from __future__ import annotations

import math

import tensorflow as tf

VARIANCES = (0.1, 0.2)
"""Standard sizes of the offsets of centres, and of the logarithms of sides (Liu et al. 2016)."""

_LARGEST_LOG = math.log(1000 / 16)
_TINY = 1e-9


def areas(boxes: tf.Tensor) -> tf.Tensor:
  """Areas of boxes [..., 4] as fractions of the image, [...]; a box turned inside out has none."""
  sides = tf.maximum(boxes[..., 2:] - boxes[..., :2], 0.0)
  return sides[..., 0] * sides[..., 1]


def intersections(boxes: tf.Tensor, others: tf.Tensor) -> tf.Tensor:
  """Areas of the intersections of boxes [..., m, 4] with others [..., n, 4]; [..., m, n]."""
  boxes, others = boxes[..., :, None, :], others[..., None, :, :]
  low = tf.maximum(boxes[..., :2], others[..., :2])
  high = tf.minimum(boxes[..., 2:], others[..., 2:])
  sides = tf.maximum(high - low, 0.0)
  return sides[..., 0] * sides[..., 1]


def iou(boxes: tf.Tensor, others: tf.Tensor) -> tf.Tensor:
  """Intersection over union of boxes [..., m, 4] with others [..., n, 4]; [..., m, n] in [0, 1].

  Two boxes without area have none.
  """
  shared = intersections(boxes, others)
  union = areas(boxes)[..., :, None] + areas(others)[..., None, :] - shared
  return tf.math.divide_no_nan(shared, union)


def encode(boxes: tf.Tensor, anchors: tf.Tensor) -> tf.Tensor:
  """Offsets of boxes from default boxes (Liu et al. 2016, equation 2), divided by the variances.

  Args:
    boxes: float [..., 4]; sides without length count as very short ones.
    anchors: the default boxes, float [..., 4].

  Returns:
    float [..., 4]: shifts of the centre down and to the right in sides of the default box over 0.1,
    logarithms of the ratios of heights and widths over 0.2.
  """
  centres, sides = _centred(boxes)
  from_centres, from_sides = _centred(anchors)
  shifts = (centres - from_centres) / from_sides / VARIANCES[0]
  growths = tf.math.log(tf.maximum(sides, _TINY) / from_sides) / VARIANCES[1]
  return tf.concat([shifts, growths], -1)


def decode(offsets: tf.Tensor, anchors: tf.Tensor) -> tf.Tensor:
  """Boxes from offsets; the inverse of `encode`.

  Deviation: sides are at most 62.5 times those of the default box, so that an untrained network gives
  finite boxes.

  Args:
    offsets: float [..., 4], as `encode` gives them.
    anchors: the default boxes, float [..., 4].

  Returns:
    float [..., 4].
  """
  from_centres, from_sides = _centred(anchors)
  centres = from_centres + offsets[..., :2] * VARIANCES[0] * from_sides
  sides = from_sides * tf.exp(tf.minimum(offsets[..., 2:] * VARIANCES[1], _LARGEST_LOG))
  return tf.concat([centres - sides / 2, centres + sides / 2], -1)


def _centred(boxes: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
  """Centres [..., 2] and sides [..., 2], vertical first."""
  low, high = boxes[..., :2], boxes[..., 2:]
  return (low + high) / 2, high - low
