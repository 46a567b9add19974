"""What training minimises: a task's loss, and distillation from a teacher."""

from __future__ import annotations

from collections.abc import Mapping

import tensorflow as tf
import tf_keras as keras

from secateurs.utils.training.tasks.task import Batch, Task, Tensors


class TaskObjective:
  """A task's loss, plus distillation where there is a teacher.

  loss = task.loss + weight * task.distillation(teacher, student, temperature)

  without the first term where targets are no labels but decisions of the teacher.

  The teacher runs in inference mode on the same augmented samples as the student, unless a batch
  holds its outputs already (`Batch.taught`).

  Attributes:
    task: the loss from the targets, and the metrics.
    teacher: the network that is learned from, if any.
    metric_names: of the metrics.
  """

  def __init__(
    self,
    model: keras.Model,
    task: Task,
    *,
    teacher: keras.Model | None = None,
    weight: float = 0.0,
    temperature: float = 1.0,
    labelled: bool = True,
  ) -> None:
    """Keeps what it is given.

    Args:
      model: what is trained.
      task: the loss from the targets, and the metrics.
      teacher: the network that is learned from.
      weight: of the teacher's loss.
      temperature: of it.
      labelled: whether the loss from the targets counts beside the teacher's.
    """
    self._model, self.task, self.teacher = model, task, teacher
    self._weight, self._temperature, self._labelled = weight, temperature, labelled
    own = tuple(task.metric_names)
    self.metric_names = own if teacher is None else (*own, 'loss_dst')

  def __call__(self, batch: tuple) -> tuple[tf.Tensor, Mapping[str, tf.Tensor]]:
    """Loss and metrics of a batch (see `Batch`) in training mode."""
    return self.of(self._model(batch[0], training=True), batch)

  def of(self, outputs: Tensors, batch: tuple) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
    """Loss and metrics of a batch, given the model's outputs for it."""
    batch = Batch(*batch)
    outputs = tf.nest.map_structure(lambda x: tf.cast(x, tf.float32), outputs)
    loss = self.task.loss(batch.targets, outputs, batch.weights)
    metrics = self.task.metrics(batch.targets, outputs, batch.weights)
    if self.teacher is not None:
      taught = batch.taught
      if taught is None:
        taught = self.teacher(batch.inputs, training=False)
      soft = self.task.distillation(taught, outputs, self._temperature)
      metrics['loss_dst'] = soft
      loss = self._weight * soft + (loss if self._labelled else 0.0)
    return loss, metrics
