"""Tasks of the user's own whose loss and scores are means over samples."""

from __future__ import annotations

import abc
import math
from collections.abc import Collection, Mapping

import numpy as np
import tensorflow as tf

from secateurs.utils.training.tasks.criteria import Measure, weighted_mean
from secateurs.utils.training.tasks.scores import Score
from secateurs.utils.training.tasks.single import SingleTask
from secateurs.utils.training.tasks.targets import require_finite


class MeanTask(SingleTask):
  """A task of one output that is judged by a mean over samples.

  A subclass gives `name`, `sample_loss`, `sample_values` and `judge`, and `canonical` where targets
  need a change. Distillation and divergence are mean squared differences of outputs.

  Attributes:
    judge: name of the value of `sample_values` that judges.
    measures: names of all values of `sample_values`, the judge among them.
    lower_is_better: names of values that are errors.
    percent: names of values in [0, 1] that are shown in percent.
  """

  judge: str
  measures: Collection[str] = ()
  lower_is_better: Collection[str] = ()
  percent: Collection[str] = ()
  fits_classes = False

  @abc.abstractmethod
  def sample_loss(self, targets: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
    """Loss of each sample, float32 [n]; runs in graph mode."""

  @abc.abstractmethod
  def sample_values(self, targets: tf.Tensor, outputs: tf.Tensor) -> dict[str, tf.Tensor]:
    """What is measured of each sample, by the names in `measures`, float32 [n] each."""

  @property
  def default_loss(self) -> Measure:
    """`sample_loss`."""
    return self.sample_loss

  @property
  def shown(self) -> tuple[str, ...]:
    """Names of the values, which training shows."""
    return tuple(self.measures) or (self.judge,)

  @property
  def percent_metrics(self) -> tuple[str, ...]:
    """Names of the values that are shown in percent."""
    return tuple(self.percent)

  def require_targets(self, targets: np.ndarray, where: str) -> None:
    """All are finite."""
    require_finite(targets, where)

  def metrics(
    self, targets: tf.Tensor, outputs: tf.Tensor, weights: tf.Tensor | None = None
  ) -> dict[str, tf.Tensor]:
    """Means of the values, and the user's metrics."""
    each = self.weights_of(targets, weights)
    values = self.sample_values(targets, outputs)
    own = self.criteria.metrics(targets, outputs, each)
    return {name: weighted_mean(values[name], each) for name in self.shown} | own

  def distillation(self, taught: tf.Tensor, outputs: tf.Tensor, temperature: float) -> tf.Tensor:
    """Mean squared difference to the teacher's outputs."""
    del temperature
    return tf.reduce_mean(tf.square(taught - outputs))

  def divergence(self, original: np.ndarray, changed: np.ndarray) -> np.ndarray:
    """Mean squared difference over the numbers of each sample, float [n]."""
    difference = np.asarray(changed, np.float64) - original
    return (difference**2).reshape(len(difference), -1).mean(axis=1)

  def sum_types(self) -> Mapping[str, tf.DType]:
    """Sums of each value and of its square."""
    names = [*self.shown, *(f'{name}_squared' for name in self.shown)]
    return dict.fromkeys(names, tf.float64)

  def sums(
    self, targets: tf.Tensor, outputs: tf.Tensor, weights: tf.Tensor
  ) -> dict[str, tf.Tensor]:
    """Of one batch."""
    weights, found = tf.cast(weights, tf.float64), {}
    for name, values in self.sample_values(targets, outputs).items():
      values = tf.cast(values, tf.float64)
      found[name] = tf.reduce_sum(values * weights)
      found[f'{name}_squared'] = tf.reduce_sum(values**2 * weights)
    return found

  def judged(
    self, totals: Mapping[str, float], records: Mapping[str, np.ndarray]
  ) -> tuple[Score, tuple[Score, ...]]:
    """The means, each with the standard error of a mean."""
    del records
    weight, scores = totals['weight'], {}
    for name in self.shown:
      mean = totals[name] / weight
      spread = max(totals[f'{name}_squared'] / weight - mean**2, 0.0)
      unit = 'percent' if name in self.percent else 'number'
      better, noise = name not in self.lower_is_better, math.sqrt(spread / totals['samples'])
      scores[name] = Score(name, mean, better, unit, noise)
    return scores.pop(self.judge), tuple(scores.values())
