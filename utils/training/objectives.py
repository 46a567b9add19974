"""Losses of classifiers: cross-entropy and its like, and distillation from a teacher."""

from __future__ import annotations

from collections.abc import Mapping

import tensorflow as tf
import tf_keras as keras

from secateurs.utils.training.criteria import Criteria


def distillation_loss(
  teacher_logits: tf.Tensor, student_logits: tf.Tensor, temperature: float
) -> tf.Tensor:
  """T^2 * KL(teacher || student) at temperature T, mean over samples; scalar float32.

  KL(p || q) = sum_k p_k (log p_k - log q_k) with p = softmax(teacher / T), q = softmax(student / T).
  The factor T^2 keeps the gradients' size independent of T (Hinton et al. 2015, section 2).

  Args:
    teacher_logits: float [n, c].
    student_logits: float [n, c].
    temperature: T > 0.
  """
  log_p = tf.nn.log_softmax(tf.cast(teacher_logits, tf.float32) / temperature)
  log_q = tf.nn.log_softmax(tf.cast(student_logits, tf.float32) / temperature)
  divergence = tf.reduce_sum(tf.exp(log_p) * (log_p - log_q), axis=-1)
  return temperature**2 * tf.reduce_mean(divergence)


class Classification:
  """Cross-entropy of a classifier, or the user's loss, plus distillation where there is a teacher.

  loss = cross_entropy + weight * T^2 * KL(teacher || student)

  The teacher runs in inference mode on the same augmented images as the student.

  A third entry of a batch is what the teacher gives for its images, where that is known already.

  Attributes:
    criteria: the loss from the labels, and the user's metrics.
    teacher: the network that is learned from, if any.
  """

  def __init__(
    self,
    model: keras.Model,
    *,
    criteria: Criteria | None = None,
    teacher: keras.Model | None = None,
    weight: float = 0.0,
    temperature: float = 1.0,
  ) -> None:
    self._model, self.teacher = model, teacher
    self._weight, self._temperature = weight, temperature
    self.criteria = criteria or Criteria()
    own = ('accuracy', *self.criteria.metric_names)
    self.metric_names = own if teacher is None else (*own, 'loss_dst')

  def __call__(self, batch: tuple) -> tuple[tf.Tensor, Mapping[str, tf.Tensor]]:
    """Loss and metrics of a batch of (images, labels[, teacher's logits]) in training mode."""
    return self.of(self._model(batch[0], training=True), batch)

  def of(self, logits: tf.Tensor, batch: tuple) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
    """Loss and metrics of a batch, given the model's outputs [n, c] for it."""
    images, labels, *known = batch
    logits = tf.cast(logits, tf.float32)
    loss = self.criteria.loss(labels, logits)
    correct = tf.cast(tf.argmax(logits, -1, tf.int32) == labels, tf.float32)
    metrics = {'accuracy': tf.reduce_mean(correct), **self.criteria.metrics(labels, logits)}
    if self.teacher is not None:
      told = known[0] if known else self.teacher(images, training=False)
      soft = distillation_loss(told, logits, self._temperature)
      metrics['loss_dst'] = soft
      loss += self._weight * soft
    return loss, metrics
