"""What a report shows of single samples, as plain data: drawn by `utils.deploy.pictures`."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

NB_PANELS = 6
_MAX_POINTS = 1000


@dataclasses.dataclass(frozen=True)
class Picture:
  """A drawing.

  Attributes:
    kind: `scatter`, `roc` or `masks`.
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
