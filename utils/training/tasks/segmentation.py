"""Segmentation: a class for each position, of images or of sequences; mean IoU judges."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from secateurs.utils import nested
from secateurs.utils.errors import UserError
from secateurs.utils.graph.slicing.endings import SIGMOID, Ending
from secateurs.utils.training.tasks.criteria import Criteria, Measure, like, weighted_mean
from secateurs.utils.training.tasks.pictures import NB_PANELS, Picture, masks
from secateurs.utils.training.tasks.scores import Evaluation, Score
from secateurs.utils.training.tasks.sigmoids import bernoulli_divergence
from secateurs.utils.training.tasks.single import SingleTask
from secateurs.utils.training.tasks.targets import require_finite, shaped

_TINY = 1e-12


class Segmentation(SingleTask):
  """Cross-entropy of logits [n, ..., c] against class numbers [n, ...]; of one logit: a sigmoid's.

  Where files end in a sigmoid for each of several classes, the loss is the mean of their entropies.
  Positions whose target is no class number (such as 255, or -1) do not count.

  Attributes:
    nb_classes: classes; two where there is one logit.
  """

  name = 'segmentation'
  shown = percent_metrics = ('pixel_accuracy',)
  nb_drawn = NB_PANELS

  def __init__(
    self, shape: Sequence[int], criteria: Criteria | None = None, *, ending: Ending = None
  ) -> None:
    """As for all tasks of one output; `shape` is (..., c)."""
    self.nb_classes = max(shape[-1], 2)
    self._sigmoid = shape[-1] == 1
    self._each = shape[-1] > 1 and ending == SIGMOID  # A sigmoid for each class.
    super().__init__(shape, criteria, ending=ending)

  @property
  def default_loss(self) -> Measure:
    """Cross-entropy of each position."""
    return self._entropy

  def _entropy(self, targets: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    logits = tf.cast(logits, tf.float32)
    known = tf.clip_by_value(targets, 0, self.nb_classes - 1)
    if self._sigmoid:
      labels = tf.cast(known, tf.float32)
      return tf.nn.sigmoid_cross_entropy_with_logits(labels, logits[..., 0])
    if self._each:
      labels = tf.one_hot(known, self.nb_classes)
      return tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(labels, logits), -1)
    return tf.nn.sparse_softmax_cross_entropy_with_logits(known, logits)

  def canonical(self, targets: tf.Tensor) -> tf.Tensor:
    """Class numbers, int32 [n, ...], from these, from these with a last axis of one, or one-hot."""
    rank, size = targets.shape.rank, targets.shape[-1]
    if rank == len(self.shape) + 1 and size == self.nb_classes and not self._sigmoid:
      return shaped(tf.argmax(targets, -1, tf.int32), self.shape[:-1])
    if targets.dtype.is_floating:
      targets = tf.round(targets)
    return shaped(tf.cast(targets, tf.int32), self.shape[:-1])

  def require_targets(self, targets: np.ndarray, where: str) -> None:
    """At least one position of a class."""
    require_finite(targets, where)
    if not ((targets >= 0) & (targets < self.nb_classes)).any():
      raise UserError(
        f'The {where} targets go from {targets.min()} to {targets.max()}, but the model has '
        f'{self.nb_classes} classes, 0 to {self.nb_classes - 1}: number them so.'
      )

  def made_up(self, nb_samples: int) -> np.ndarray:
    """Class numbers."""
    size = nb_samples * math.prod(self.shape[:-1])
    return (
      (np.arange(size) % self.nb_classes).reshape(nb_samples, *self.shape[:-1]).astype(np.int32)
    )

  def weights_of(self, targets: tf.Tensor, weights: tf.Tensor | None) -> tf.Tensor:
    """Weight of each position, float32 [n, ...]; zero where there is no class."""
    valid = tf.cast((targets >= 0) & (targets < self.nb_classes), tf.float32)
    if weights is None:
      return valid
    weights = tf.cast(weights, tf.float32)
    if weights.shape.rank == targets.shape.rank + 1 and weights.shape[-1] == 1:
      weights = weights[..., 0]
    return valid * like(weights, valid)

  def _classes(self, outputs: tf.Tensor) -> tf.Tensor:
    """The class that logits give each position, int32 [n, ...]."""
    if self._sigmoid:
      return tf.cast(outputs[..., 0] > 0, tf.int32)
    return tf.argmax(outputs, -1, tf.int32)

  def metrics(
    self, targets: tf.Tensor, outputs: tf.Tensor, weights: tf.Tensor | None = None
  ) -> dict[str, tf.Tensor]:
    """Pixel accuracy, and the user's metrics."""
    each = self.weights_of(targets, weights)
    right = tf.cast(self._classes(outputs) == targets, tf.float32)
    return {
      'pixel_accuracy': weighted_mean(right, each),
      **self.criteria.metrics(targets, outputs, each),
    }

  def distillation(self, taught: tf.Tensor, outputs: tf.Tensor, temperature: float) -> tf.Tensor:
    """T^2 * KL(teacher || student) of each position at temperature T, mean over all positions."""
    each = self._kl(taught / temperature, outputs / temperature)
    return temperature**2 * tf.reduce_mean(each)

  def divergence(self, original: np.ndarray, changed: np.ndarray) -> np.ndarray:
    """Mean KL(p || q) over the positions of each sample, float [n]."""
    each = self._kl(tf.constant(original), tf.constant(changed)).numpy()
    return each.reshape(len(each), -1).mean(axis=1)

  def _kl(self, taught: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
    if self._sigmoid or self._each:
      return tf.reduce_mean(bernoulli_divergence(taught, outputs), -1)
    log_p = tf.nn.log_softmax(tf.cast(taught, tf.float32))
    log_q = tf.nn.log_softmax(tf.cast(outputs, tf.float32))
    return tf.reduce_sum(tf.exp(log_p) * (log_p - log_q), axis=-1)

  def agreement(self, reference: np.ndarray, outputs: np.ndarray) -> float | None:
    """Fraction of positions of one class in both."""
    if self._sigmoid:
      least = 0.5 if self.ending else 0.0
      return float(np.mean((reference > least) == (outputs > least)))
    return float(np.mean(reference.argmax(-1) == outputs.argmax(-1)))

  def class_numbers(self, targets: tf.Tensor) -> tf.Tensor:
    """Those of positions; others count as class 0, with no weight."""
    return tf.where((targets >= 0) & (targets < self.nb_classes), targets, 0)

  # Judging: x_i holds for a sample i and each class its hits (weight of the pixels that have the class
  # in target and output) and its union (in one of them). From sum x_i and sum x_i x_i^T follow the
  # ratios of sums and their standard errors.

  def sum_types(self) -> Mapping[str, tf.DType | tf.TensorSpec]:
    """Sums and products of hits and unions of each sample."""
    size = 2 * self.nb_classes
    return {
      'sums': tf.TensorSpec([size], tf.float64),
      'products': tf.TensorSpec([size, size], tf.float64),
      'right_squared': tf.float64,
      'right_weight': tf.float64,
      'weight_squared': tf.float64,
    }

  def sums(
    self, targets: tf.Tensor, outputs: tf.Tensor, weights: tf.Tensor
  ) -> dict[str, tf.Tensor]:
    """Of one batch, in float64."""
    nb, size = tf.shape(targets)[0], self.nb_classes
    given, found = (tf.reshape(x, [nb, -1]) for x in (targets, self._classes(outputs)))
    weights = tf.cast(tf.reshape(weights, [nb, -1]), tf.float64)
    given = tf.clip_by_value(given, 0, size - 1)
    same = tf.cast(given == found, tf.float64) * weights

    def by_class(classes: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
      """Sums [n, c] of values [n, p] over the positions of each class; one-hot maps would be large."""
      places = classes + size * tf.range(nb)[:, None]
      return tf.reshape(tf.math.unsorted_segment_sum(values, places, nb * size), [nb, size])

    of_target, of_output = by_class(given, weights), by_class(found, weights)
    hits = by_class(given, same)
    each = tf.concat([hits, of_target + of_output - hits], axis=-1)
    right, total = tf.reduce_sum(same, 1), tf.reduce_sum(weights, 1)
    return {
      'sums': tf.reduce_sum(each, axis=0),
      'products': tf.matmul(each, each, transpose_a=True),
      'right_squared': tf.reduce_sum(right**2),
      'right_weight': tf.reduce_sum(right * total),
      'weight_squared': tf.reduce_sum(total**2),
    }

  def judged(
    self, totals: Mapping[str, float | np.ndarray], records: Mapping[str, np.ndarray]
  ) -> tuple[Score, tuple[Score, ...]]:
    """Mean IoU over the classes that occur, in target or output; pixel accuracy and Dice beside it.

    IoU = hits / union of all samples, Dice = 2 hits / (hits + union). The standard errors are those of
    ratios of sums over samples (Cochran 1977, Sampling Techniques, section 6.4): for R = x / y the
    root of sum (x_i - R y_i)^2 / y^2.
    """
    del records
    size = self.nb_classes
    hits, unions = totals['sums'][:size], totals['sums'][size:]
    seen = unions > 0
    share = np.divide(hits, unions, out=np.zeros(size), where=seen)
    dice = 2 * share / (1 + share)
    inverse = np.divide(1.0, unions, out=np.zeros(size), where=seen)
    count = max(seen.sum(), 1)

    def noise(factor: np.ndarray) -> float:
      part = factor * inverse / count
      weights = np.concatenate([part, -part * share])
      return math.sqrt(max(float(weights @ totals['products'] @ weights), 0.0))

    iou = Score(
      'mean_iou', float(share.sum() / count), noise=noise(np.ones(size)), label='mean IoU'
    )
    slope = 2 / (1 + share) ** 2
    overlap = Score('dice', float(dice.sum() / count), noise=noise(slope), label='Dice')
    weight, right = totals['weight'], float(hits.sum())
    accuracy = right / weight
    squares = (
      totals['right_squared']
      - 2 * accuracy * totals['right_weight']
      + accuracy**2 * totals['weight_squared']
    )
    spread = math.sqrt(max(squares, 0.0)) / max(weight, _TINY)
    return iou, (Score('pixel_accuracy', accuracy, noise=spread), overlap)

  @property
  def draws(self) -> bool:
    """Whether positions are pixels."""
    return len(self.shape) == 3

  def pictures(
    self, inputs: Any, targets: np.ndarray, before: np.ndarray, after: np.ndarray
  ) -> Sequence[Picture]:
    """Images with their classes, of the first input that is images of the output's size."""
    size = tuple(targets.shape[1:])
    found = [one for one in nested.parts(inputs) if one.ndim == 4 and one.shape[1:3] == size]
    if not found:
      return []
    rows = slice(NB_PANELS)
    classes = [self._classes(tf.constant(one[rows])).numpy() for one in (before, after)]
    return [masks(found[0][rows], targets[rows], *classes, self.nb_classes)]

  def guess_note(self, evaluation: Evaluation) -> str | None:
    """Whether one class everywhere would do as well: its mean IoU is at most 1 / classes."""
    value = evaluation.score.value
    if evaluation.score.name != 'mean_iou' or value > 1 / self.nb_classes:
      return None
    return (
      f'The baseline guesses: its mean IoU of {100 * value:.2f} % is not above that of one class '
      'for all '
      'positions; are the weights trained, the classes numbered as in the training, and the pixels '
      'scaled as then?'
    )
