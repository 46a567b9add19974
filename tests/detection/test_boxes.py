"""Boxes, default boxes, matching and the multibox loss against slow oracles."""

import math

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from secateurs.utils.detection import boxes as bx
from secateurs.utils.detection.anchors import SMALL_96, SSD300_COCO, SSD300_VOC, Anchors
from secateurs.utils.detection.matching import NONE, match
from secateurs.utils.detection.multibox import multibox


def random_boxes(rng, *shape):
  corners = np.sort(rng.random((*shape, 2, 2)), axis=-2)
  return corners.reshape(*shape, 4).astype(np.float32)


def slow_iou(one, other):
  height = min(one[2], other[2]) - max(one[0], other[0])
  width = min(one[3], other[3]) - max(one[1], other[1])
  shared = max(height, 0) * max(width, 0)
  size = [(b[2] - b[0]) * (b[3] - b[1]) for b in (one, other)]
  union = sum(size) - shared
  return shared / union if union else 0.0


def test_iou_by_hand_and_against_a_loop():
  unit, half = [0, 0, 1, 1], [0, 0, 1, 0.5]
  apart, point = [2, 2, 3, 3], [0.5, 0.5, 0.5, 0.5]
  found = bx.iou(
    tf.constant([unit, point], tf.float32), tf.constant([half, apart, point], tf.float32)
  )
  np.testing.assert_allclose(found, [[0.5, 0, 0], [0, 0, 0]])
  rng = np.random.default_rng(0)
  one, other = random_boxes(rng, 2, 5), random_boxes(rng, 2, 7)
  slow = [[[slow_iou(a, b) for b in other[i]] for a in one[i]] for i in range(2)]
  np.testing.assert_allclose(bx.iou(one, other), slow, atol=1e-6)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6))
def test_decoding_turns_encoding_round(seed):
  rng = np.random.default_rng(seed)
  boxes = random_boxes(rng, 6) + np.array([0, 0, 0.05, 0.05], np.float32)
  anchors = random_boxes(rng, 6) + np.array([0, 0, 0.05, 0.05], np.float32)
  np.testing.assert_allclose(bx.decode(bx.encode(boxes, anchors), anchors), boxes, atol=1e-5)


def test_offsets_by_hand():
  anchor = tf.constant([0.4, 0.4, 0.6, 0.8])  # 0.2 high, 0.4 wide
  box = tf.constant([0.5, 0.4, 0.7, 1.2])  # 0.1 lower, 0.2 to the right, twice as wide
  np.testing.assert_allclose(
    bx.encode(box, anchor), [0.5 / 0.1, 0.5 / 0.1, 0, math.log(2) / 0.2], atol=1e-5
  )
  assert np.isfinite(bx.decode(tf.fill([4], 1e6), anchor)).all()


@pytest.mark.parametrize('anchors', [SSD300_VOC, SSD300_COCO])
def test_ssd300_has_8732_default_boxes(anchors):
  boxes = anchors.boxes()
  assert anchors.per_cell == (4, 6, 6, 6, 4, 4)
  assert boxes.shape == (8732, 4) == (anchors.count, 4)
  # The first cell's first box, and the last map's square of nearly the whole image.
  size = anchors.sizes[0] / 300
  np.testing.assert_allclose(
    boxes[0], 4 / 300 + np.array([-1, -1, 1, 1]) * size / 2, rtol=1e-5, atol=1e-7
  )
  sides = (boxes[-4:, 2:] - boxes[-4:, :2]).max(1)
  assert sides.max() <= 1 + 1e-6
  wide = boxes[2]  # Ratio 2: twice as wide as high.
  assert (wide[3] - wide[1]) / (wide[2] - wide[0]) == pytest.approx(2, rel=1e-4)


def test_default_boxes_follow_the_cells_of_their_maps():
  assert SMALL_96.count == len(SMALL_96.boxes())
  boxes = Anchors(100, (2,), (50, 50), ((),)).boxes()  # Both squares of a cell are equal here.
  cells = [[0, 0, 0.5, 0.5], [0, 0.5, 0.5, 1], [0.5, 0, 1, 0.5], [0.5, 0.5, 1, 1]]
  np.testing.assert_allclose(boxes[::2], cells, atol=1e-7)
  np.testing.assert_array_equal(boxes[::2], boxes[1::2])
  with pytest.raises(ValueError, match='one more size than maps'):
    Anchors(100, (2, 1), (50, 50), ((), ()))


def slow_match(boxes, valid, anchors, threshold=0.5):
  """The greatest overlap again and again, then the threshold."""
  overlap = np.array([[slow_iou(b, a) for a in anchors] for b in boxes])
  overlap[~np.asarray(valid)] = 0
  found = np.full(len(anchors), NONE)
  for a in range(len(anchors)):
    if overlap[:, a].max() >= threshold:
      found[a] = overlap[:, a].argmax()
  left = overlap.copy()
  while left.max() > 0:
    b, a = np.unravel_index(left.argmax(), left.shape)
    found[a] = b
    left[b], left[:, a] = 0, 0
  return found


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.booleans())
def test_matching_is_that_of_the_slow_oracle(seed, crowded):
  rng = np.random.default_rng(seed)
  boxes, anchors = random_boxes(rng, 3, 6), random_boxes(rng, 9)
  if crowded:  # Many objects want the same default box.
    boxes = (boxes[:, :1] + rng.normal(0, 0.02, boxes.shape)).astype(np.float32)
  valid = rng.random((3, 6)) < 0.7
  slow = [slow_match(*each, anchors) for each in zip(boxes, valid)]
  np.testing.assert_array_equal(match(boxes, valid, anchors), slow)


def test_matching_by_hand():
  anchors = np.array([[0, 0, 1, 1], [0, 0, 1, 0.6], [0, 0.9, 0.1, 1]], np.float32)
  boxes = np.array([[[0, 0, 1, 0.9], [0, 0, 1, 0.95], [0, 0, 0, 0]]], np.float32)
  # Both objects want the first default box; the second one fits better, the first takes the next.
  assert match(boxes, [[True, True, False]], anchors).numpy().tolist() == [[1, 0, NONE]]
  assert match(boxes, [[False] * 3], anchors).numpy().tolist() == [[NONE] * 3]


def test_objects_outside_every_default_box_get_none_and_graphs_agree():
  anchors = np.array([[0, 0, 0.1, 0.1]], np.float32)
  boxes = np.array([[[0.5, 0.5, 1, 1]]], np.float32)
  assert match(boxes, [[True]], anchors).numpy().tolist() == [[NONE]]
  rng = np.random.default_rng(1)
  boxes, anchors = random_boxes(rng, 2, 4), random_boxes(rng, 30)
  valid = np.ones((2, 4), bool)
  np.testing.assert_array_equal(
    tf.function(match)(boxes, valid, anchors), match(boxes, valid, anchors)
  )


def slow_multibox(boxes, classes, offsets, logits, anchors):
  found = slow_match(boxes, classes >= 0, anchors)
  entropies, distance = [], 0.0
  for a, place in enumerate(found):
    label = 0 if place == NONE else classes[place] + 1
    entropies.append(math.log(np.exp(logits[a]).sum()) - logits[a, label])
    if place != NONE:
      for x in offsets[a] - bx.encode(boxes[place], anchors[a]).numpy():
        distance += 0.5 * x * x if abs(x) < 1 else abs(x) - 0.5
  entropies = np.array(entropies)
  hard = np.sort(entropies[found == NONE])[::-1][: 3 * (found != NONE).sum()]
  return entropies[found != NONE].sum() + hard.sum(), distance, (found != NONE).sum()


def test_the_loss_is_that_of_the_slow_oracle_and_has_gradients():
  rng = np.random.default_rng(2)
  boxes, anchors = random_boxes(rng, 3, 4), random_boxes(rng, 40)
  classes = np.array([[0, 2, 1, -1], [1, -1, -1, -1], [-1, -1, -1, -1]])
  offsets = tf.constant(rng.normal(0, 2, (3, 40, 4)), tf.float32)
  logits = tf.constant(rng.normal(0, 2, (3, 40, 4)), tf.float32)
  with tf.GradientTape() as tape:
    tape.watch([offsets, logits])
    losses = multibox(boxes, classes, offsets, logits, anchors)
    total = tf.reduce_sum(losses.classes + losses.boxes)
  slow = [
    slow_multibox(*each, anchors) for each in zip(boxes, classes, offsets.numpy(), logits.numpy())
  ]
  np.testing.assert_allclose(np.transpose(losses), slow, rtol=1e-4)
  assert losses.classes[2] == losses.boxes[2] == losses.matched[2] == 0
  of_offsets, of_logits = tape.gradient(total, [offsets, logits])
  hard = np.abs(of_logits.numpy()).sum(-1) > 0
  assert hard.sum(1).tolist() == [min(4 * int(m), 40) for m in losses.matched]
  assert (np.abs(of_offsets.numpy()).sum(-1) > 0).sum(1).tolist() == losses.matched.numpy().tolist()
