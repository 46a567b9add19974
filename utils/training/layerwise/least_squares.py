"""Least squares from sums over samples: normal equations that grow with the unknowns only.

A linear layer maps rows x (a patch of its input, p numbers) to rows y (its outputs, q numbers). Over
n samples, X [n, p] and Y [n, q] enter everything here through

  gram = X^T X,  cross = X^T Y,  their means, and the sum of squares of each column of Y,

which are added up batch by batch (and over workers), so that memory is p (p + q) numbers whatever n
is. All sums are float64.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy import linalg

_MAX_TRIES = 8
_ROUNDING = 1e-6
_BLOCK = 512  # Rows that are worked on at once.


@dataclasses.dataclass
class NormalEquations:
  """Sums over samples of a least-squares problem.

  Attributes:
    gram: [p, p], X^T X.
    cross: [p, q], X^T Y.
    sum_x: [p].
    sum_y: [q].
    energy: [q], sum of squares of each column of Y.
    count: number of samples.
  """

  gram: np.ndarray
  cross: np.ndarray
  sum_x: np.ndarray
  sum_y: np.ndarray
  energy: np.ndarray
  count: int = 0

  @staticmethod
  def empty(nb_inputs: int, nb_outputs: int) -> NormalEquations:
    """No samples yet."""
    p, q = nb_inputs, nb_outputs
    return NormalEquations(
      np.zeros((p, p)), np.zeros((p, q)), np.zeros(p), np.zeros(q), np.zeros(q)
    )

  def add(self, x: np.ndarray, y: np.ndarray) -> None:
    """Adds samples; products of float32 ones are taken in float32, their sums in float64.

    Args:
      x: [n, p].
      y: [n, q].
    """
    if x.dtype != np.float32:
      x = np.asarray(x, np.float64)
    y = np.asarray(y, x.dtype)
    self.gram += x.T @ x
    self.cross += x.T @ y
    self.sum_x += x.sum(axis=0, dtype=np.float64)
    self.sum_y += y.sum(axis=0, dtype=np.float64)
    self.energy += np.einsum('ij,ij->j', y, y, dtype=np.float64)
    self.count += len(x)

  def moments(self, intercept: bool) -> Moments:
    """Per-sample second moments; about the means if the layer can shift its outputs.

    Raises:
      ValueError: there are no samples, or sums are not finite.
    """
    if not self.count:
      raise ValueError('Normal equations without samples have no solution.')
    n = self.count
    mean_x, mean_y = self.sum_x / n, self.sum_y / n
    gram, cross, energy = self.gram / n, self.cross / n, self.energy / n
    if intercept:
      # What varies less than float32 sums are rounded says nothing, maybe with a wrong sign.
      squares = np.diag(gram).copy()
      for rows in _row_blocks(len(gram)):  # No further matrix of this size is made.
        gram[rows] -= mean_x[rows, None] * mean_x
      varies = np.diag(gram) > _ROUNDING * squares
      gram[~varies] = 0
      gram[:, ~varies] = 0
      cross = (cross - np.outer(mean_x, mean_y)) * varies[:, None]
      energy = np.maximum(energy - mean_y**2, 0.0)
    if not (np.isfinite(gram).all() and np.isfinite(cross).all()):
      raise ValueError('The sampled features are not finite, so no channels can be chosen.')
    return Moments(gram, cross, energy, mean_x, mean_y, intercept, n)


@dataclasses.dataclass(frozen=True)
class Moments:
  """Second moments per sample, about the means where `intercept` is set; shapes as above."""

  gram: np.ndarray
  cross: np.ndarray
  energy: np.ndarray
  mean_x: np.ndarray
  mean_y: np.ndarray
  intercept: bool
  count: int

  def error(self, weights: np.ndarray) -> np.ndarray:
    """Mean squared error of each column, [q], of Y ~ X weights (plus the best intercept)."""
    explained = 2 * np.einsum('ij,ij->j', weights, self.cross)
    squared = np.einsum('ij,ij->j', weights, self.gram @ weights)
    return np.maximum(self.energy - explained + squared, 0.0)

  def error_as_is(self, weights: np.ndarray) -> np.ndarray:
    """Mean squared error of each column, [q], without any intercept."""
    shift = self.mean_y - self.mean_x @ weights
    return self.error(weights) + (shift**2 if self.intercept else 0.0)

  def shift(self, weights: np.ndarray) -> np.ndarray:
    """The best intercept of each column, [q]; zeros where there is none."""
    return (self.mean_y - self.mean_x @ weights) * float(self.intercept)

  def block(self, rows: np.ndarray, weights: np.ndarray) -> Moments:
    """The problem of some rows alone, the others contributing with `weights` as they are.

    Args:
      rows: bool array [p].
      weights: [p, q].

    Returns:
      Moments of X[:, rows] against Y - X[:, ~rows] weights[~rows].
    """
    if rows.all():
      return self
    rest = weights[~rows]
    cross = self.cross[rows] - self.gram[np.ix_(rows, ~rows)] @ rest
    energy = (
      self.energy
      - 2 * np.einsum('ij,ij->j', rest, self.cross[~rows])
      + np.einsum('ij,ij->j', rest, self.gram[np.ix_(~rows, ~rows)] @ rest)
    )
    gram = self.gram[np.ix_(rows, rows)]
    mean_y = self.mean_y - self.mean_x[~rows] @ rest
    return Moments(
      gram, cross, np.maximum(energy, 0.0), self.mean_x[rows], mean_y, self.intercept, self.count
    )


def solve(
  gram: np.ndarray, cross: np.ndarray, ridge: float, prior: np.ndarray | None = None
) -> np.ndarray:
  """Regularised least squares by Cholesky factors.

  Minimises ||Y - X W||^2 / n + r ||W - prior||^2 with r = ridge * mean(diag(gram)); r grows tenfold
  as long as the matrix is not numerically positive definite.

  Args:
    gram: [p, p].
    cross: [p, q].
    ridge: relative strength of the penalty, at least 0.
    prior: [p, q], where the penalty pulls to; default: zero.

  Returns:
    W [p, q].
  """
  if not len(gram):
    return np.zeros_like(cross)
  scale = float(np.trace(gram)) / len(gram)
  if scale <= 0:  # Nothing varies, so that there is nothing to fit.
    return np.zeros_like(cross) if prior is None else prior.copy()
  factor, strength = cholesky(gram, ridge)
  right = cross if prior is None else cross + strength * scale * prior
  return linalg.cho_solve((factor, True), right, check_finite=False)


def cholesky(gram: np.ndarray, ridge: float) -> tuple[np.ndarray, float]:
  """Lower Cholesky factor [p, p] of gram + ridge * mean(diag(gram)) * I, and the ridge it took.

  The ridge grows tenfold as long as the matrix is not numerically positive definite; what stands
  above the factor's diagonal is arbitrary.

  Raises:
    ValueError: no ridge helps, or the matrix is not finite.
  """
  scale = float(np.trace(gram)) / len(gram) or 1.0
  for _ in range(_MAX_TRIES):
    shifted = gram.copy(order='F')
    shifted[np.diag_indices(len(gram))] += ridge * scale
    factor, failed = linalg.lapack.dpotrf(shifted, lower=True, clean=False, overwrite_a=True)
    if not failed and np.isfinite(np.diag(factor)).all():
      return factor, ridge
    ridge = max(10 * ridge, 1e-10)
  raise ValueError('The normal equations cannot be solved: their matrix is not semi-definite.')


def inverse_of(factor: np.ndarray) -> np.ndarray:
  """The inverse [p, p] of the matrix with this lower Cholesky factor, which is overwritten."""
  inverse, _ = linalg.lapack.dpotri(factor, lower=True, overwrite_c=True)
  for rows in _row_blocks(len(inverse)):
    block = inverse[rows, rows]
    block[:] = np.tril(block) + np.tril(block, -1).T
    inverse[rows, rows.stop :] = inverse[rows.stop :, rows].T
  return inverse


def _row_blocks(size: int) -> list[slice]:
  return [slice(first, min(first + _BLOCK, size)) for first in range(0, size, _BLOCK)]


def refit(
  moments: Moments,
  kept: np.ndarray,
  ridge: float,
  prior: np.ndarray | None = None,
  support: np.ndarray | None = None,
) -> np.ndarray:
  """The best weights when only some rows stay: W [p, q], zero in the others.

  Args:
    moments: of the whole problem.
    kept: bool array [p].
    ridge: see `solve`.
    prior: [p, q], see `solve`.
    support: bool array [p, q], which weights may differ from zero; default: all in the rows that stay.
  """
  weights = np.zeros_like(moments.cross)
  if support is not None and not support[kept].all():
    for column in range(weights.shape[1]):  # Each output has its own unknowns.
      rows = kept & support[:, column]
      inner = None if prior is None else prior[rows, column : column + 1]
      gram, cross = moments.gram[np.ix_(rows, rows)], moments.cross[rows, column : column + 1]
      weights[rows, column : column + 1] = solve(gram, cross, ridge, inner)
    return weights
  inner = None if prior is None else prior[kept]
  weights[kept] = solve(moments.gram[np.ix_(kept, kept)], moments.cross[kept], ridge, inner)
  return weights
