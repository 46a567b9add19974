"""Samples that the user has in memory."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from secateurs.nets.datasets.images import pipeline_options, sample_order
from secateurs.nets.datasets.samples import (
  InputSpec,
  as_arrays,
  fits,
  joined,
  like_spec,
  one_for_each,
  parts_of,
)
from secateurs.nets.datasets.source import Shard
from secateurs.nets.datasets.splits import fixed_order, spread
from secateurs.utils.errors import UserError
from secateurs.utils.training.tasks.task import Task

_CHECKED = 1024  # Samples at a time.


class Arrays:
  """Inputs, targets and weights of one split in memory, as they came; batches are cast."""

  def __init__(self, data: Any, where: str, specs: Sequence[InputSpec], task: Task) -> None:
    """Checks and copies the arrays.

    Args:
      data: (inputs, targets) or (inputs, targets, weights).
      where: which data it is, such as training.
      specs: inputs of the network.
      task: what targets mean.

    Raises:
      UserError: they do not fit the network or one another, or are not finite.
    """
    inputs, targets, weights = parts_of(data, where)
    arrays = [np.asarray(one) for one in one_for_each(inputs, specs, where)]
    known = as_arrays(targets, task.nb_outputs)
    self._size = len(arrays[0]) if arrays[0].ndim else 0
    _require_shapes(arrays, known, specs, where, self._size)
    for array, spec in zip(arrays, specs, strict=True):
      _require_finite(array, spec, where, several=len(specs) > 1)
    canonical = task.canonical(tf.nest.map_structure(tf.constant, known))
    task.require_targets(tf.nest.map_structure(lambda one: one.numpy(), canonical), where)
    parts = [tuple(tf.constant(array) for array in arrays), canonical]
    if weights is not None:
      parts.append(_weights(weights, self._size, where))
    self._specs, self._parts = specs, tuple(parts)

  def __len__(self) -> int:
    return self._size

  @property
  def nb_bytes(self) -> int:
    """What they take in memory."""
    parts = tf.nest.flatten(self._parts)
    return sum(one.shape.num_elements() * one.dtype.size for one in parts)

  def held_out(self, nb_samples: int) -> tuple[Arrays, Arrays]:
    """The rest, and so many samples of a fixed random choice, both in their order."""
    order = fixed_order(self._size)
    return (
      self._at_places(np.sort(order[: self._size - nb_samples])),
      self._at_places(np.sort(order[self._size - nb_samples :])),
    )

  def _at_places(self, places: np.ndarray) -> Arrays:
    found = copy.copy(self)
    found._parts = tf.nest.map_structure(lambda one: tf.gather(one, places), self._parts)
    found._size = len(places)
    return found

  def labels(self) -> np.ndarray | None:
    """Numbers of classes [n]; None for targets of any other form."""
    targets = self._parts[1]
    plain = tf.is_tensor(targets) and targets.dtype.is_integer and targets.shape.rank == 1
    return targets.numpy() if plain else None

  def endless(self, batch_size: int, seed: int, start: int, shard: Shard) -> tf.data.Dataset:
    """Batches of a process from step `start` on."""
    index, count = shard
    samples = sample_order(self._size, seed, start * batch_size * count)
    return self._at(samples.shard(count, index).batch(batch_size, drop_remainder=True))

  def once(self, batch_size: int, shard: Shard) -> tf.data.Dataset:
    """Every sample of a part once."""
    index, count = shard
    return self._at(tf.data.Dataset.range(index, self._size, count).batch(batch_size))

  def some(self, nb_samples: int) -> tf.data.Dataset:
    """One batch of samples from all over the arrays."""
    return self._at(tf.data.Dataset.from_tensors(spread(self._size, nb_samples)))

  def _at(self, indices: tf.data.Dataset) -> tf.data.Dataset:
    def gathered(places: tf.Tensor) -> tuple:
      inputs, *others = tf.nest.map_structure(lambda one: tf.gather(one, places), self._parts)
      read = [like_spec(one, spec) for one, spec in zip(inputs, self._specs, strict=True)]
      return (joined(read), *others)

    return indices.map(gathered, num_parallel_calls=1).prefetch(2).with_options(pipeline_options())


def _require_shapes(
  arrays: Sequence[np.ndarray], targets: Any, specs: Sequence[InputSpec], where: str, size: int
) -> None:
  labels = list(tf.nest.flatten(targets))
  lengths = {len(one) if one.ndim else 0 for one in (*arrays, *labels)}
  right = all(fits(array.shape[1:], spec) for array, spec in zip(arrays, specs, strict=True))
  if right and lengths == {size} and size:
    return
  shapes = ' and '.join(str(array.shape) for array in arrays)
  expected = ' and '.join(f'(n, {", ".join(map(str, spec.shape))})' for spec in specs)
  raise UserError(
    f'The {where} data has images {shapes} and labels '
    f'{" and ".join(str(one.shape) for one in labels)}, but {expected} and (n,) were expected: '
    'give what '
    'the model takes.'
  )


def _require_finite(array: np.ndarray, spec: InputSpec, where: str, *, several: bool) -> None:
  if array.dtype.kind not in 'fuib':
    raise UserError(
      f'The {where} inputs have type {array.dtype}, but numbers were expected: encode texts and '
      'categories as numbers first.'
    )
  if array.dtype.kind != 'f':
    return
  for first in range(0, len(array), _CHECKED):
    part = array[first : first + _CHECKED]
    if spec.dtype.is_floating:  # Numbers may be too large for it.
      with np.errstate(over='ignore'):
        part = part.astype(spec.dtype.as_numpy_dtype)
    finite = np.isfinite(part.reshape(len(part), -1)).all(axis=1)
    if not finite.all():
      raise not_finite(where, first + int(np.argmin(finite)), spec.name if several else None)


def not_finite(where: str, number: int, name: str | None) -> UserError:
  """The refusal of a sample with NaN or infinite numbers."""
  of_input = '' if name is None else f' of input {name}'
  return UserError(
    f'Sample {number} of the {where} data has numbers{of_input} that are NaN or infinite, but '
    'finite ones were expected: correct or remove such samples.'
  )


def _weights(weights: Any, size: int, where: str) -> Any:
  found = tf.nest.map_structure(lambda one: tf.constant(one, tf.float32), as_arrays(weights))
  for one in tf.nest.flatten(found):
    if one.shape.rank < 1 or one.shape[0] != size or not np.isfinite(one).all() or np.min(one) < 0:
      raise UserError(
        f'The {where} weights of samples have shape {tuple(one.shape)}, but a finite number of at '
        f'least 0 for each of {size} samples was expected.'
      )
    if not np.max(one):
      raise UserError(
        f'The {where} weights of samples are all 0, so that no sample counts, but some above 0 were '
        'expected: leave the weights out, or correct them.'
      )
  return found
