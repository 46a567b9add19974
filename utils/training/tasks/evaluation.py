"""A task's evaluation over every sample exactly once, shared out among processes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable

import numpy as np
import tensorflow as tf
import tf_keras as keras

from secateurs.utils.hits import packed
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
  def sums(data: tf.data.Dataset) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
    totals, right = zeros(task), tf.zeros([0], tf.bool)
    for given in data:
      batch = Batch(*given)
      outputs = forward(batch.inputs)
      found = task.totals(batch.targets, outputs, batch.weights)
      totals = {name: total + found[name] for name, total in totals.items()}
      right = tf.concat([right, _right(task, batch, outputs)], axis=0)
    return totals, right

  totals, right = sums(batches)
  return _summary(task, totals, [right.numpy()], [], False)


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
  totals, right, records = zeros(task), [], []
  for given in batches:
    batch = Batch(*given)
    outputs = tf.nest.map_structure(tf.convert_to_tensor, predict(batch.inputs))
    found = task.totals(batch.targets, outputs, batch.weights)
    totals = {name: total + found[name] for name, total in totals.items()}
    right.append(np.asarray(_right(task, batch, outputs)))
    if task.collects:
      rows = task.records(batch.targets, outputs)
      records.append({name: np.asarray(value) for name, value in rows.items()})
  return _summary(task, totals, right, records, alone)


def _right(task: Task, batch: Batch, outputs: object) -> tf.Tensor:
  """Which samples came out right, bool [n]; none where that does not make the score."""
  found = None if batch.weights is not None else task.hits(batch.targets, outputs)
  return tf.zeros([0], tf.bool) if found is None else found


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
  task: Task,
  totals: dict[str, tf.Tensor],
  right: list[np.ndarray],
  records: list[dict[str, np.ndarray]],
  alone: bool,
) -> Evaluation:
  named = summed(totals, alone=alone)
  if not named['samples']:
    raise ValueError('There is nothing to evaluate on: the split has no samples.')
  joined: dict[str, np.ndarray] = {}
  if task.collects:
    shares = [records] if alone else distributed.gather_objects(records)
    parts = [part for share in shares for part in share]
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
  found = task.evaluation(named, joined)
  hits = np.concatenate(right)
  # Samples of several processes are not in the order of the data.
  if len(hits) != named['samples'] or distributed.size() > 1:
    return found
  return dataclasses.replace(found, score=dataclasses.replace(found.score, hits=packed(hits)))
