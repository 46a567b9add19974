"""Which detections are right: detections and objects of each image, paired as VOC or COCO does it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

# Columns of objects, as data sets give them.
CLASS, IGNORED, AREA, PIXELS = 4, 5, 6, 7
NB_COLUMNS = 8
SCORE, FOUND_CLASS = 4, 5

Areas = tuple[float, float]
ALL_AREAS: Areas = (0.0, float('inf'))


@dataclasses.dataclass(frozen=True)
class Hits:
  """Detections of one class over all images, in the order of images.

  Attributes:
    images: image of each detection, int [d].
    scores: float [d].
    hits: whether it found an object, bool [thresholds, d].
    ignored: whether it counts neither for nor against, bool [thresholds, d].
    objects: number of objects to be found in each image, int [n].
  """

  images: np.ndarray
  scores: np.ndarray
  hits: np.ndarray
  ignored: np.ndarray
  objects: np.ndarray


Pairing = Callable[[np.ndarray, np.ndarray, Sequence[float], Areas], tuple[np.ndarray, ...]]
"""Hits, ignored ones [thresholds, d] and the number of objects, from one image's rows of a class."""


def hits_by_class(
  detections: np.ndarray,
  objects: np.ndarray,
  nb_classes: int,
  thresholds: Sequence[float],
  pairing: Pairing,
  areas: Areas = ALL_AREAS,
  most: int = 100,
) -> list[Hits]:
  """Pairs detections with objects, class by class.

  Args:
    detections: float [n, k, 6]: box, score, class; a negative class where there is none.
    objects: float [n, m, 8]: box, class (negative where there is none), whether to ignore it
      (difficult or a crowd), its area and the image's, both in pixels.
    nb_classes: number of classes.
    thresholds: least IoU of a hit, one or several.
    pairing: `voc_pairs` or `coco_pairs`.
    areas: objects of other areas, in pixels, are ignored (COCO only).
    most: detections of an image and a class at most.
  """
  parts: list[list[tuple]] = [[] for _ in range(nb_classes)]
  counts = np.zeros((nb_classes, len(detections)), np.int64)
  for image, (found, given) in enumerate(zip(detections, objects, strict=True)):
    found, given = found[found[:, FOUND_CLASS] >= 0], given[given[:, CLASS] >= 0]
    pixels = objects[image, 0, PIXELS]
    for kind in np.union1d(found[:, FOUND_CLASS], given[:, CLASS]).astype(int):
      mine = found[found[:, FOUND_CLASS] == kind]
      mine = mine[np.argsort(-mine[:, SCORE], kind='stable')[:most]]
      scaled = _scaled(mine, pixels)
      hits, ignored, number = pairing(
        scaled, given[given[:, CLASS] == kind], tuple(thresholds), areas
      )
      counts[kind, image] = number
      parts[kind].append((np.full(len(mine), image), mine[:, SCORE], hits, ignored))
  empty = (np.zeros(0, int), np.zeros(0), *(np.zeros((len(thresholds), 0), bool),) * 2)
  return [
    Hits(*(np.concatenate(column, -1) for column in zip(empty, *rows, strict=True)), counts[kind])
    for kind, rows in enumerate(parts)
  ]


def _scaled(found: np.ndarray, pixels: float) -> np.ndarray:
  """Detections with their area in pixels as a last column."""
  sides = np.maximum(found[:, 2:4] - found[:, :2], 0)
  return np.column_stack([found, sides.prod(1) * pixels])


def overlaps(found: np.ndarray, given: np.ndarray, crowd: np.ndarray | None = None) -> np.ndarray:
  """IoU of boxes [d, 4+] with [g, 4+]; with a crowd, the intersection over the detection's area."""
  low = np.maximum(found[:, None, :2], given[None, :, :2])
  high = np.minimum(found[:, None, 2:4], given[None, :, 2:4])
  shared = np.maximum(high - low, 0).prod(-1)
  own, other = ((x[:, 2:4] - x[:, :2]).clip(0).prod(-1) for x in (found, given))
  union = own[:, None] + other[None] - shared
  if crowd is not None:
    union = np.where(crowd[None], own[:, None], union)
  return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def voc_pairs(
  found: np.ndarray, given: np.ndarray, thresholds: Sequence[float], areas: Areas
) -> tuple[np.ndarray, np.ndarray, int]:
  """As the VOC development kit: a detection takes the object that it overlaps most, and no other.

  It is a hit if the object was not found before, is ignored if that is a difficult one, and is wrong
  otherwise (Everingham et al. 2010, section 4.4).

  Args:
    found: detections [d, columns], in the order of falling scores.
    given: objects [g, columns].
    thresholds: of IoU.
    areas: not used here.

  Returns:
    Hits and ignored detections, bool [thresholds, d] each, and the number of objects that count.
  """
  del areas
  hits = np.zeros((len(thresholds), len(found)), bool)
  ignored = np.zeros_like(hits)
  difficult = given[:, IGNORED] > 0
  if len(given) and len(found):
    overlap = overlaps(found, given)
    best = overlap.argmax(1)
    for t, threshold in enumerate(thresholds):
      free = ~difficult
      for d, place in enumerate(best):
        if overlap[d, place] < threshold:
          continue
        ignored[t, d] = difficult[place]
        hits[t, d] = free[place]
        free[place] = False
  return hits, ignored, int((~difficult).sum())


def coco_pairs(
  found: np.ndarray, given: np.ndarray, thresholds: Sequence[float], areas: Areas
) -> tuple[np.ndarray, np.ndarray, int]:
  """As COCO's evaluation: a detection takes the object that it overlaps most of those still free.

  Objects that are ignored (crowds, other areas) are taken only where no other fits; a crowd any number
  of times. Detections without an object are ignored where their own area is another. Arguments and
  result are those of `voc_pairs`; `areas` are the least and the largest area in pixels that count.
  """
  crowd = given[:, IGNORED] > 0
  low, high = areas
  skipped = crowd | (given[:, AREA] < low) | (given[:, AREA] > high)
  order = np.argsort(skipped, kind='stable')
  given, crowd, skipped = given[order], crowd[order], skipped[order]
  overlap = overlaps(found, given, crowd)
  shape = (len(thresholds), len(found))
  hits, ignored = np.zeros(shape, bool), np.zeros(shape, bool)
  least = np.minimum(np.asarray(thresholds), 1 - 1e-10)
  free = np.ones((len(thresholds), len(given)), bool)
  rows = np.arange(len(thresholds))
  near = overlap.max(1, initial=0.0) >= least.min()  # Most detections are far from every object.
  for d in np.flatnonzero(near):
    fits = free & (overlap[d][None] >= least[:, None])
    wanted = fits & ~skipped
    wanted = np.where(wanted.any(1, keepdims=True), wanted, fits)
    values = np.where(wanted, overlap[d][None], -1.0)
    # The last of equal overlaps, as the original's loop takes it.
    place = values.shape[1] - 1 - values[:, ::-1].argmax(1)
    taken = wanted[rows, place]
    ignored[:, d] = taken & skipped[place]
    hits[:, d] = taken & ~skipped[place]
    free[rows, place] &= ~(taken & ~crowd[place])
  if len(found):
    area = found[:, -1]
    paired = hits | ignored
    ignored |= ~paired & ((area < low) | (area > high))[None]
  return hits, ignored, int((~skipped).sum())
