"""What a run minimises, and measures beside its score: functions of the task's or the user's."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import tensorflow as tf
import tf_keras as keras

from secateurs.utils.errors import UserError, first_line

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
  """A loss and further metrics of one output.

  Each is a function of targets (labels) and outputs (logits), of TensorFlow operations, that gives one
  number for each sample (or for each position of a sample), or one for the batch, which counts as the
  mean over its samples. What targets and outputs are follows from the task: int32 [n] and float32
  [n, c] for classification.

  Attributes:
    metric_names: names of the further metrics.
    default: the loss where the user gave none.
  """

  def __init__(
    self,
    loss: Measure | None = None,
    metrics: Mapping[str, Measure] | None = None,
    default: Measure = cross_entropy,
  ) -> None:
    """`loss` None: `default`; `metrics` by name.

    Raises:
      UserError: something is no function, or a metric's name is taken.
    """
    self._given, self._metrics, self.default = loss, dict(metrics or {}), default
    # Objects of tf_keras.losses give a mean; before it they have a number for each sample.
    self._loss = loss.call if isinstance(loss, keras.losses.Loss) else loss
    if loss is not None:
      _require_function(loss, 'The loss')
    for name, metric in self._metrics.items():
      if not isinstance(name, str) or not name or name in _TAKEN:
        raise UserError(
          f'A metric is named {name!r}, but a text other than {", ".join(_TAKEN)} was expected: '
          'give '
          'it another name.'
        )
      _require_function(metric, f'Metric {name}')
    self.metric_names = tuple(self._metrics)

  @property
  def loss_name(self) -> str | None:
    """What a loss of the user's is called; None for the default."""
    if self._given is None:
      return None
    return getattr(self._given, '__name__', None) or type(self._given).__name__

  def loss(
    self, labels: tf.Tensor, logits: tf.Tensor, weights: tf.Tensor | None = None
  ) -> tf.Tensor:
    """Mean loss of a batch, weighted if there are weights [n] or [n, positions]; scalar float32."""
    logits = tf.cast(logits, tf.float32)
    return weighted_mean((self._loss or self.default)(labels, logits), weights)

  def metrics(
    self, labels: tf.Tensor, logits: tf.Tensor, weights: tf.Tensor | None = None
  ) -> dict[str, tf.Tensor]:
    """Mean of each further metric over a batch, weighted likewise; scalars float32."""
    logits = tf.cast(logits, tf.float32)
    return {
      name: weighted_mean(metric(labels, logits), weights) for name, metric in self._metrics.items()
    }

  def with_default(self, default: Measure) -> Criteria:
    """The same with another loss where the user gave none."""
    return Criteria(self._given, self._metrics, default)

  def or_loss(self, loss: Measure) -> Criteria:
    """The same with a loss where the user gave none."""
    return self if self._loss is not None else Criteria(loss, self._metrics, self.default)

  def check(self, nb_classes: int) -> None:
    """Tries the functions on a few made-up samples of a classifier; see `check_on`."""
    # Another number than that of classes, lest shapes fit by chance.
    nb = 2 if nb_classes > 2 else 3
    labels = tf.constant(np.arange(nb) % nb_classes, tf.int32)
    logits = tf.constant(np.random.default_rng(0).normal(0, 1, (nb, nb_classes)), tf.float32)
    self.check_on(labels, logits)

  def check_on(self, labels: tf.Tensor, logits: tf.Tensor) -> None:
    """Tries the functions on made-up samples, so that a wrong one fails before any training.

    Args:
      labels: targets [n, ...].
      logits: outputs [n, ..., c].

    Raises:
      UserError: one fails, gives another shape, or the loss has no gradient.
    """
    if self._loss is not None:
      with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = weighted_mean(_tried(self._loss, 'The loss', labels, logits))
      if tape.gradient(loss, logits) is None:
        raise UserError(
          'The loss has no gradient to the logits: build it of differentiable TensorFlow '
          'operations on its second argument.'
        )
    for name, metric in self._metrics.items():
      _tried(metric, f'Metric {name}', labels, logits)


def weighted_mean(values: tf.Tensor, weights: tf.Tensor | None = None) -> tf.Tensor:
  """The mean over samples; one number for the whole batch counts as that mean already.

  Args:
    values: [n, ...], or a scalar.
    weights: [n], or of further axes of `values`; None: all count alike. Where `weights` has more axes
      than `values`, each sample counts with the mean over them.
  """
  values = tf.cast(values, tf.float32)
  if weights is None or values.shape.rank == 0:
    return tf.reduce_mean(values)
  weights = like(tf.cast(weights, tf.float32), values)
  return tf.math.divide_no_nan(tf.reduce_sum(values * weights), tf.reduce_sum(weights))


def like(weights: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
  """Weights [n, ...] with the shape of values [n, ...]: repeated over axes, or the mean over them."""
  rank, wanted = weights.shape.rank, values.shape.rank
  if rank > wanted:
    return tf.reduce_mean(weights, list(range(wanted, rank)))
  for _ in range(wanted - rank):
    weights = weights[..., None]
  return tf.broadcast_to(weights, tf.shape(values))


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
    reason = first_line(error)
    raise UserError(
      f'{what} failed on {labels.dtype.name} {shapes} ({type(error).__name__}: {reason}): give a '
      'function of such.'
    ) from error
  if found.shape not in _shapes_of_values(labels, logits):
    raise UserError(
      f'{what} gives {tuple(found.shape)} for {shapes}, but one number, or one for each sample, '
      'was expected: take the mean over the other axes.'
    )
  return found


def _shapes_of_values(labels: tf.Tensor, logits: tf.Tensor) -> list[tf.TensorShape]:
  """What a function of these may give: one number, or one for each sample or position."""
  return [tf.TensorShape(()), *(logits.shape[: n + 1] for n in range(labels.shape.rank))]
