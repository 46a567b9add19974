"""Samples that a tf.data pipeline of the user's gives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from secateurs.nets.datasets.arrays import not_finite
from secateurs.nets.datasets.images import pipeline_options
from secateurs.nets.datasets.samples import (
  InputSpec,
  fits,
  joined,
  like_spec,
  one_for_each,
  parts_of,
  require_pairs,
)
from secateurs.nets.datasets.source import Shard
from secateurs.utils.errors import UserError
from secateurs.utils.training.tasks.task import Task

_NB_COUNTED = 1024  # Targets at a time.
_CHUNK = 16  # Samples that are cast at a time, where the pipeline gives single ones.


class Pipeline:
  """A pipeline of single samples, or of batches of any sizes, read in its own order."""

  def __init__(
    self,
    data: tf.data.Dataset,
    where: str,
    specs: Sequence[InputSpec],
    task: Task,
    steps: int | None = None,
  ) -> None:
    """Checks the pipeline, and reads it once to count and check its samples.

    Args:
      data: of (inputs, targets) or (inputs, targets, weights).
      where: which data it is, such as training.
      specs: inputs of the network.
      task: what targets mean.
      steps: batches of an epoch; needed where the pipeline never ends.

    Raises:
      UserError: it does not fit the network.
    """
    batched = _is_batched(data.element_spec, specs, where)
    self._ends = data.cardinality() != tf.data.INFINITE_CARDINALITY
    name = 'steps_per_epoch' if where == 'training' else 'validation_steps'
    if not self._ends and (steps is None or not batched):
      raise UserError(
        f'The {where} pipeline never ends: leave its repeat() out, or give the number of its '
        f'batches that are an epoch with {name}.'
      )
    if steps is not None and not batched:
      raise UserError(f'{name} counts batches, but the {where} pipeline gives single samples.')
    chunks = data if batched else data.batch(_CHUNK)
    epoch = chunks
    if steps is not None:
      epoch = (data.repeat() if self._ends and where == 'training' else data).take(steps)

    @tf.autograph.experimental.do_not_convert  # Which would wrap the errors of a task.
    def plain(*element: Any) -> tuple:
      inputs, targets, weights = parts_of(element, where)
      given = one_for_each(inputs, specs, where)
      read = [like_spec(one, spec) for one, spec in zip(given, specs, strict=True)]
      parts = (joined(read), task.canonical(targets))
      if weights is None:
        return parts
      return (*parts, tf.nest.map_structure(lambda one: tf.cast(one, tf.float32), weights))

    def mapped(batches: tf.data.Dataset) -> tf.data.Dataset:
      return batches.map(plain, num_parallel_calls=tf.data.AUTOTUNE).unbatch()

    self._all, self._epoch = mapped(chunks), mapped(epoch)
    self._size = _checked(self._epoch, where, task)

  def __len__(self) -> int:
    return self._size

  def endless(self, batch_size: int, seed: int, start: int, shard: Shard) -> tf.data.Dataset:
    """Batches of a process from step `start` on; what came before is read and dropped."""
    del seed
    index, count = shard
    first = start * batch_size * count
    if self._ends:
      samples = self._all.skip(first % self._size).concatenate(self._all.repeat())
    else:
      samples = self._all.skip(first)
    batches = samples.shard(count, index).batch(batch_size, drop_remainder=True)
    return batches.prefetch(2).with_options(pipeline_options())

  def once(self, batch_size: int, shard: Shard) -> tf.data.Dataset:
    """Every sample of a part once."""
    index, count = shard
    samples = self._epoch.shard(count, index).batch(batch_size)
    return samples.prefetch(2).with_options(pipeline_options())

  def labels(self) -> None:
    """Not known without reading all samples."""

  def some(self, nb_samples: int) -> tf.data.Dataset:
    """One batch of the first samples."""
    return self._epoch.take(nb_samples).batch(nb_samples)


def _is_batched(element: Any, specs: Sequence[InputSpec], where: str) -> bool:
  """Whether elements are batches, after a check that shapes are known and fit."""
  inputs, targets, _ = parts_of(require_pairs(element, where), where)
  for part, name in ((inputs, 'images'), (targets, 'labels')):
    for one in tf.nest.flatten(part):
      if not isinstance(one, tf.TensorSpec) or one.shape.rank is None:
        raise UserError(
          f'The {where} pipeline gives {name} of unknown shape, but the number of their axes was '
          'expected: set it with tf.ensure_shape in the last map(), and pad ragged ones to one '
          'length.'
        )
  found = [one.shape for one in one_for_each(inputs, specs, where)]
  single = all(fits(shape, spec) for shape, spec in zip(found, specs, strict=True))
  batched = all(
    shape.rank > 0 and fits(shape[1:], spec) for shape, spec in zip(found, specs, strict=True)
  )
  ranks = any(shape.rank == len(spec.shape) for shape, spec in zip(found, specs, strict=True))
  if batched and not (single and ranks and not _targets_have_samples(targets)):
    return True
  if single:
    return False
  shown = joined([tuple(shape) for shape in found])
  taken = joined([spec.shape for spec in specs])
  raise UserError(f'The {where} pipeline gives images of {shown}, but the model takes {taken}.')


def _targets_have_samples(targets: Any) -> bool:
  """Whether targets may have an axis of samples; without it elements are single samples."""
  return all(one.shape.rank > 0 for one in tf.nest.flatten(targets))


def _checked(samples: tf.data.Dataset, where: str, task: Task) -> int:
  """Number of samples, all of which are finite and have targets that the task takes."""

  def seen(inputs: Any, targets: Any, *weights: Any) -> tuple:
    del weights
    floats = [one for one in tf.nest.flatten(inputs) if one.dtype.is_floating]
    finite = [tf.reduce_all(tf.math.is_finite(one)) for one in floats]
    return targets, tf.reduce_all(tf.stack([tf.constant(True), *finite]))

  count = 0
  for targets, finite in samples.map(seen).batch(_NB_COUNTED).as_numpy_iterator():
    if not finite.all():
      raise not_finite(where, count + int(np.argmin(finite)), None)
    task.require_targets(targets, where)
    count += len(finite)
  if not count:
    raise UserError(f'The {where} pipeline is empty.')
  return count
