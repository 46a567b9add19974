"""What a report shows of single samples, as plain data: drawn by `utils.deploy.pages.pictures`."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

NB_PANELS = 6
_MAX_POINTS = 1000


@dataclasses.dataclass(frozen=True)
class Picture:
  """A drawing.

  Attributes:
    kind: `scatter`, `roc`, `masks` or `boxes`.
    title: of the section.
    caption: one sentence.
    data: arrays by name.
  """

  kind: str
  title: str
  caption: str
  data: dict[str, Any]


def scatter(targets: np.ndarray, before: np.ndarray, after: np.ndarray, title: str) -> Picture:
  """Targets against predictions before and after, at most 1,000 numbers of each."""
  columns = [np.asarray(one, np.float64).reshape(-1) for one in (targets, before, after)]
  step = -(-len(columns[0]) // _MAX_POINTS)
  names = ('targets', 'before', 'after')
  data = {name: column[::step] for name, column in zip(names, columns, strict=True)}
  caption = 'Predictions of the original and of the compressed model; the line is where both agree.'
  return Picture('scatter', title, caption, data)


def roc(targets: np.ndarray, before: np.ndarray, after: np.ndarray) -> Picture | None:
  """ROC curves of numbers that should be greater where targets are 1; None without both answers."""
  wanted = np.asarray(targets).reshape(-1) > 0.5
  if wanted.all() or not wanted.any():
    return None
  data = {
    name: curve(wanted, np.asarray(found).reshape(-1))
    for name, found in (('before', before), ('after', after))
  }
  caption = (
    'True against false positives at every threshold, for the original and the compressed model.'
  )
  return Picture('roc', 'ROC curves', caption, data)


def curve(wanted: np.ndarray, found: np.ndarray) -> np.ndarray:
  """(false positive rate, true positive rate) at every threshold, [points, 2], from 0 to 1."""
  order = np.argsort(-found, kind='stable')
  last = np.append(found[order][1:] != found[order][:-1], True)
  true, false = np.cumsum(wanted[order])[last], np.cumsum(~wanted[order])[last]
  points = np.stack([false / false[-1], true / true[-1]], axis=1)
  return np.concatenate([[[0.0, 0.0]], points])


def masks(
  images: np.ndarray, targets: np.ndarray, before: np.ndarray, after: np.ndarray, nb_classes: int
) -> Picture:
  """Some images with the classes of their pixels: wanted, of the original, and of the compressed model.

  Args:
    images: [n, h, w, c].
    targets: class numbers [n, h, w].
    before: classes that the original gives.
    after: classes that the compressed model gives.
    nb_classes: number of classes.
  """
  rows = slice(NB_PANELS)
  data = {
    'images': images[rows],
    'targets': targets[rows],
    'before': before[rows],
    'after': after[rows],
    'nb_classes': nb_classes,
  }
  caption = (
    'Image, target, and what the original and the compressed model give, for the first samples.'
  )
  return Picture('masks', 'Samples', caption, data)


def boxed(
  images: np.ndarray,
  objects: np.ndarray,
  before: np.ndarray,
  after: np.ndarray,
  class_names: Sequence[str],
  least_score: float = 0.5,
) -> Picture:
  """Some images with boxes: of the objects, and of what the original and the compressed model detect.

  Args:
    images: [n, h, w, 3].
    objects: [n, m, 5 + ...]: box as fractions of the image, class (negative where there is none).
    before: detections of the original [n, k, 6]: box, score, class.
    after: those of the compressed model.
    class_names: of the classes.
    least_score: detections with less are not shown.
  """
  given = [[(*row[:4], class_names[int(row[4])]) for row in one if row[4] >= 0] for one in objects]

  def shown(detections: np.ndarray) -> list[list[tuple]]:
    return [
      [
        (*row[:4], f'{class_names[int(row[5])]} {100 * row[4]:.0f} %')
        for row in one
        if row[5] >= 0 and row[4] >= least_score
      ]
      for one in detections
    ]

  data = {'images': images, 'targets': given, 'before': shown(before), 'after': shown(after)}
  caption = (
    'Objects, and the detections of the original and of the compressed model with a score of at '
    f'least {100 * least_score:.0f} %, for the first samples.'
  )
  return Picture('boxes', 'Samples', caption, data)
