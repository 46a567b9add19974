"""What tasks of one output share: the user's functions, an activation that files end in, heads."""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf
import tf_keras as keras

from secateurs.utils.errors import UserError
from secateurs.utils.graph.slicing.endings import (
  SIGMOID,
  SOFTMAX,
  Ending,
  opened,
  with_endings,
  without_endings,
)
from secateurs.utils.training.tasks import heads
from secateurs.utils.training.tasks.criteria import Criteria, Measure, like
from secateurs.utils.training.tasks.scores import Evaluation, Score
from secateurs.utils.training.tasks.task import Task

_TINY = 1e-12
_NB_TRIED = 3


class SingleTask(Task):
  """A task of one output, whose loss is a mean over samples or over positions of samples.

  A subclass gives `default_loss`, `shown`, `sums`, `judged` and what `Task` leaves open beside them.

  Attributes:
    shape: of the output, without the axis of samples.
    criteria: the loss and the user's metrics.
    ending: the activation in which exported files end, `softmax`, `sigmoid` or None.
    fits_classes: whether auxiliary heads are fit as classifiers.
  """

  shown: Sequence[str] = ()
  fits_classes = True

  def __init__(
    self, shape: Sequence[int], criteria: Criteria | None = None, *, ending: Ending = None
  ) -> None:
    """Sets up the task.

    Args:
      shape: of the output, without the axis of samples.
      criteria: loss and further metrics; default: those of the task, and none.
      ending: the activation in which exported files end.
    """
    self.shape, self.ending = tuple(shape), ending
    self.criteria = (criteria or Criteria()).with_default(self.default_loss)
    self.user_metrics = self.criteria.metric_names
    self.metric_names = (*self.shown, *self.user_metrics)
    self.total_types = {
      'samples': tf.int64,
      'weight': tf.float64,
      'loss': tf.float64,
      **{f'metrics/{name}': tf.float64 for name in self.user_metrics},
      **self.sum_types(),
    }

  # What a subclass gives.

  @property
  @abc.abstractmethod
  def default_loss(self) -> Measure:
    """Loss of targets and outputs for each sample, or for each position of each."""

  @abc.abstractmethod
  def sum_types(self) -> Mapping[str, tf.DType | tf.TensorSpec]:
    """Types of what `sums` gives."""

  @abc.abstractmethod
  def sums(
    self, targets: tf.Tensor, outputs: tf.Tensor, weights: tf.Tensor
  ) -> dict[str, tf.Tensor]:
    """Sums over a batch from which the score follows; weights are those of `weights_of`."""

  @abc.abstractmethod
  def judged(
    self, totals: Mapping[str, float | np.ndarray], records: Mapping[str, np.ndarray]
  ) -> tuple[Score, tuple[Score, ...]]:
    """The score and further figures."""

  def weights_of(self, targets: tf.Tensor, weights: tf.Tensor | None) -> tf.Tensor:
    """How much each sample (or position) counts, float32 [n, ...]."""
    if weights is None:
      return tf.ones(tf.shape(targets)[:1])
    weights = tf.cast(weights, tf.float32)
    return weights if weights.shape.rank == 1 else like(weights, tf.ones(tf.shape(weights)[:1]))

  def made_up(self, nb_samples: int) -> np.ndarray:
    """Targets of some samples, to try the user's functions on."""
    return np.zeros((nb_samples, *self.shape), np.float32)

  # Training and judging.

  def loss(
    self, targets: tf.Tensor, outputs: tf.Tensor, weights: tf.Tensor | None = None
  ) -> tf.Tensor:
    """The mean of the loss over samples or positions."""
    return self.criteria.loss(targets, outputs, self.weights_of(targets, weights))

  def totals(
    self, targets: tf.Tensor, outputs: tf.Tensor, weights: tf.Tensor | None = None
  ) -> dict[str, tf.Tensor]:
    """Samples, their weight, weighted sums of loss and metrics, and what the score follows from."""
    outputs = tf.cast(outputs, tf.float32)
    each = self.weights_of(targets, weights)
    scale = tf.reduce_sum(tf.cast(each, tf.float64))
    own = self.criteria.metrics(targets, outputs, each)
    loss = self.criteria.loss(targets, outputs, each)
    return {
      'samples': tf.shape(outputs, tf.int64)[0],
      'weight': scale,
      'loss': tf.cast(loss, tf.float64) * scale,
      **{f'metrics/{name}': tf.cast(value, tf.float64) * scale for name, value in own.items()},
      **self.sums(targets, outputs, each),
    }

  def evaluation(
    self, totals: Mapping[str, float | np.ndarray], records: Mapping[str, np.ndarray]
  ) -> Evaluation:
    """Score and figures of the task, with means of loss and metrics."""
    score, figures = self.judged(totals, records)
    weight = totals['weight']
    means = {name: totals[f'metrics/{name}'] / weight for name in self.user_metrics}
    return Evaluation(score, totals['loss'] / weight, int(totals['samples']), figures, means)

  def require_teacher(self, teacher: keras.Model, student: keras.Model) -> None:
    """Both must give outputs of one shape."""
    shapes = teacher.output_shape, student.output_shape
    if shapes[0] != shapes[1]:
      raise UserError(
        f'The teacher of --enbl_dst gives outputs of shape {shapes[0][1:]}, but the network gives '
        f'{shapes[1][1:]}: give a teacher of the same task with --save_path_dst.'
      )

  # Deployment.

  @property
  def endings(self) -> list[Ending]:
    """The activation of the only output, as a list."""
    return [self.ending]

  def deployable(self, model: keras.Model) -> keras.Model:
    """With the activation that files end in."""
    return with_endings(model, self.endings)

  def trained(self, model: keras.Model) -> keras.Model:
    """The model without that activation."""
    return without_endings(opened(model), self.endings)

  def trained_outputs(self, outputs: np.ndarray) -> np.ndarray:
    """Logarithms of probabilities, log-odds of sigmoids, others as they are."""
    if self.ending == SOFTMAX:
      return np.log(np.maximum(outputs, _TINY))
    if self.ending == SIGMOID:
      known = np.clip(np.asarray(outputs, np.float64), _TINY, 1 - 1e-7)
      return (np.log(known) - np.log1p(-known)).astype(np.float32)
    return outputs

  # Auxiliary heads.

  def make_head(self, shape: tuple[int | None, ...], name: str, seed: int) -> keras.Model:
    """BN, ReLU, global average pooling (or none, for outputs with positions) and a linear layer."""
    return heads.make_head(shape, self.shape, name, seed)

  def start_head(self, head: keras.Model, maps: heads.Rows, targets: np.ndarray) -> None:
    """By a logistic or a linear regression on what the linear layer reads."""
    heads.start_head(head, maps, targets, classes=self.fits_classes)

  # Checks.

  def identity(self) -> dict[str, str]:
    """The task's name, and that of the user's loss, if there is one."""
    own = {} if self.criteria.loss_name is None else {'loss': self.criteria.loss_name}
    return {'task': self.name, **own}

  def check(self) -> None:
    """Tries the user's loss and metrics."""
    outputs = np.random.default_rng(0).normal(0, 1, (_NB_TRIED, *self.shape))
    self.criteria.check_on(
      tf.constant(self.made_up(_NB_TRIED)), tf.constant(outputs.astype(np.float32))
    )
