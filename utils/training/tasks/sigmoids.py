"""Tasks of sigmoids: one yes or no for each sample (binary), or several (multi-label)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from secateurs.utils.training.tasks.criteria import Measure, weighted_mean
from secateurs.utils.training.tasks.pictures import Picture, roc
from secateurs.utils.training.tasks.ranking import auc, mean_average_precision
from secateurs.utils.training.tasks.scores import Evaluation, Score, binomial_noise
from secateurs.utils.training.tasks.single import SingleTask
from secateurs.utils.training.tasks.targets import require_between, shaped

_ERRORS = 3


def bernoulli_entropy(targets: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
  """Mean over labels of the cross-entropy of sigmoids; float32 [n] from [n, ..., labels]."""
  logits = tf.cast(logits, tf.float32)
  each = tf.nn.sigmoid_cross_entropy_with_logits(tf.cast(targets, tf.float32), logits)
  return tf.reduce_mean(each, axis=list(range(1, each.shape.rank)))


def bernoulli_divergence(taught: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
  """KL(p || q) = p log(p / q) + (1 - p) log((1 - p) / (1 - q)) of each sigmoid, given by logits."""
  taught, outputs = tf.cast(taught, tf.float32), tf.cast(outputs, tf.float32)
  p = tf.sigmoid(taught)
  yes = tf.math.log_sigmoid(taught) - tf.math.log_sigmoid(outputs)
  no = tf.math.log_sigmoid(-taught) - tf.math.log_sigmoid(-outputs)
  return p * yes + (1 - p) * no


class Sigmoids(SingleTask):
  """Cross-entropy of each sigmoid; its logit is positive where the answer is yes."""

  @property
  def default_loss(self) -> Measure:
    """Mean over labels of the cross-entropy."""
    return bernoulli_entropy

  def canonical(self, targets: tf.Tensor) -> tf.Tensor:
    """Zeros and ones, float32 [n, labels]."""
    return shaped(tf.cast(targets, tf.float32), self.shape)

  def require_targets(self, targets: np.ndarray, where: str) -> None:
    """Each is in [0, 1]."""
    require_between(targets, 0, 1, where, f'task {self.name}', 'numbers from 0 (no) to 1 (yes)')

  def _right(self, targets: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
    """1 where an answer is right, float32 [n, labels]."""
    return tf.cast((outputs > 0) == (targets > 0.5), tf.float32)

  def metrics(
    self, targets: tf.Tensor, outputs: tf.Tensor, weights: tf.Tensor | None = None
  ) -> dict[str, tf.Tensor]:
    """The fraction of right answers, and the user's metrics."""
    each = self.weights_of(targets, weights)
    right = tf.reduce_mean(self._right(targets, outputs), -1)
    own = self.criteria.metrics(targets, outputs, each)
    return {self.shown[0]: weighted_mean(right, each), **own}

  def distillation(self, taught: tf.Tensor, outputs: tf.Tensor, temperature: float) -> tf.Tensor:
    """T^2 * KL(teacher || student) of each sigmoid at temperature T, mean over samples and labels."""
    each = bernoulli_divergence(taught / temperature, outputs / temperature)
    return temperature**2 * tf.reduce_mean(each)

  def divergence(self, original: np.ndarray, changed: np.ndarray) -> np.ndarray:
    """Mean KL(p || q) over the sigmoids of each sample, float [n]."""
    return bernoulli_divergence(original, changed).numpy().mean(axis=-1)

  def agreement(self, reference: np.ndarray, outputs: np.ndarray) -> float | None:
    """Fraction of equal answers; files that end in sigmoids are compared with one half."""
    least = 0.5 if self.ending else 0.0
    return float(np.mean((reference > least) == (outputs > least)))

  def records(self, targets: tf.Tensor, outputs: tf.Tensor) -> dict[str, tf.Tensor]:
    """Targets and logits, which ranking is judged by."""
    return {'wanted': targets, 'found': tf.cast(outputs, tf.float32)}


class Binary(Sigmoids):
  """Yes or no: logits [n, 1] against 0 or 1; accuracy judges, with the area under the ROC curve."""

  name = 'binary'
  shown = percent_metrics = ('accuracy',)
  collects = draws = True

  def class_numbers(self, targets: tf.Tensor) -> tf.Tensor:
    """0 for no, 1 for yes."""
    return tf.cast(targets[:, 0] > 0.5, tf.int32)

  def sum_types(self) -> Mapping[str, tf.DType]:
    """Right answers."""
    return {'correct': tf.float64}

  def sums(
    self, targets: tf.Tensor, outputs: tf.Tensor, weights: tf.Tensor
  ) -> dict[str, tf.Tensor]:
    """Weight of the samples that are answered rightly."""
    right = tf.cast(self._right(targets, outputs)[:, 0] * weights, tf.float64)
    return {'correct': tf.reduce_sum(right)}

  def hits(self, targets: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
    """Whether the answer is right."""
    return self._right(targets, outputs)[:, 0] > 0

  def judged(
    self, totals: Mapping[str, float], records: Mapping[str, np.ndarray]
  ) -> tuple[Score, tuple[Score, ...]]:
    """Accuracy; the area is a figure where both answers occur."""
    accuracy = totals['correct'] / totals['weight']
    score = Score('accuracy', accuracy, noise=binomial_noise(accuracy, totals['samples']))
    found = auc(records['wanted'][:, 0], records['found'][:, 0]) if records else None
    if found is None:
      return score, ()
    return score, (Score('auc', found[0], unit='number', noise=found[1], label='AUC'),)

  def pictures(
    self, inputs: Any, targets: np.ndarray, before: np.ndarray, after: np.ndarray
  ) -> Sequence[Picture]:
    """ROC curves."""
    del inputs
    found = roc(targets, before, after)
    return [] if found is None else [found]

  def guess_note(self, evaluation: Evaluation) -> str | None:
    """Whether the ranking is that of chance, within three standard errors."""
    for area in evaluation.figures:
      if area.name == 'auc' and area.value <= 0.5 + _ERRORS * (area.noise or 0.0):
        return (
          f'The baseline guesses: its AUC of {area.value:.3f} is that of chance; are the weights '
          'trained, the answers numbered as in the training, and the inputs scaled as then?'
        )
    return None


class MultiLabel(Sigmoids):
  """Several yes or no: logits [n, labels]; mean average precision judges, label accuracy beside it."""

  name = 'multi-label'
  shown = percent_metrics = ('label_accuracy',)
  collects = True

  def sum_types(self) -> Mapping[str, tf.DType]:
    """Right answers, their squares, and samples of which all are right."""
    return dict.fromkeys(('correct', 'correct_squared', 'all_correct'), tf.float64)

  def canonical(self, targets: tf.Tensor) -> tf.Tensor:
    """Zeros and ones, float32 [n, labels]; class numbers [n] become one label each."""
    if targets.shape.rank == 1 or (targets.shape.rank == 2 and targets.shape[-1] == 1):
      return tf.one_hot(tf.cast(tf.reshape(targets, [-1]), tf.int32), self.shape[-1])
    return super().canonical(targets)

  def sums(
    self, targets: tf.Tensor, outputs: tf.Tensor, weights: tf.Tensor
  ) -> dict[str, tf.Tensor]:
    """Of the fraction of right answers of each sample."""
    share = tf.cast(tf.reduce_mean(self._right(targets, outputs), -1), tf.float64)
    weights = tf.cast(weights, tf.float64)
    exact = tf.cast(share >= 1, tf.float64)
    values = {'correct': share, 'correct_squared': share**2, 'all_correct': exact}
    return {name: tf.reduce_sum(value * weights) for name, value in values.items()}

  def judged(
    self, totals: Mapping[str, float], records: Mapping[str, np.ndarray]
  ) -> tuple[Score, tuple[Score, ...]]:
    """Mean average precision, with label accuracy and the fraction of samples that are all right."""
    weight, count = totals['weight'], totals['samples']
    mean = totals['correct'] / weight
    spread = max(totals['correct_squared'] / weight - mean**2, 0.0)
    exact = totals['all_correct'] / weight
    labels = Score('label_accuracy', mean, noise=math.sqrt(spread / count))
    matches = Score('exact_match', exact, noise=binomial_noise(exact, count))
    found = mean_average_precision(records['wanted'], records['found']) if records else None
    if found is None:
      return labels, (matches,)
    score = Score('mean_average_precision', found[0], noise=found[1])
    return score, (labels, matches)
