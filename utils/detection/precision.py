"""Average precision from hits: VOC 2007, VOC 2012 and COCO."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from secateurs.utils.detection.hits import Hits

COCO_THRESHOLDS = tuple(np.linspace(0.5, 0.95, 10).tolist())
COCO_AREAS = {
  'small': (0.0, 32.0**2),
  'medium': (32.0**2, 96.0**2),
  'large': (96.0**2, 1e5**2),
}
_LEVELS = np.linspace(0.0, 1.0, 101)

Interpolation = Callable[[np.ndarray, np.ndarray], float]
"""Average precision from recall and precision [d], in the order of falling scores."""


def voc2007(recall: np.ndarray, precision: np.ndarray) -> float:
  """Mean over recalls of 0, 0.1, ..., 1 of the best precision at that recall or a greater one.

  `recall` and `precision` are [detections], in the order of falling scores, each in [0, 1].
  """
  levels = np.arange(11) / 10  # As fractions are, so that a recall of 3 / 10 counts as 0.3.
  return float(np.mean([precision[recall >= level].max(initial=0.0) for level in levels]))


def voc2012(recall: np.ndarray, precision: np.ndarray) -> float:
  """Area below the best precision at each recall or a greater one; arguments as of `voc2007`."""
  recall = np.concatenate([[0.0], recall, [1.0]])
  envelope = _envelope(np.concatenate([[0.0], precision, [0.0]]))
  return float(np.sum(np.diff(recall) * envelope[1:]))


def coco(recall: np.ndarray, precision: np.ndarray) -> float:
  """Mean over recalls of 0, 0.01, ..., 1 of the best precision there; arguments as of `voc2007`."""
  envelope = np.append(_envelope(precision), 0.0)
  return float(envelope[np.searchsorted(recall, _LEVELS, side='left')].mean())


def _envelope(precision: np.ndarray) -> np.ndarray:
  return np.maximum.accumulate(precision[::-1])[::-1]


def average_precisions(
  hits: Hits, interpolation: Interpolation, weights: np.ndarray | None = None
) -> np.ndarray:
  """Average precision at each threshold, float64 [thresholds]; NaN where there is no object.

  Args:
    hits: of one class.
    interpolation: `voc2007`, `voc2012` or `coco`.
    weights: how often each image counts, [n]; default: once.
  """
  each = np.ones(len(hits.objects)) if weights is None else np.asarray(weights, np.float64)
  total = float((hits.objects * each).sum())
  if total == 0:
    return np.full(len(hits.hits), np.nan)
  order = np.argsort(-hits.scores, kind='stable')
  weight = each[hits.images[order]]
  found = []
  for right, ignored in zip(hits.hits, hits.ignored, strict=True):
    right, counts = right[order], ~ignored[order] & (weight > 0)
    true = np.cumsum((right * weight)[counts])
    false = np.cumsum((~right * weight)[counts])
    found.append(interpolation(true / total, true / np.maximum(true + false, np.spacing(1))))
  return np.array(found)


def mean_average_precision(
  classes: Sequence[Hits], interpolation: Interpolation, weights: np.ndarray | None = None
) -> tuple[float, np.ndarray]:
  """The mean over classes that occur and over thresholds, and the table of all of them.

  Returns:
    A number, zero if no class occurs, and float64 [classes, thresholds] with NaN for those that do not.
  """
  table = np.stack([average_precisions(one, interpolation, weights) for one in classes])
  known = table[~np.isnan(table)]
  return float(known.mean()) if known.size else 0.0, table


def bootstrap_noise(
  classes: Sequence[Hits], interpolation: Interpolation, replicas: int = 20, seed: int = 0
) -> float | None:
  """Standard error of the mean average precision over the choice of images; None for a single image.

  Each replica draws the images with replacement, as often as there are images (Efron 1979).
  """
  nb_images = len(classes[0].objects) if classes else 0
  if nb_images < 2:
    return None
  rng = np.random.default_rng(seed)
  values = []
  for _ in range(replicas):
    counts = np.bincount(rng.integers(0, nb_images, nb_images), minlength=nb_images)
    values.append(mean_average_precision(classes, interpolation, counts)[0])
  return float(np.std(values, ddof=1))
