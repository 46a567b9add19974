"""Which default box answers for which object (Liu et al. 2016, section 2.2)."""

from __future__ import annotations

import tensorflow as tf

from secateurs.utils.detection.boxes import iou

THRESHOLD = 0.5
NONE = -1


def match(
  boxes: tf.Tensor, valid: tf.Tensor, anchors: tf.Tensor, threshold: float = THRESHOLD
) -> tf.Tensor:
  """The object of each default box, for a whole batch at once; runs in graph mode.

  First each object takes the default box that overlaps it most, the pair of the greatest overlap
  before all others; then every other default box with an IoU of at least `threshold` takes the object
  that it overlaps most. An object that overlaps no default box gets none.

  The first step is a stable matching: objects propose to their best default box, a default box keeps
  the best proposal, and rejected objects propose again. As both sides order pairs by the same number,
  it gives the pairs that picking the greatest overlap again and again gives, mostly in one round.

  Args:
    boxes: objects, float [n, m, 4].
    valid: which of them count, bool [n, m].
    anchors: default boxes, float [a, 4].
    threshold: least IoU of the second step.

  Returns:
    int32 [n, a]: the object's place in m, or NONE.
  """
  valid = tf.convert_to_tensor(valid)
  overlaps = tf.where(valid[..., None], iou(boxes, anchors), 0.0)
  best = tf.argmax(overlaps, axis=1, output_type=tf.int32)
  found = tf.where(tf.reduce_max(overlaps, axis=1) >= threshold, best, NONE)
  chosen, taken = _stable(overlaps)
  places = tf.where(taken)  # [k, 2] of (image, object)
  indices = tf.stack([tf.cast(places[:, 0], tf.int32), tf.boolean_mask(chosen, taken)], -1)
  return tf.tensor_scatter_nd_update(found, indices, tf.cast(places[:, 1], tf.int32))


def _stable(overlaps: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
  """Each object's own default box, int32 [n, m], and whether it has one, bool [n, m]."""
  size = tf.shape(overlaps)[-1]
  number = tf.range(tf.shape(overlaps)[1])
  earlier = number[None, :] < number[:, None]

  def propose(open_: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    chosen = tf.argmax(open_, axis=-1, output_type=tf.int32)
    value = tf.reduce_max(open_, axis=-1)
    same = (chosen[:, :, None] == chosen[:, None, :]) & (value[:, None, :] > 0)
    mine, theirs = value[:, :, None], value[:, None, :]
    beaten = same & ((theirs > mine) | ((theirs == mine) & earlier))
    return chosen, value > 0, tf.reduce_any(beaten, -1) & (value > 0)

  def reject(open_: tf.Tensor, chosen: tf.Tensor, loses: tf.Tensor) -> tuple[tf.Tensor, ...]:
    refused = tf.one_hot(chosen, size, on_value=True, off_value=False) & loses[..., None]
    open_ = tf.where(refused, 0.0, open_)
    chosen, taken, loses = propose(open_)
    return open_, chosen, loses, taken

  chosen, taken, loses = propose(overlaps)
  _, chosen, _, taken = tf.while_loop(
    lambda open_, chosen, loses, taken: tf.reduce_any(loses),
    lambda open_, chosen, loses, taken: reject(open_, chosen, loses),
    (overlaps, chosen, loses, taken),
  )
  return chosen, taken
