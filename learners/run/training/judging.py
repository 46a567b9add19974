"""The samples that searches judge networks on, which are never those of the evaluation set."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

from secateurs.learners.run.helper import Helper
from secateurs.utils import nested
from secateurs.utils.graph.counts.memory import inference_batch
from secateurs.utils.graph.flat.walk import flatten_model
from secateurs.utils.training import distributed, tally
from secateurs.utils.training.layerwise.maps import as_half
from secateurs.utils.training.tasks.evaluation import evaluate_function, summed, zeros
from secateurs.utils.training.tasks.scores import Evaluation
from secateurs.utils.training.tasks.task import Task

_BATCH = 250
_WHOLE_BYTES = 256 << 20
_NOTE = 'Ratios are judged on training images; --nb_smpls_val holds others out.'


def judging_split(helper: Helper) -> str:
  """`val` where samples are held out of training, else `train`."""
  return 'val' if helper.nb_samples('val') else 'train'


def judging_notes(helper: Helper) -> list[str]:
  """What the reader of a report must know: nothing where samples were held out."""
  return [] if judging_split(helper) == 'val' else [_NOTE]


def judging_samples(helper: Helper, nb_samples: int, split: str | None = None) -> tuple[Any, Any]:
  """Inputs [n, ...] and targets [n, ...] to judge on: at most so many of a split, or `judging_split`.

  They are spread evenly over the split, which may be ordered by classes; all processes get the same.
  Inputs that would take more than 256 MB are kept in float16.
  """
  split = split or judging_split(helper)
  batch = min(nb_samples, _BATCH)
  stride = max(helper.nb_samples(split) // nb_samples, 1)
  size = -(-helper.nb_samples(split) // stride)  # Less than twice what is wanted.
  parts, seen = [], 0
  for inputs, targets, *_ in helper.eval_batches(split, batch, shard=(0, stride)):
    count, inputs = nested.size(inputs), nested.as_numpy(inputs)
    each = sum(one.nbytes for one in nested.parts(inputs)) // max(count, 1)
    if kept_bytes(nb_samples, each) < nb_samples * each:
      inputs = tf.nest.map_structure(as_half, inputs)
    places = np.arange(seen, seen + count)
    chosen = (places + 1) * nb_samples // size > places * nb_samples // size
    parts.append(nested.rows(nested.as_numpy((inputs, targets)), chosen))
    seen += count
  return nested.rows(nested.joined(parts), slice(nb_samples))


def kept_bytes(nb_samples: int, each: int) -> int:
  """What so many inputs of so many bytes take, in float16 where that would be more than 256 MB."""
  size = nb_samples * each
  return size // 2 if size > _WHOLE_BYTES else size


def widened(inputs: Any) -> Any:
  """Samples as interpreters take them: those that are kept in float16 in float32 again."""
  return nested.mapped(
    lambda one: one.astype(np.float32) if one.dtype == np.float16 else one, nested.as_numpy(inputs)
  )


class Judge:
  """Score and loss of one network, whose weights may change between calls, on some samples.

  With several processes each judges on some of the batches; all get the same sums.
  """

  def __init__(self, model: keras.Model, inputs: Any, targets: Any, task: Task) -> None:
    """`inputs` [n, ...] and `targets` [n, ...] of the samples; `task` judges the outputs."""
    self._model, self._task = model, task
    self._batch = inference_batch(flatten_model(model), _BATCH)
    self._inputs, self._targets = nested.as_tensors(inputs), nested.as_tensors(targets)
    self._totals = tf.function(self._sum)
    self._forward = tf.function(lambda inputs: model(inputs, training=False))

  def __call__(self) -> Evaluation:
    """The evaluation on the samples."""
    tally.scored(nested.size(self._inputs))
    if self._task.collects:
      rank, size = distributed.shard()
      samples = tf.data.Dataset.from_tensor_slices((self._inputs, self._targets))
      mine = samples.batch(self._batch).shard(size, rank)
      return evaluate_function(self._forward, mine, self._task)
    return self._task.evaluation(summed(self._totals()), {})

  def goodness(self) -> float:
    """The score's value, negated where lower is better: greater is better."""
    return self().score.goodness

  def loss(self) -> float:
    """Mean loss."""
    return self().loss

  def _sum(self) -> dict[str, tf.Tensor]:
    totals = zeros(self._task)
    rank, size = distributed.shard()
    total, batch = tf.shape(tf.nest.flatten(self._inputs)[0])[0], self._batch
    for start in tf.range(tf.minimum(rank * batch, total), total, size * batch):
      # Batches that run at once would each hold their feature maps.
      tf.autograph.experimental.set_loop_options(parallel_iterations=1)
      part = slice(start, start + batch)
      given = (self._inputs, self._targets)
      inputs, targets = tf.nest.map_structure(lambda one: one[part], given)  # noqa: B023
      found = self._task.totals(targets, self._model(inputs, training=False))
      totals = {name: value + found[name] for name, value in totals.items()}
    return totals


def majority_note(helper: Helper, found: Evaluation) -> str | None:
  """A sentence where a classifier is no better than one that always gives the most frequent class.

  Only of data sets that hold their labels in memory, in classes of which one is frequent.
  """
  labels_of = getattr(helper.dataset, 'labels', None)
  labels = None if labels_of is None else labels_of('eval')
  if labels is None or found.score.name != 'accuracy' or np.ndim(labels) != 1:
    return None
  share = float(np.bincount(labels).max() / len(labels))
  chance = 1 / helper.dataset.nb_classes
  noise = (chance * (1 - chance) / len(labels)) ** 0.5
  if share <= chance + 3 * noise or found.score.value > share:
    return None
  return (
    'The baseline is no better than one that always gives the most frequent class: its accuracy is '
    f'{100 * found.score.value:.2f} %, and {100 * share:.2f} % of the evaluation samples have that '
    'class.'
  )
