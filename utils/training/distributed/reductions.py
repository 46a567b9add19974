"""Sums and means over all ranks, of numbers on the host and of gradients in compiled steps.

Gradients are packed into flat buffers before they are exchanged, because Horovod's cost is by the
tensor where tensors are small: ResNet-20 has 65 of them with 270,000 numbers in all.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from types import ModuleType
from typing import Any

import numpy as np
import tensorflow as tf

from secateurs.utils.training.distributed.world import explained, horovod, size

COMPRESSIONS = ('none', 'fp16', 'bf16')
# Larger networks go in parts, the first while gradients are still computed.
_BUCKET_BYTES = 32 << 20


def sum(*arrays: np.ndarray | float) -> Any:
  """Sums of arrays over all ranks, the same bits on each.

  Args:
    *arrays: numbers or arrays, of equal shapes on all ranks; whole numbers below 2^53 stay exact.

  Returns:
    The sum, of the array's shape and type; a list of them if several were given.
  """
  arrays = tuple(np.asarray(array) for array in arrays)
  hvd = horovod()
  totals = [array[()] for array in arrays]
  if hvd is not None and arrays:
    flat = np.concatenate([array.astype(np.float64).ravel() for array in arrays])
    with explained():
      added = hvd.allreduce(tf.constant(flat), op=hvd.Sum, name='secateurs_sum').numpy()
    parts = np.split(added, np.cumsum([array.size for array in arrays])[:-1])
    totals = [
      part.reshape(array.shape).astype(array.dtype)[()] for part, array in zip(parts, arrays)
    ]
  return totals[0] if len(totals) == 1 else totals


def mean(tensors: Sequence[tf.Tensor], compression: str = 'none') -> list[tf.Tensor]:
  """Means of tensors over all ranks; works inside compiled functions and loops.

  Args:
    tensors: float32 tensors of static shapes, the same on all ranks.
    compression: how numbers travel: as they are, as `fp16`, or as `bf16`, whose sums are float32.
  """
  hvd = horovod()
  if hvd is None:
    return list(tensors)
  results: list[tf.Tensor | None] = [None] * len(tensors)
  for number, places in enumerate(buckets([_nb_bytes(tensor) for tensor in tensors])):
    parts = [tensors[place] for place in places]
    sizes = [part.shape.num_elements() for part in parts]
    flat = tf.concat([tf.reshape(part, [-1]) for part in parts], 0)
    flat = _mean_of_flat(hvd, flat, compression, f'secateurs_mean{number}')
    for place, part, piece in zip(places, parts, tf.split(flat, sizes), strict=True):
      results[place] = tf.reshape(piece, part.shape)
  return results


def buckets(nb_bytes: Sequence[int], limit: int = _BUCKET_BYTES) -> list[list[int]]:
  """Places of tensors that travel together, from the last to the first.

  The last layers' gradients are known first. A tensor above the limit goes by itself.
  """
  groups: list[list[int]] = []
  room = 0
  for place in reversed(range(len(nb_bytes))):
    room -= nb_bytes[place]
    if room < 0 or not groups:
      groups.append([])
      room = limit - nb_bytes[place]
    groups[-1].append(place)
  return groups


def _nb_bytes(tensor: tf.Tensor) -> int:
  return tensor.shape.num_elements() * tensor.dtype.size


def _mean_of_flat(hvd: ModuleType, flat: tf.Tensor, compression: str, name: str) -> tf.Tensor:
  if compression == 'bf16':
    return _bfloat16_mean(hvd, flat, name)
  how = {'none': hvd.Compression.none, 'fp16': hvd.Compression.fp16}[compression]
  # Without its scope the name is the same whatever else a rank has compiled.
  return hvd.allreduce(flat, op=hvd.Average, name=name, compression=how, ignore_name_scope=True)


def _bfloat16_mean(hvd: ModuleType, flat: tf.Tensor, name: str) -> tf.Tensor:
  """Mean of float32 numbers that travel as bfloat16, a type that Horovod cannot add.

  Each rank is sent its part of the numbers, averages it in float32, and sends the means to all: as
  many bytes as an allreduce of 16-bit numbers.
  """
  nb, length = hvd.size(), flat.shape.num_elements()
  part = -(-length // nb)
  padded = tf.pad(flat, [[0, part * nb - length]])
  sent = tf.reshape(tf.bitcast(tf.cast(padded, tf.bfloat16), tf.uint8), [-1])
  got = hvd.alltoall(sent, name=f'{name}_parts', ignore_name_scope=True)
  numbers = tf.bitcast(tf.reshape(got, [nb, part, 2]), tf.bfloat16)
  means = tf.cast(tf.reduce_mean(tf.cast(numbers, tf.float32), 0), tf.bfloat16)
  all_bytes = hvd.allgather(
    tf.reshape(tf.bitcast(means, tf.uint8), [-1]), name=f'{name}_means', ignore_name_scope=True
  )
  whole = tf.cast(tf.bitcast(tf.reshape(all_bytes, [-1, 2]), tf.bfloat16), tf.float32)
  return tf.ensure_shape(whole[:length], [length])


def mean_variables(variables: Iterable[tf.Variable], weight: float = 1.0) -> None:
  """Sets float variables to their means over the ranks, each counting by its `weight`.

  Such are the moving statistics of batch normalisation, which every rank takes from its own data.
  """
  floats = [variable for variable in variables if variable.dtype.is_floating]
  if size() == 1 or not floats:
    return
  *totals, whole = sum(*[weight * v.numpy().astype(np.float64) for v in floats], weight)
  for variable, total in zip(floats, totals, strict=True):
    variable.assign((total / whole).astype(variable.dtype.as_numpy_dtype))
