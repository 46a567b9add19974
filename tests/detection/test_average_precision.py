"""Suppression and average precision against slow oracles, and against pycocotools where it is there."""

import contextlib
import io
import itertools

import numpy as np
import pytest
import tensorflow as tf

from secateurs.utils.detection import precision as ap
from secateurs.utils.detection.hits import ALL_AREAS, coco_pairs, hits_by_class, voc_pairs
from secateurs.utils.detection.suppression import Suppression, suppressed, suppressed_plainly

NB_CLASSES, SIDE = 3, 100


def scenes(seed, nb_images=12, nb_objects=6, nb_found=9):
  """Objects, and detections that are some of them shifted, others random; float [n, ., .]."""
  rng = np.random.default_rng(seed)
  objects = np.zeros((nb_images, nb_objects, 8))
  objects[..., 4], objects[..., 7] = -1, SIDE**2
  found = np.zeros((nb_images, nb_found, 6))
  found[..., 5] = -1
  for n in range(nb_images):
    for m in range(rng.integers(0, nb_objects + 1)):
      low = rng.integers(0, 60, 2) / SIDE
      box = np.concatenate([low, low + rng.integers(4, 40, 2) / SIDE])
      area = (box[2:] - box[:2]).prod() * SIDE**2
      objects[n, m] = [*box, rng.integers(NB_CLASSES), rng.random() < 0.2, area, SIDE**2]
    for k in range(rng.integers(0, nb_found + 1)):
      base = objects[n, rng.integers(nb_objects)]
      box = base[:4] + rng.normal(0, 0.03, 4)
      if base[4] < 0 or rng.random() < 0.3:
        low = rng.random(2) * 0.6
        box = np.concatenate([low, low + 0.05 + rng.random(2) * 0.3])
      box[2:] = np.maximum(box[2:], box[:2] + 0.02)
      kind = base[4] if base[4] >= 0 and rng.random() < 0.8 else rng.integers(NB_CLASSES)
      found[n, k] = [*box, rng.random(), kind]
  return found, objects


def overlap(a, b):
  sides = np.minimum(a[2:4], b[2:4]) - np.maximum(a[:2], b[:2])
  shared = max(sides[0], 0) * max(sides[1], 0)
  return shared / (np.prod(a[2:4] - a[:2]) + np.prod(b[2:4] - b[:2]) - shared)


def slow_voc(found, objects, kind, points):
  """Everything at once, as the development kit's loop does it."""
  rows = [(row[4], n, row) for n in range(len(found)) for row in found[n] if row[5] == kind]
  rows.sort(key=lambda row: -row[0])
  wanted = sum((objects[..., 4] == kind) & (objects[..., 5] == 0), start=np.zeros(1)).sum()
  seen, curve, right, wrong = set(), [], 0, 0
  for _, n, row in rows:
    best, place = 0.0, None
    for m, thing in enumerate(objects[n]):
      if thing[4] == kind and overlap(row, thing) > best:
        best, place = overlap(row, thing), m
    if best < 0.5:
      wrong += 1
    elif objects[n, place, 5]:
      continue
    elif (n, place) in seen:
      wrong += 1
    else:
      seen.add((n, place))
      right += 1
    curve.append((right / wanted, right / (right + wrong)))

  def best_at(level):
    return max((p for r, p in curve if r >= level), default=0.0)

  if points:
    return sum(best_at(k / 10) for k in range(11)) / 11
  steps = sorted({0.0, *(r for r, _ in curve)})
  return sum((b - a) * best_at(b) for a, b in itertools.pairwise(steps))


@pytest.mark.parametrize('seed', range(4))
def test_voc_is_that_of_the_slow_oracle(seed):
  found, objects = scenes(seed)
  hits = hits_by_class(found, objects, NB_CLASSES, (0.5,), voc_pairs)
  for kind, one in enumerate(hits):
    for interpolation, points in ((ap.voc2007, True), (ap.voc2012, False)):
      slow = slow_voc(found, objects, kind, points)
      assert ap.average_precisions(one, interpolation)[0] == pytest.approx(slow, abs=1e-9)


def golden():
  """Two objects; a hit, a second detection of the same object, a hit; by falling score."""
  box = np.array([[0, 0, 0.2, 0.2], [0.5, 0.5, 0.9, 0.9]])
  objects = np.zeros((1, 2, 8))
  objects[0, :, :4], objects[0, :, 7] = box, 1e4
  objects[0, :, 6] = [400, 1600]
  found = np.zeros((1, 3, 6))
  found[0, :, :4], found[0, :, 4] = box[[0, 0, 1]], [0.9, 0.8, 0.7]
  return found, objects


def test_average_precision_by_hand():
  # Recall 1/2, 1/2, 1 at precision 1, 1/2, 2/3.
  found, objects = golden()
  (voc,) = hits_by_class(found, objects, 1, (0.5,), voc_pairs)
  assert voc.hits.tolist() == [[True, False, True]]
  assert ap.average_precisions(voc, ap.voc2012)[0] == pytest.approx(0.5 + 0.5 * 2 / 3)
  assert ap.average_precisions(voc, ap.voc2007)[0] == pytest.approx((6 + 5 * 2 / 3) / 11)
  (coco,) = hits_by_class(found, objects, 1, ap.COCO_THRESHOLDS, coco_pairs)
  expected = (51 + 50 * 2 / 3) / 101
  np.testing.assert_allclose(ap.average_precisions(coco, ap.coco), expected)


def test_classes_without_objects_do_not_count():
  found, objects = golden()
  mean, table = ap.mean_average_precision(
    hits_by_class(found, objects, 2, (0.5,), voc_pairs), ap.voc2012
  )
  assert mean == pytest.approx(table[0, 0])
  assert np.isnan(table[1, 0])
  assert ap.mean_average_precision(
    hits_by_class(found[:, :0], objects * 0 - 1, 2, (0.5,), voc_pairs), ap.voc2012
  )[0] == pytest.approx(0)


def test_weights_repeat_images_and_noise_follows_from_them():
  found, objects = scenes(5)
  hits = hits_by_class(found, objects, NB_CLASSES, (0.5, 0.75), coco_pairs)
  twice = np.concatenate([np.arange(12), [3, 3]])
  again = hits_by_class(found[twice], objects[twice], NB_CLASSES, (0.5, 0.75), coco_pairs)
  weights = np.bincount(twice)
  # Repeated images have equal scores, whose order may differ, so that only the recalls' ends agree.
  weighted, repeated = (
    ap.mean_average_precision(*args)[0] for args in ((hits, ap.coco, weights), (again, ap.coco))
  )
  assert weighted == pytest.approx(repeated, abs=0.02)
  noise = ap.bootstrap_noise(hits, ap.coco)
  assert 0.01 < noise < 0.2
  assert noise == ap.bootstrap_noise(hits, ap.coco)
  assert ap.bootstrap_noise(hits[:0], ap.coco) is None


def with_pycocotools(found, objects):
  """AP, AP50, AP75, and AP of small, medium and large objects."""
  from pycocotools.coco import COCO
  from pycocotools.cocoeval import COCOeval

  def corner(box):
    low, sides = box[:2] * SIDE, (box[2:4] - box[:2]) * SIDE
    return [low[1], low[0], sides[1], sides[0]]

  given = COCO()
  things = [(n, row) for n in range(len(objects)) for row in objects[n] if row[4] >= 0]
  given.dataset = {
    'images': [{'id': n + 1} for n in range(len(objects))],
    'categories': [{'id': k + 1} for k in range(NB_CLASSES)],
    'annotations': [
      {
        'id': number + 1,
        'image_id': n + 1,
        'category_id': int(row[4]) + 1,
        'bbox': corner(row),
        'area': row[6],
        'iscrowd': int(row[5]),
      }
      for number, (n, row) in enumerate(things)
    ],
  }
  rows = [
    {
      'image_id': n + 1,
      'category_id': int(row[5]) + 1,
      'bbox': corner(row),
      'score': row[4],
    }
    for n in range(len(found))
    for row in found[n]
    if row[5] >= 0
  ]
  with contextlib.redirect_stdout(io.StringIO()):
    given.createIndex()
    judge = COCOeval(given, given.loadRes(rows), 'bbox')
    judge.evaluate()
    judge.accumulate()
    judge.summarize()
  return judge.stats[:6]


@pytest.mark.parametrize('seed', range(4))
def test_coco_is_that_of_pycocotools(seed):
  pytest.importorskip('pycocotools')
  found, objects = scenes(seed, nb_images=20)

  def mean(thresholds, areas=ALL_AREAS):
    hits = hits_by_class(found, objects, NB_CLASSES, thresholds, coco_pairs, areas)
    return ap.mean_average_precision(hits, ap.coco)[0]

  every = ap.COCO_THRESHOLDS
  ours = [mean(every), mean((0.5,)), mean((0.75,))]
  ours += [mean(every, areas) for areas in ap.COCO_AREAS.values()]
  expected = with_pycocotools(found, objects)
  np.testing.assert_allclose(ours, np.maximum(expected, 0), atol=1e-9)


def slow_coco_pairs(found, objects, threshold):
  """One class and one image without crowds: greedy, the best free object above the threshold."""
  free, hits = set(range(len(objects))), []
  for row in found:
    values = {m: overlap(row, objects[m]) for m in free}
    place = max(values, key=values.get, default=None)
    hits.append(place is not None and values[place] >= threshold)
    if hits[-1]:
      free.remove(place)
  return hits


def test_coco_pairs_are_those_of_the_slow_oracle():
  for seed in range(20):
    rng = np.random.default_rng(seed)
    low = rng.random((5, 2)) * 0.3
    objects = np.zeros((5, 8))
    objects[:, :4] = np.concatenate([low, low + 0.2 + rng.random((5, 2)) * 0.3], 1)
    objects[:, 6] = 100.0
    found = np.zeros((8, 7))
    found[:, :4] = objects[rng.integers(0, 5, 8), :4] + rng.normal(0, 0.02, (8, 4))
    hits, ignored, number = coco_pairs(found, objects, (0.5, 0.75), ALL_AREAS)
    assert [hits[t].tolist() for t in range(2)] == [
      slow_coco_pairs(found, objects, threshold) for threshold in (0.5, 0.75)
    ]
    assert not ignored.any()
    assert number == 5


def slow_suppression(boxes, scores, how):
  """Per class: the best one stays, those that overlap it go."""
  rows = []
  for kind in range(scores.shape[1]):
    left = [a for a in np.argsort(-scores[:, kind], kind='stable') if scores[a, kind] > how.score]
    kept = []
    while left and len(kept) < how.per_class:
      kept.append(left.pop(0))
      left = [a for a in left if overlap(boxes[a], boxes[kept[-1]]) <= how.iou]
    rows += [[*boxes[a], scores[a, kind], kind] for a in kept]
  rows.sort(key=lambda row: -row[4])
  rows = rows[: how.total]
  return np.array(rows + [[0, 0, 0, 0, 0, -1]] * (how.total - len(rows)))


@pytest.mark.parametrize('total', [5, 40])
def test_suppression_is_that_of_the_slow_oracle(total):
  rng = np.random.default_rng(7)
  how = Suppression(score=0.3, iou=0.4, per_class=30, total=total)
  low = rng.random((2, 30, 2)) * 0.5
  boxes = np.concatenate([low, low + 0.1 + rng.random((2, 30, 2)) * 0.4], -1).astype(np.float32)
  scores = rng.random((2, 30, 3)).astype(np.float32)
  slow = np.stack([slow_suppression(*each, how) for each in zip(boxes, scores)])
  np.testing.assert_allclose(suppressed(boxes, scores, how), slow, atol=1e-6)
  plain = [suppressed_plainly(*each, how) for each in zip(tf.constant(boxes), tf.constant(scores))]
  np.testing.assert_allclose(np.stack(plain), slow, atol=1e-6)
