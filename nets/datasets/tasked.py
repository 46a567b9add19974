"""A whole data set of labelled images for a model of the user's: checked, and for any task."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
import tf_keras as keras

from secateurs.nets.datasets.source import ImageSource
from secateurs.utils.errors import UserError
from secateurs.utils.training.tasks.classification import Classification
from secateurs.utils.training.tasks.task import Task


def data_set_of(data: Any, network: keras.Model, task: Task) -> ImageSource:
  """The data set, with targets as the task takes them.

  Raises:
    UserError: it is none, or does not fit the network.
  """
  if not hasattr(data, 'nb_classes'):
    raise UserError(
      f'Training data of type {type(data).__name__} came without data to evaluate on, which was '
      'expected beside it: give `evaluation`, too, or a whole data set of nets.datasets.'
    )
  taken = tuple(network.inputs[0].shape[1:])
  if tuple(data.image_shape) != taken:
    raise UserError(
      f'The model takes images of {taken}, but those of {data.name} are '
      f'{tuple(data.image_shape)}: give a model for these, or other data (`shape` sets the size '
      'of a model that takes any).'
    )
  size = getattr(task, 'nb_classes', None) or network.outputs[0].shape[-1]
  if data.nb_classes != (2 if size == 1 else size):
    raise UserError(
      f'The model distinguishes {size} classes, but the data set has '
      f'{data.nb_classes}: give the images that it was trained for, one folder a class.'
    )
  return data if isinstance(task, Classification) else Tasked(data, task)


class Tasked:
  """A data set whose labels are turned into the targets of a task."""

  def __init__(self, data: ImageSource, task: Task) -> None:
    self._data, self._task = data, task

  def __getattr__(self, name: str) -> Any:
    return getattr(self._data, name)

  def train_batches(self, *args: Any, **options: Any) -> tf.data.Dataset:
    """As of the data set."""
    return self._data.train_batches(*args, **options).map(self._canonical)

  def eval_batches(self, *args: Any, **options: Any) -> tf.data.Dataset:
    """As of the data set."""
    return self._data.eval_batches(*args, **options).map(self._canonical)

  def _canonical(self, inputs: Any, targets: Any, *others: Any) -> tuple:
    return (inputs, self._task.canonical(targets), *others)
