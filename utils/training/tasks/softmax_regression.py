"""Multinomial logistic regression: a linear layer fit to features, as a pure function."""

from __future__ import annotations

import numpy as np
from scipy import optimize, special

_TOLERANCE, _MAX_STEPS = 1e-4, 500


def softmax_regression(
  features: np.ndarray, labels: np.ndarray, inverse_penalty: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
  """The linear layer that minimises the mean cross-entropy + ||W||^2 / (2 C n) over n samples.

  L-BFGS converges in some tens of steps where features are standardised (mean zero, deviation one), so
  that the penalty weighs all of them alike. Biases are not penalised.

  Args:
    features: float [n, d], standardised.
    labels: int [n] in 0..c-1, each class with a sample.
    inverse_penalty: C.

  Returns:
    (kernel, bias): float64 [d, c] and [c], which sums to zero.
  """
  x = np.asarray(features, np.float64)
  (n, d), c = x.shape, int(labels.max()) + 1
  wanted = np.zeros((n, c))
  wanted[np.arange(n), labels] = 1

  def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
    weights = flat.reshape(d + 1, c)
    logits = x @ weights[:-1] + weights[-1]
    log_p = logits - special.logsumexp(logits, axis=1, keepdims=True)
    error = (np.exp(log_p) - wanted) / n
    shrunk = weights[:-1] / (inverse_penalty * n)
    value = -(log_p * wanted).sum() / n + 0.5 * (shrunk * weights[:-1]).sum()
    return value, np.concatenate([x.T @ error + shrunk, error.sum(axis=0)[None]]).ravel()

  options = {'maxiter': _MAX_STEPS, 'gtol': _TOLERANCE, 'maxfun': 2 * _MAX_STEPS}
  start = np.zeros((d + 1) * c)
  found = optimize.minimize(loss, start, jac=True, method='L-BFGS-B', options=options)
  weights = found.x.reshape(d + 1, c)
  return weights[:-1], weights[-1] - weights[-1].mean()
