"""Criteria that compare a layer's filters with each other: pure functions of the filters' weights."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tf_keras as keras

from secateurs.utils.graph.choice.scores import LayerCriterion
from secateurs.utils.graph.rules.registry import rule_of


def fpgm(filters: np.ndarray) -> np.ndarray:
  """Sum of the Euclidean distances to all other filters, [filters].

  He et al. 2019 (arXiv:1811.00250), equation 4: filters near the geometric median, whose sum is the
  least, are those that the others replace best.

  Args:
    filters: float array [weights, filters].
  """
  columns = filters.T.astype(np.float64)
  inner = columns @ columns.T
  squares = np.diag(inner)
  distances = np.maximum(squares[:, None] + squares[None] - 2 * inner, 0.0)
  return np.sqrt(distances).sum(axis=1)


def lamp(filters: np.ndarray) -> np.ndarray:
  """||F_j||^2 divided by the sum of ||F_k||^2 over all k whose norm is at least that of j, [filters].

  Lee et al. 2021 (arXiv:2010.07611), equation 3, with filters in place of weights. Of equal norms the
  earlier filter counts as the larger one.

  Args:
    filters: float array [weights, filters].
  """
  squares = (filters.astype(np.float64) ** 2).sum(axis=0)
  falling = np.argsort(-squares, kind='stable')
  above = np.empty_like(squares)
  above[falling] = np.cumsum(squares[falling])
  return np.divide(squares, above, out=np.zeros_like(squares), where=above > 0)


def of_each_filter(score: Callable[[np.ndarray], np.ndarray]) -> LayerCriterion:
  """The criterion of a layer that a function of its filters gives; None for layers without any."""

  def criterion(layer: keras.layers.Layer) -> np.ndarray | None:
    weights = rule_of(layer).filters(layer)
    return None if weights is None else score(weights)

  return criterion
