"""Classification: one of several classes for each sample, by a softmax over logits."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import tensorflow as tf
import tf_keras as keras

from secateurs.utils.errors import UserError
from secateurs.utils.graph.slicing.endings import (
  SOFTMAX,
  ending_of,
  opened,
  with_endings,
  without_endings,
)
from secateurs.utils.training.tasks import heads
from secateurs.utils.training.tasks.criteria import Criteria
from secateurs.utils.training.tasks.scores import Evaluation, Score, binomial_noise
from secateurs.utils.training.tasks.task import Task

_TOP_K = 5
_MIN_CLASSES_FOR_TOP_K = 20  # Top-5 of ten classes says little.
_TINY = 1e-12


class Classification(Task):
  """Cross-entropy of logits [n, c] against class numbers [n], or the user's loss; accuracy judges.

  Attributes:
    criteria: the loss and the user's metrics.
  """

  name = 'classification'
  percent_metrics = ('accuracy',)

  def __init__(
    self, nb_classes: int, criteria: Criteria | None = None, *, probabilities: bool = False
  ) -> None:
    """Sets up the task.

    Args:
      nb_classes: number of logits.
      criteria: loss and further metrics; default: cross-entropy, and none.
      probabilities: whether exported models end in a softmax.
    """
    self.nb_classes, self.criteria = nb_classes, criteria or Criteria()
    self._probabilities = probabilities
    self.user_metrics = self.criteria.metric_names
    self.metric_names = ('accuracy', *self.user_metrics)
    self.total_types = {
      'samples': tf.int64,
      'weight': tf.float64,
      'correct': tf.float64,
      'correct_top5': tf.float64,
      'loss': tf.float32,
      **{f'metrics/{name}': tf.float32 for name in self.user_metrics},
    }

  def canonical(self, targets: tf.Tensor) -> tf.Tensor:
    """Class numbers int32 [n], from these, from [n, 1], or from one-hot rows."""
    if targets.shape.rank == 2 and targets.shape[-1] == self.nb_classes > 1:
      return tf.argmax(targets, -1, tf.int32)
    if targets.shape.rank > 2 or (targets.shape.rank == 2 and targets.shape[-1] != 1):
      raise UserError(
        f'The labels have shape {tuple(targets.shape[1:])} for each sample, but a class number, or '
        f'one number for each of {self.nb_classes} classes, was expected: give such, or name '
        'another task with task=NAME (on the command line --task).'
      )
    return tf.cast(tf.reshape(targets, [-1]), tf.int32)

  def class_numbers(self, targets: tf.Tensor) -> tf.Tensor:
    """The targets themselves."""
    return targets

  def require_targets(self, targets: np.ndarray, where: str) -> None:
    """Class numbers that the model has."""
    if targets.min() < 0 or targets.max() >= self.nb_classes:
      raise UserError(
        f'The {where} labels go from {targets.min()} to {targets.max()}, but the model has '
        f'{self.nb_classes} classes, 0 to {self.nb_classes - 1}: number them so.'
      )

  def loss(
    self, targets: tf.Tensor, outputs: tf.Tensor, weights: tf.Tensor | None = None
  ) -> tf.Tensor:
    """Mean cross-entropy, or the mean of the user's loss."""
    return self.criteria.loss(targets, outputs, weights)

  def metrics(
    self, targets: tf.Tensor, outputs: tf.Tensor, weights: tf.Tensor | None = None
  ) -> dict[str, tf.Tensor]:
    """Accuracy and the user's metrics."""
    logits = tf.cast(outputs, tf.float32)
    correct = tf.cast(tf.argmax(logits, -1, tf.int32) == targets, tf.float32)
    if weights is None:
      accuracy = tf.reduce_mean(correct)
    else:
      accuracy = tf.math.divide_no_nan(tf.reduce_sum(correct * weights), tf.reduce_sum(weights))
    return {'accuracy': accuracy, **self.criteria.metrics(targets, logits, weights)}

  def distillation(self, taught: tf.Tensor, outputs: tf.Tensor, temperature: float) -> tf.Tensor:
    """T^2 * KL(teacher || student) at temperature T, mean over samples.

    KL(p || q) = sum_k p_k (log p_k - log q_k) with p = softmax(teacher / T), q = softmax(student / T).
    The factor T^2 keeps the gradients' size independent of T (Hinton et al. 2015, section 2).
    """
    log_p = tf.nn.log_softmax(tf.cast(taught, tf.float32) / temperature)
    log_q = tf.nn.log_softmax(tf.cast(outputs, tf.float32) / temperature)
    divergence = tf.reduce_sum(tf.exp(log_p) * (log_p - log_q), axis=-1)
    return temperature**2 * tf.reduce_mean(divergence)

  def require_teacher(self, teacher: keras.Model, student: keras.Model) -> None:
    """Both must give the same number of classes."""
    classes = teacher.output_shape[-1], student.output_shape[-1]
    if classes[0] != classes[1]:
      raise UserError(
        f'The teacher of --enbl_dst gives {classes[0]} classes, but the network gives '
        f'{classes[1]}: give a teacher of the same data set with --save_path_dst.'
      )

  def totals(
    self, targets: tf.Tensor, outputs: tf.Tensor, weights: tf.Tensor | None = None
  ) -> dict[str, tf.Tensor]:
    """Samples, their weight, and the weighted sums of hits, losses and metrics."""
    logits = tf.cast(outputs, tf.float32)
    count = tf.shape(targets, tf.int64)[0]
    each = tf.ones_like(targets, tf.float64) if weights is None else tf.cast(weights, tf.float64)
    weight = tf.reduce_sum(each)
    right = tf.cast(self.hits(targets, logits), tf.float64)
    top5 = tf.math.in_top_k(targets, logits, min(_TOP_K, logits.shape[-1]))
    scale = tf.cast(weight, tf.float32)
    own = self.criteria.metrics(targets, logits, weights)
    return {
      'samples': count,
      'weight': weight,
      'correct': tf.reduce_sum(right * each),
      'correct_top5': tf.reduce_sum(tf.cast(top5, tf.float64) * each),
      'loss': self.criteria.loss(targets, logits, weights) * scale,
      **{f'metrics/{name}': value * scale for name, value in own.items()},
    }

  def hits(self, targets: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
    """Whether the largest logit is that of the sample's class."""
    return tf.argmax(tf.cast(outputs, tf.float32), -1, tf.int32) == targets

  def evaluation(
    self, totals: Mapping[str, float], records: Mapping[str, np.ndarray]
  ) -> Evaluation:
    """Accuracy judges; top-5 accuracy is a figure where there are at least 20 classes."""
    del records
    count, weight = int(totals['samples']), totals['weight']

    def share(name: str, key: str) -> Score:
      value = totals[key] / weight
      return Score(name, value, noise=binomial_noise(value, count))

    top5 = (share('accuracy_top5', 'correct_top5'),)
    return Evaluation(
      share('accuracy', 'correct'),
      totals['loss'] / weight,
      count,
      top5 if self.nb_classes >= _MIN_CLASSES_FOR_TOP_K else (),
      {name: totals[f'metrics/{name}'] / weight for name in self.user_metrics},
    )

  def divergence(self, original: np.ndarray, changed: np.ndarray) -> np.ndarray:
    """KL(p || q) of the class probabilities, float [n]."""
    log_p, log_q = (
      tf.nn.log_softmax(np.asarray(logits, np.float32)).numpy() for logits in (original, changed)
    )
    return (np.exp(log_p) * (log_p - log_q)).sum(axis=-1)

  def guess_note(self, evaluation: Evaluation) -> str | None:
    """Whether the accuracy is that of chance, within three standard errors; few samples say little."""
    chance = 1 / self.nb_classes
    noise = math.sqrt(chance * (1 - chance) / max(evaluation.nb_samples, 1))
    accuracy = evaluation.score.value
    if accuracy > min(chance + 3 * noise, (1 + chance) / 2):
      return None
    return (
      f'The baseline guesses: its accuracy of {100 * accuracy:.2f} % is that of chance among '
      f'{self.nb_classes} classes; are the weights trained, the classes in the order of the '
      'training, '
      'and the pixels normalised as then (--preprocess, where there is that flag)?'
    )

  def deployable(self, model: keras.Model) -> keras.Model:
    """With a softmax if exported models give probabilities."""
    return with_endings(model, [self.ending])

  @property
  def ending(self) -> str | None:
    """The activation in which exported files end."""
    return SOFTMAX if self._probabilities else None

  def trained(self, model: keras.Model) -> keras.Model:
    """The model without a softmax at its end."""
    flat = opened(model)
    return without_endings(flat, [SOFTMAX]) if ending_of(flat) == SOFTMAX else flat

  def trained_outputs(self, outputs: np.ndarray) -> np.ndarray:
    """The logits except for a constant for each sample: logarithms, where files give probabilities."""
    return np.log(np.maximum(outputs, _TINY)) if self._probabilities else outputs

  def agreement(self, reference: np.ndarray, outputs: np.ndarray) -> float | None:
    """Fraction of samples of one class in both."""
    return float(np.mean(reference.argmax(-1) == outputs.argmax(-1)))

  def make_head(self, shape: tuple[int | None, ...], name: str, seed: int) -> keras.Model:
    """BN, ReLU, global average pooling and a linear layer."""
    return heads.make_head(shape, (self.nb_classes,), name, seed)

  def start_head(self, head: keras.Model, maps: heads.Rows, targets: np.ndarray) -> None:
    """By a logistic regression on the pooled maps."""
    heads.start_head(head, maps, targets)

  def identity(self) -> dict[str, str]:
    """The name of the user's loss, if there is one."""
    return {} if self.criteria.loss_name is None else {'loss': self.criteria.loss_name}

  def check(self) -> None:
    """Tries the user's loss and metrics."""
    self.criteria.check(self.nb_classes)
