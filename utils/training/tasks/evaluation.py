"""A task's evaluation over every sample exactly once, shared out among processes."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import tensorflow as tf
import tf_keras as keras

from secateurs.utils.training import distributed
from secateurs.utils.training.models.norm_kernels import suited_to_processor
from secateurs.utils.training.tasks.scores import Evaluation
from secateurs.utils.training.tasks.task import Batch, Task


def evaluate(model: keras.Model, batches: tf.data.Dataset, task: Task) -> Evaluation:
  """Evaluates a model that gives the task's outputs, on batches of any sizes.

  With several processes each is given other batches (`distributed.shard`), and all get the totals.
  Where the task needs no records of single samples, the whole data set is one compiled loop.

  Args:
    model: run in inference mode.
    batches: tuples in the order of `Batch`.
    task: judges the outputs.

  Raises:
    ValueError: there are no samples.
  """

  def forward(inputs: object) -> object:
    with suited_to_processor():
      return model(inputs, training=False)

  if task.collects:
    return evaluate_function(tf.function(forward), batches, task)

  @tf.function
  def sums(data: tf.data.Dataset) -> dict[str, tf.Tensor]:
    totals = zeros(task)
    for given in data:
      batch = Batch(*given)
      found = task.totals(batch.targets, forward(batch.inputs), batch.weights)
      totals = {name: total + found[name] for name, total in totals.items()}
    return totals

  return _summary(task, sums(batches), [], False)


def evaluate_function(
  predict: Callable[[tf.Tensor], object],
  batches: Iterable[tuple],
  task: Task,
  *,
  alone: bool = False,
) -> Evaluation:
  """Evaluates any function from inputs to the task's outputs, such as an interpreter's; as above.

  `alone` asks no other process: its batches are all there are.
  """
  totals, records = zeros(task), []
  for given in batches:
    batch = Batch(*given)
    outputs = tf.nest.map_structure(tf.convert_to_tensor, predict(batch.inputs))
    found = task.totals(batch.targets, outputs, batch.weights)
    totals = {name: total + found[name] for name, total in totals.items()}
    if task.collects:
      rows = task.records(batch.targets, outputs)
      records.append({name: np.asarray(value) for name, value in rows.items()})
  return _summary(task, totals, records, alone)


def zeros(task: Task) -> dict[str, tf.Tensor]:
  """What a task's totals start from, by name."""
  return {
    name: tf.zeros(kind.shape, kind.dtype)
    if isinstance(kind, tf.TensorSpec)
    else tf.zeros([], kind)
    for name, kind in task.total_types.items()
  }


def summed(totals: dict[str, tf.Tensor], *, alone: bool = False) -> dict[str, float | np.ndarray]:
  """Totals over all processes, or of this one alone: numbers, or float64 arrays."""
  mine = [np.float64(total.numpy()) for total in totals.values()]
  sums = mine if alone else distributed.sum(*mine)
  return {
    name: float(value) if np.ndim(value) == 0 else value
    for name, value in zip(totals, sums, strict=True)
  }


def _summary(
  task: Task, totals: dict[str, tf.Tensor], records: list[dict[str, np.ndarray]], alone: bool
) -> Evaluation:
  named = summed(totals, alone=alone)
  if not named['samples']:
    raise ValueError('There is nothing to evaluate on: the split has no samples.')
  joined: dict[str, np.ndarray] = {}
  if task.collects:
    shares = [records] if alone else distributed.gather_objects(records)
    parts = [part for share in shares for part in share]
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
  return task.evaluation(named, joined)
