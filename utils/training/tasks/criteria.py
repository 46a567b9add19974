"""What a run minimises and measures beside accuracy: cross-entropy, or functions of the user's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import tensorflow as tf
import tf_keras as keras

from secateurs.utils.errors import UserError

Measure = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]

_TAKEN = (
  'loss',
  'accuracy',
  'accuracy_top5',
  'loss_dst',
  'loss_block',
  'sparsity',
  'phase',
  'step',
  'epoch',
  'lrn_rate',
  'images_per_sec',
)


def cross_entropy(labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
  """Cross-entropy of float logits [n, c] against int labels [n]; float32 [n]."""
  logits = tf.cast(logits, tf.float32)
  return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)


class Criteria:
  """A loss and further metrics of a classifier.

  Each is a function of int32 labels [n] and float32 logits [n, c], of TensorFlow operations, that
  gives one number for each sample, or one for the batch, which counts as the mean over its samples.

  Attributes:
    metric_names: names of the further metrics.
  """

  def __init__(
    self, loss: Measure | None = None, metrics: Mapping[str, Measure] | None = None
  ) -> None:
    """`loss` None: cross-entropy; `metrics` by name.

    Raises:
      UserError: something is no function, or a metric's name is taken.
    """
    self._loss, self._metrics = loss, dict(metrics or {})
    if loss is not None:
      _require_function(loss, 'The loss')
    for name, metric in self._metrics.items():
      if not isinstance(name, str) or not name or name in _TAKEN:
        raise UserError(
          f'A metric is named {name!r}, but a text other than {", ".join(_TAKEN)} was expected: give '
          'it another name.'
        )
      _require_function(metric, f'Metric {name}')
    self.metric_names = tuple(self._metrics)

  @property
  def loss_name(self) -> str | None:
    """What a loss of the user's is called; None for cross-entropy."""
    if self._loss is None:
      return None
    return getattr(self._loss, '__name__', None) or type(self._loss).__name__

  def loss(
    self, labels: tf.Tensor, logits: tf.Tensor, weights: tf.Tensor | None = None
  ) -> tf.Tensor:
    """Mean loss of a batch, weighted by sample if there are weights [n]; scalar float32."""
    logits = tf.cast(logits, tf.float32)
    return _mean((self._loss or cross_entropy)(labels, logits), weights)

  def metrics(
    self, labels: tf.Tensor, logits: tf.Tensor, weights: tf.Tensor | None = None
  ) -> dict[str, tf.Tensor]:
    """Mean of each further metric over a batch, weighted likewise; scalars float32."""
    logits = tf.cast(logits, tf.float32)
    return {name: _mean(metric(labels, logits), weights) for name, metric in self._metrics.items()}

  def check(self, nb_classes: int) -> None:
    """Tries the functions on a few made-up samples, so that a wrong one fails before any training.

    Raises:
      UserError: one fails, gives another shape, or the loss has no gradient.
    """
    nb = (
      2 if nb_classes > 2 else 3
    )  # Another number than that of classes, lest shapes fit by chance.
    labels = tf.constant(np.arange(nb) % nb_classes, tf.int32)
    logits = tf.constant(np.random.default_rng(0).normal(0, 1, (nb, nb_classes)), tf.float32)
    if self._loss is not None:
      with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = _mean(_tried(self._loss, 'The loss', labels, logits))
      if tape.gradient(loss, logits) is None:
        raise UserError(
          'The loss has no gradient to the logits: build it of differentiable TensorFlow operations '
          'on its second argument.'
        )
    for name, metric in self._metrics.items():
      _tried(metric, f'Metric {name}', labels, logits)


def _mean(values: tf.Tensor, weights: tf.Tensor | None = None) -> tf.Tensor:
  """The mean over samples; one number for the whole batch counts as that mean already."""
  values = tf.cast(values, tf.float32)
  if weights is None or values.shape.rank == 0:
    return tf.reduce_mean(values)
  weights = tf.cast(weights, tf.float32)
  return tf.math.divide_no_nan(tf.reduce_sum(values * weights), tf.reduce_sum(weights))


def _require_function(measure: object, what: str) -> None:
  if isinstance(measure, keras.metrics.Metric):
    raise UserError(
      f'{what} is a {type(measure).__name__} object, which sums up by itself, but a function of '
      '(labels, logits) was expected: give a function such as tf_keras.metrics.mean_squared_error.'
    )
  if not callable(measure):
    raise UserError(
      f'{what} is a {type(measure).__name__}, but a function of (labels, logits) was expected.'
    )


def _tried(measure: Measure, what: str, labels: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
  shapes = f'labels {tuple(labels.shape)} and logits {tuple(logits.shape)}'
  try:
    found = tf.convert_to_tensor(measure(labels, logits))
  except Exception as error:  # Whatever the user's code raises.
    reason = (str(error).strip().splitlines() or ['no reason given'])[0]
    raise UserError(
      f'{what} failed on int32 {shapes} ({type(error).__name__}: {reason}): give a function of such.'
    ) from error
  if found.shape not in (labels.shape, ()):
    raise UserError(
      f'{what} gives {tuple(found.shape)} for {shapes}, but one number, or one for each sample, was '
      'expected: take the mean over the other axes.'
    )
  return found
