"""Data that the user gives in Python: arrays, or tf.data pipelines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from secateurs.nets.datasets.arrays import Arrays
from secateurs.nets.datasets.pipeline import Pipeline
from secateurs.nets.datasets.samples import InputSpec
from secateurs.nets.datasets.source import Shard
from secateurs.nets.datasets.splits import nb_held_out
from secateurs.utils.errors import UserError
from secateurs.utils.training.tasks.task import Task

Pair = tuple[Any, ...]
"""(inputs, targets) or (inputs, targets, weights of samples)."""


class GivenData:
  """Training and evaluation data, as the network sees it; arrays may hold out samples of training.

  Arrays are copied once, and read in a new order in each epoch, a function of the seed alone. A
  pipeline is read in its own order, over and over; after an interruption, what was read is read again
  and dropped.

  Attributes:
    name: `given`.
    image_shape: shape of a sample of the first input.
    nb_classes: classes of the task, 0 where it has none.
    augments: False: images come as they were augmented.
  """

  name, augments = 'given', False

  def __init__(
    self,
    train: Pair | tf.data.Dataset,
    evaluation: Pair | tf.data.Dataset,
    inputs: Sequence[InputSpec],
    task: Task,
    *,
    steps_per_epoch: int | None = None,
    validation_steps: int | None = None,
    class_weight: Mapping[int, float] | None = None,
    nb_smpls_val: int = 0,
  ) -> None:
    """Checks inputs and targets, and counts the samples of pipelines by reading them once.

    Args:
      train: training data.
      evaluation: evaluation data.
      inputs: of the network.
      task: what targets mean.
      steps_per_epoch: batches of an epoch of a training pipeline.
      validation_steps: batches of an evaluation pipeline.
      class_weight: how much samples (or positions) of each class count in training.
      nb_smpls_val: training samples that are held out for validation, of arrays; -1: a fifth of them,
        at most 10,000. A pipeline holds out none.

    Raises:
      UserError: they do not fit the network.
    """
    self.image_shape, self._task = tuple(inputs[0].shape), task
    self.nb_classes = getattr(task, 'nb_classes', 0)
    self._weights = None if class_weight is None else _table(class_weight, self.nb_classes or 2)
    self._splits = {
      'train': _given(train, 'training', inputs, task, steps_per_epoch),
      'eval': _given(evaluation, 'evaluation', inputs, task, validation_steps),
    }
    training = self._splits['train']
    if nb_smpls_val and isinstance(training, Arrays):
      number = nb_held_out(len(training), nb_smpls_val)
      if not 0 < number < len(training):
        raise UserError(
          f'The training data has {len(training)} samples, but nb_smpls_val {nb_smpls_val} would hold '
          f'out {number} of them: give more samples, or another number.'
        )
      self._splits['train'], self._splits['val'] = training.held_out(number)
    if self._weights is not None:
      (batch,) = self._splits['train'].some(1)
      task.class_numbers(batch[1])  # Refused where there are no classes.

  @property
  def nb_bytes(self) -> int:
    """What arrays take; pipelines hold nothing here."""
    return sum(getattr(split, 'nb_bytes', 0) for split in self._splits.values())

  def nb_samples(self, split: str) -> int:
    """Number of samples of a split."""
    return len(self._splits[split]) if split in self._splits else 0

  def labels(self, split: str) -> np.ndarray | None:
    """Labels of a split; None for one that comes as a pipeline."""
    return self._splits[split].labels()

  def notes(self) -> list[str]:
    """Nothing."""
    return []

  def train_batches(
    self,
    batch_size: int,
    seed: int,
    start: int = 0,
    *,
    augment: str = 'all',
    shard: Shard = (0, 1),
  ) -> tf.data.Dataset:
    """Endless batches from step `start` on, augmented as they came, whatever `augment` is."""
    del augment
    batches = self._splits['train'].endless(batch_size, seed, start, shard)
    return batches if self._weights is None else batches.map(self._weighted)

  def eval_batches(self, split: str, batch_size: int, *, shard: Shard = (0, 1)) -> tf.data.Dataset:
    """Every sample of a split, or of a process's part of it, exactly once."""
    return self._splits[split].once(batch_size, shard)

  def calibration_images(self, nb_images: int) -> Any:
    """Training inputs [n, ...]: from all over arrays, the first of a pipeline."""
    batch = next(iter(self._splits['train'].some(nb_images)))
    return tf.nest.map_structure(lambda x: x.numpy(), batch[0])

  def _weighted(self, inputs: Any, targets: Any, weights: Any = None) -> tuple:
    """A batch with the weights of its classes."""
    each = tf.gather(self._weights, self._task.class_numbers(targets))
    if weights is not None:
      for _ in range(each.shape.rank - weights.shape.rank):
        weights = weights[..., None]
      each *= weights
    return inputs, targets, each


def _table(class_weight: Mapping[int, float], nb_classes: int) -> np.ndarray:
  """The weights by class, float32; one where none was given."""
  found = np.ones(nb_classes, np.float32)
  for number, weight in class_weight.items():
    if number not in range(nb_classes) or not weight >= 0:
      raise UserError(
        f'class_weight gives class {number!r} the weight {weight!r}, but a class from 0 to '
        f'{nb_classes - 1} and a number of at least 0 were expected.'
      )
    found[int(number)] = weight
  return found


def _given(
  data: Any, where: str, inputs: Sequence[InputSpec], task: Task, steps: int | None
) -> Arrays | Pipeline:
  if isinstance(data, tf.data.Dataset):
    return Pipeline(data, where, inputs, task, steps)
  if steps is not None:
    raise UserError(
      f'Steps of the {where} data were given, but it is no tf.data.Dataset: leave them out, '
      'because all samples of arrays are used.'
    )
  return Arrays(data, where, inputs, task)
