"""What a penalty does to groups of weights: pure functions of their norms.

A group lasso adds sum over groups g of lambda_g * ||W_g||_2 to the loss (Wen et al. 2016, eq. 1); with
groups of one weight it is L1. Growing regularisation adds lambda_g / 2 * ||W_g||_2^2 with a factor that
rises (Wang et al. 2021). Both act on the weights of a group by one factor each.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

_EPSILON = 1e-12


def lasso_slopes(norms: tf.Tensor, strengths: tf.Tensor) -> tf.Tensor:
  """Factors [groups] that give the sub-gradient: lambda_g * W_g / ||W_g||, zero for a zero group.

  Args:
    norms: ||W_g||, [groups].
    strengths: lambda_g, [groups].
  """
  return tf.where(norms > _EPSILON, strengths / tf.maximum(norms, _EPSILON), 0.0)


def lasso_factors(norms: tf.Tensor, thresholds: tf.Tensor) -> tf.Tensor:
  """Factors [groups] of the proximal step: W_g <- W_g * max(0, 1 - t_g / ||W_g||).

  Args:
    norms: ||W_g||, [groups].
    thresholds: t_g, the learning rate times lambda_g, [groups]. A group whose norm is not above it
      becomes exactly zero; with a threshold of zero nothing changes.
  """
  gone = norms <= thresholds  # Not so of NaN, which must not pass for an empty group.
  return tf.where(gone, 0.0, 1.0 - thresholds / tf.where(gone, 1.0, norms))


def ridge_factors(thresholds: tf.Tensor) -> tf.Tensor:
  """Factors [groups] of the proximal step of lambda_g / 2 * ||W_g||^2: 1 / (1 + t_g)."""
  return 1.0 / (1.0 + thresholds)


def risen(progress: tf.Tensor, nb_rises: int) -> tf.Tensor:
  """The fraction of its highest value that a growing factor has after a fraction of its training.

  It rises in `nb_rises` equal steps; the first is due at once.
  """
  return tf.minimum(tf.floor(progress * nb_rises) + 1.0, float(nb_rises)) / nb_rises


def relative_strengths(
  norms: np.ndarray,
  scales: np.ndarray,
  strength: float,
  travelled: float,
  there: np.ndarray | None = None,
) -> np.ndarray:
  """lambda_g [groups] with which groups of average norm would shrink by a fraction of it in a training.

  lambda_g = strength * mean norm of the groups of g's scale / sum of learning rates, so that one
  strength suits trainings of any length and rate, and layers whose weights differ in size.

  Args:
    norms: ||W_g|| at the start, [groups].
    scales: int array [groups]; groups of one number share a mean.
    strength: the fraction; 1: a group of average norm whose loss does not depend on it ends at zero.
    travelled: sum of the learning rates over all steps, with a momentum's amplification if there is.
    there: bool array [groups]: those that means are taken over, because others have gone; default: all.
  """
  weights = np.ones(len(norms)) if there is None else there.astype(float)
  sums = np.bincount(scales, norms * weights)
  means = sums / np.maximum(np.bincount(scales, weights), 1)
  return strength * means[scales] / travelled
