"""Codebooks: few values for the weights of a bucket, and where they come from.

Han et al. 2016, "Deep Compression" (arXiv:1510.00149), section 3: the weights of a layer are divided
into k clusters that minimise the squared distance to their centroids. Centroids that start linearly
over the range of the weights keep the few large ones, which matter most, and give the best accuracy of
the three starts compared there (figure 6).
"""

from __future__ import annotations

import numpy as np

INITS = ('kmeans', 'quantile', 'uniform')
_MAX_ROUNDS = 300


def nearest(codebook: np.ndarray, values: np.ndarray) -> np.ndarray:
  """The number of the nearest entry of a rising codebook [k] for each value; the lower one of two."""
  return np.searchsorted((codebook[1:] + codebook[:-1]) / 2, values, side='left')


def lloyd(values: np.ndarray, start: np.ndarray) -> np.ndarray:
  """Centroids of k-means in one dimension, from a start, until no value changes its cluster.

  In one dimension clusters are intervals of the sorted values, so that a round needs k searches and
  k differences of a running sum, however many values there are.

  Args:
    values: float [n], n at least 1.
    start: float [k], rising.

  Returns:
    float64 [k], rising; a cluster that loses all values keeps its centroid.
  """
  ordered = np.sort(np.asarray(values, np.float64))
  sums = np.append(0.0, np.cumsum(ordered))
  centroids, before = np.asarray(start, np.float64).copy(), None
  for _ in range(_MAX_ROUNDS):
    ends = np.searchsorted(ordered, (centroids[1:] + centroids[:-1]) / 2, side='right')
    ends = np.concatenate([[0], ends, [len(ordered)]])
    if before is not None and np.array_equal(ends, before):
      break
    before, counts = ends, np.diff(ends)
    means = np.diff(sums[ends]) / np.maximum(counts, 1)
    centroids = np.sort(np.where(counts > 0, means, centroids))
  return centroids


def codebook_of(values: np.ndarray, size: int, init: str) -> np.ndarray:
  """A codebook for some weights.

  Args:
    values: float [n]; may be empty.
    size: entries, k.
    init: `kmeans`, from a linear start; `quantile`, the middles of k parts with equally many
      weights; `uniform`, linear over the range.

  Returns:
    float32 [k], rising.
  """
  if not len(values):
    return np.zeros(size, np.float32)
  if init == 'quantile':
    return np.quantile(values, (np.arange(size) + 0.5) / size).astype(np.float32)
  linear = np.linspace(float(values.min()), float(values.max()), size)
  return (lloyd(values, linear) if init == 'kmeans' else linear).astype(np.float32)
