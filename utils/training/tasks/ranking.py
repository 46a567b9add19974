"""How well numbers rank samples: area under the ROC curve and average precision, with their noise."""

from __future__ import annotations

import math

import numpy as np
from scipy.stats import rankdata

_NB_GROUPS = 10


def auc(wanted: np.ndarray, found: np.ndarray) -> tuple[float, float] | None:
  """Area under the ROC curve, and its standard error; None where all samples are of one class.

  The area is the probability that a positive sample is ranked above a negative one, ties counting
  half (Mann-Whitney); its error is that of Hanley & McNeil 1982, "The Meaning and Use of the Area under
  a Receiver Operating Characteristic (ROC) Curve", equation 1.

  Args:
    wanted: bool or 0 and 1, [n].
    found: numbers that should be greater where `wanted` is true, [n].
  """
  positive = np.asarray(wanted) > 0.5
  nb, nb_other = int(positive.sum()), int((~positive).sum())
  if not nb or not nb_other:
    return None
  ranks = rankdata(found)
  area = float((ranks[positive].sum() - nb * (nb + 1) / 2) / (nb * nb_other))
  q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)
  variance = area * (1 - area) + (nb - 1) * (q1 - area**2) + (nb_other - 1) * (q2 - area**2)
  return area, math.sqrt(max(variance, 0.0) / (nb * nb_other))


def average_precision(wanted: np.ndarray, found: np.ndarray) -> float | None:
  """sum over thresholds of (recall gained) * precision; None without a positive sample.

  Args:
    wanted: bool or 0 and 1, [n].
    found: [n]; samples of equal numbers share a threshold.
  """
  positive = np.asarray(wanted) > 0.5
  if not positive.any():
    return None
  order = np.argsort(-np.asarray(found), kind='stable')
  ordered, hits = np.asarray(found)[order], np.cumsum(positive[order])
  last = np.append(ordered[1:] != ordered[:-1], True)  # The last sample of each threshold.
  hits, seen = hits[last], np.flatnonzero(last) + 1
  gained = np.diff(hits, prepend=0)
  return float((gained * hits / seen).sum() / hits[-1])


def mean_average_precision(wanted: np.ndarray, found: np.ndarray) -> tuple[float, float] | None:
  """Mean of `average_precision` over labels with a positive sample, and its standard error.

  The error is the jackknife's over ten groups of samples (Efron & Tibshirani 1993, section 11.5), each
  left out once.

  Args:
    wanted: 0 and 1, [n, labels].
    found: [n, labels].

  Returns:
    Mean and standard error; None where no label has a positive sample.
  """
  value = _mean_over_labels(wanted, found)
  if value is None:
    return None
  size = len(wanted)
  groups = np.arange(size) % min(_NB_GROUPS, size)
  left = [_mean_over_labels(wanted[groups != g], found[groups != g]) for g in np.unique(groups)]
  known = np.array([one for one in left if one is not None])
  if len(known) < 2:
    return value, 0.0
  return value, float(math.sqrt((len(known) - 1) * known.var()))


def _mean_over_labels(wanted: np.ndarray, found: np.ndarray) -> float | None:
  values = [average_precision(wanted[:, i], found[:, i]) for i in range(wanted.shape[1])]
  known = [value for value in values if value is not None]
  return float(np.mean(known)) if known else None
