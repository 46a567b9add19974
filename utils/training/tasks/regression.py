"""Regression: numbers of any shape; the mean absolute error judges."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

from secateurs.utils.graph.slicing.endings import Ending
from secateurs.utils.training.tasks.criteria import Criteria, Measure, weighted_mean
from secateurs.utils.training.tasks.pictures import Picture, scatter
from secateurs.utils.training.tasks.scores import Evaluation, Score
from secateurs.utils.training.tasks.single import SingleTask
from secateurs.utils.training.tasks.targets import require_finite, shaped


def squared_error(targets: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
  """Mean over the numbers of a sample of (target - output)^2, float32 [n]."""
  return _mean_of_sample(tf.square(tf.cast(outputs, tf.float32) - tf.cast(targets, tf.float32)))


def _mean_of_sample(values: tf.Tensor) -> tf.Tensor:
  return tf.reduce_mean(values, axis=list(range(1, values.shape.rank)))


class Regression(SingleTask):
  """Squared error of outputs [n, ...] against targets of their shape, or the user's loss."""

  name = 'regression'
  shown = ('mae',)
  draws = True
  fits_classes = False

  def __init__(
    self, shape: Sequence[int], criteria: Criteria | None = None, *, ending: Ending = None
  ) -> None:
    """As for all tasks of one output; an activation at the end stays, because it sets the range."""
    del ending
    super().__init__(shape, criteria)

  @property
  def default_loss(self) -> Measure:
    """Mean squared error of a sample."""
    return squared_error

  def canonical(self, targets: tf.Tensor) -> tf.Tensor:
    """float32, of the outputs' shape."""
    return shaped(tf.cast(targets, tf.float32), self.shape)

  def require_targets(self, targets: np.ndarray, where: str) -> None:
    """All are finite."""
    require_finite(targets, where)

  def metrics(
    self, targets: tf.Tensor, outputs: tf.Tensor, weights: tf.Tensor | None = None
  ) -> dict[str, tf.Tensor]:
    """Mean absolute error, and the user's metrics."""
    each = self.weights_of(targets, weights)
    error = _mean_of_sample(tf.abs(outputs - targets))
    return {
      'mae': weighted_mean(error, each),
      **self.criteria.metrics(targets, outputs, each),
    }

  def distillation(self, taught: tf.Tensor, outputs: tf.Tensor, temperature: float) -> tf.Tensor:
    """Mean squared difference to the teacher; a temperature has no meaning here."""
    del temperature
    return tf.reduce_mean(squared_error(taught, outputs))

  def divergence(self, original: np.ndarray, changed: np.ndarray) -> np.ndarray:
    """Mean squared difference over the numbers of each sample, float [n]."""
    difference = np.asarray(changed, np.float64) - original
    return (difference**2).reshape(len(difference), -1).mean(axis=1)

  def sum_types(self) -> Mapping[str, tf.DType | tf.TensorSpec]:
    """Errors, squares of each sample's, and moments of the targets by the last axis."""
    moments = tf.TensorSpec([self.shape[-1]], tf.float64)
    scalars = dict.fromkeys(('absolute', 'absolute_squared', 'counted'), tf.float64)
    return {**scalars, **dict.fromkeys(('squared', 'target', 'target_squared'), moments)}

  def sums(
    self, targets: tf.Tensor, outputs: tf.Tensor, weights: tf.Tensor
  ) -> dict[str, tf.Tensor]:
    """Of one batch, in float64."""
    targets, outputs = tf.cast(targets, tf.float64), tf.cast(outputs, tf.float64)
    weights, error = tf.cast(weights, tf.float64), outputs - targets
    absolute = _mean_of_sample(tf.abs(error))

    def by_last_axis(values: tf.Tensor) -> tf.Tensor:
      middle = list(range(1, values.shape.rank - 1))
      means = tf.reduce_mean(values, middle) if middle else values
      return tf.reduce_sum(means * weights[:, None], axis=0)

    return {
      'absolute': tf.reduce_sum(absolute * weights),
      'absolute_squared': tf.reduce_sum(absolute**2 * weights),
      'counted': tf.reduce_sum(weights),
      'squared': by_last_axis(error**2),
      'target': by_last_axis(targets),
      'target_squared': by_last_axis(targets**2),
    }

  def judged(
    self, totals: Mapping[str, float | np.ndarray], records: Mapping[str, np.ndarray]
  ) -> tuple[Score, tuple[Score, ...]]:
    """Mean absolute error with the standard error of a mean; RMSE and R2 beside it.

    R2 = 1 - sum (y - f)^2 / sum (y - mean y)^2, mean over the numbers of the last axis whose targets
    vary; left out where none does.
    """
    del records
    weight, count = totals['counted'], totals['samples']
    mean = totals['absolute'] / weight
    spread = max(totals['absolute_squared'] / weight - mean**2, 0.0)
    score = Score('mae', mean, False, 'number', math.sqrt(spread / count), 'MAE')
    squared = np.atleast_1d(totals['squared']) / weight
    target = np.atleast_1d(totals['target']) / weight
    variance = np.atleast_1d(totals['target_squared']) / weight - target**2
    figures = [Score('rmse', math.sqrt(squared.mean()), False, 'number', label='RMSE')]
    varies = variance > 1e-12 * np.maximum(target**2, 1e-30)
    if varies.any():
      value = float(np.mean(1 - squared[varies] / variance[varies]))
      figures.append(Score('r2', value, unit='number', label='R2'))
    return score, tuple(figures)

  def pictures(
    self, inputs: np.ndarray, targets: np.ndarray, before: np.ndarray, after: np.ndarray
  ) -> Sequence[Picture]:
    """Predictions against targets."""
    del inputs
    return [scatter(targets, before, after, 'Predictions')]

  def guess_note(self, evaluation: Evaluation) -> str | None:
    """Whether the mean of the targets would do as well."""
    for figure in evaluation.figures:
      if figure.name == 'r2' and figure.value <= 0:
        return (
          f'The baseline guesses: its R2 is {figure.value:.3f}, so that the mean of the targets '
          'would do as well; are the weights trained, and inputs and targets scaled as then?'
        )
    return None
