"""Codebooks: few values for the weights of a bucket, and where they come from.

Han et al. 2016, "Deep Compression" (arXiv:1510.00149), section 3: the weights of a layer are divided
into k clusters that minimise the squared distance to their centroids. Centroids that start linearly
over the range of the weights keep the few large ones, which matter most, and give the best accuracy of
the three starts compared there (figure 6).
"""

from __future__ import annotations

import numpy as np

LOG = 'log'
INITS = ('kmeans', 'quantile', 'uniform', LOG)
_EXPONENTS = 3
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
      weights; `uniform`, linear over the range; `log`, see `powers_of_two`.

  Returns:
    float32 [k], rising.
  """
  if not len(values):
    return np.zeros(size, np.float32)
  if init == 'quantile':
    return np.quantile(values, (np.arange(size) + 0.5) / size).astype(np.float32)
  if init == LOG:
    return powers_of_two(values, size)
  linear = np.linspace(float(values.min()), float(values.max()), size)
  return (lloyd(values, linear) if init == 'kmeans' else linear).astype(np.float32)


def powers_of_two(values: np.ndarray, size: int) -> np.ndarray:
  """Zero and powers of two of both signs, one exponent after the other (Miyashita et al. 2016).

  The largest exponent is the one, of those up to the rounded logarithm of the greatest magnitude, that
  leaves the least squared error. Of an even number of entries one sign has one power more: that of the
  value of the greatest magnitude. Two entries are a power and its negative.

  Source: "Convolutional Neural Networks using Logarithmic Data Representation", arXiv:1603.01025.
  Deviations: there zero is no entry, and the logarithm is rounded, so that a magnitude goes up from
  1.41 * 2^k on. Here it takes the nearest entry, up from 1.5 * 2^k on, as in every other codebook:
  that leaves the least squared error.

  Args:
    values: float [n].
    size: entries, at least 2.

  Returns:
    float32 [size], rising.
  """
  values = np.asarray(values, np.float64)
  greatest = values[np.argmax(np.abs(values))]
  if greatest == 0:
    return np.zeros(size, np.float32)
  top = int(np.round(np.log2(abs(greatest))))
  best, least = None, np.inf
  for exponent in range(top, top - _EXPONENTS, -1):
    book = _signed_powers(exponent, size, np.sign(greatest))
    error = np.square(book[nearest(book, values)] - values).sum()
    if error < least:
      best, least = book, error
  return best.astype(np.float32)


def _signed_powers(exponent: int, size: int, sign: float) -> np.ndarray:
  if size == 2:
    return np.array([-(2.0**exponent), 2.0**exponent])
  more = 2.0 ** (exponent - np.arange(size // 2))
  return np.sort(np.concatenate([sign * more, [0.0], -sign * more[: size - 1 - len(more)]]))
