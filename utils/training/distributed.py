"""Several processes that work as one: Horovod when launched under it, else a stand-in for one.

A job of K processes, its ranks 0 to K - 1, is started by `scripts/run_local.sh ... -n=K`. The calls
here mean the same with one process as with many, so that nothing else asks which it is. All but
`rank`, `size`, `shard` and `is_chief` are collective: every rank must make them, in the same order.

Rank 0 is the chief: it alone reads and writes files (`from_chief`), and what it decides the others
take over. Inside `from_chief` a process is on its own: there `size()` is 1.

Gradients are packed into flat buffers before they are exchanged, because Horovod's cost is by the
tensor where tensors are small: ResNet-20 has 65 of them with 270,000 numbers in all.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import numpy as np
import tensorflow as tf

from secateurs.utils.errors import UserError

COMPRESSIONS = ('none', 'fp16', 'bf16')
LAUNCHED = 'HOROVOD_RANK'  # Set by horovodrun for each process that it starts.
_BUCKET_BYTES = (
  32 << 20
)  # Larger networks go in parts, the first while gradients are still computed.
T = TypeVar('T')


class LostPeerError(RuntimeError):
  """Another process of the job has ended before this one."""


class _World:
  """The processes of this job.

  Attributes:
    horovod: the module, once started under Horovod; None for a single process.
    alone: depth of blocks in which this process acts for itself.
  """

  def __init__(self) -> None:
    self.started = False
    self.horovod: ModuleType | None = None
    self.alone = 0


_world = _World()


def start() -> None:
  """Joins the other processes of the job; does nothing outside of one, or the second time.

  Each process takes the GPU of its rank on its host and only as much of its memory as it needs;
  without GPUs it takes its share of the cores. Call it before TensorFlow computes anything; every
  other function here calls it if need be.

  Raises:
    UserError: the job was launched by Horovod, but this Python has none.
  """
  if _world.started:
    return
  _world.started = True
  if int(os.environ.get('HOROVOD_SIZE', 1)) < 2 or LAUNCHED not in os.environ:
    return
  try:
    import horovod.tensorflow as hvd
  except ImportError as error:
    raise UserError(
      f'The job has several processes, but this Python has no Horovod ({error}): run '
      './scripts/install_horovod.sh on every host.'
    ) from error
  hvd.init()
  # Processes that this one starts are no ranks of the job.
  os.environ.pop(LAUNCHED, None)
  _take_devices(hvd)
  _world.horovod = hvd


def _take_devices(hvd: ModuleType) -> None:
  """Takes this rank's GPU, or its share of the cores."""
  gpus = tf.config.list_physical_devices('GPU')
  try:
    if gpus:
      mine = gpus[hvd.local_rank() % len(gpus)]
      tf.config.set_visible_devices(mine, 'GPU')
      tf.config.experimental.set_memory_growth(mine, True)
    else:
      cores = len(os.sched_getaffinity(0)) // hvd.local_size()
      tf.config.threading.set_intra_op_parallelism_threads(max(cores, 1))
  except RuntimeError as error:  # TensorFlow is at work already.
    raise UserError(
      f'TensorFlow computed something before this process joined its job ({error}): call '
      'secateurs.utils.training.distributed.start() first.'
    ) from error


def stop() -> None:
  """Leaves the job in order, when all of its processes are done."""
  if _world.horovod is not None:
    _world.horovod.shutdown()
    _world.horovod = None


def _horovod() -> ModuleType | None:
  """Horovod, where there are other processes to talk to."""
  start()
  return None if _world.alone else _world.horovod


def rank() -> int:
  """Number of this process in the job, from 0."""
  hvd = _horovod()
  return hvd.rank() if hvd else 0


def size() -> int:
  """Number of processes of the job."""
  hvd = _horovod()
  return hvd.size() if hvd else 1


def shard() -> tuple[int, int]:
  """(rank, size): which part of the data is this process's, of how many."""
  return rank(), size()


def is_chief() -> bool:
  """Whether this process reads and writes for all."""
  return rank() == 0


def barrier() -> None:
  """Returns when all ranks have called it."""
  gather_objects(None)


def sum(*arrays: np.ndarray | float) -> Any:
  """Sums of arrays over all ranks, the same bits on each.

  Args:
    *arrays: numbers or arrays, of equal shapes on all ranks; whole numbers below 2^53 stay exact.

  Returns:
    The sum, of the array's shape and type; a list of them if several were given.
  """
  arrays = tuple(np.asarray(array) for array in arrays)
  hvd = _horovod()
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
  hvd = _horovod()
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
  """Sets float variables to their means over the ranks, `weight` being this rank's share.

  Such are the moving statistics of batch normalisation, which every rank takes from its own data.
  """
  floats = [variable for variable in variables if variable.dtype.is_floating]
  if size() == 1 or not floats:
    return
  *totals, whole = sum(*[weight * v.numpy().astype(np.float64) for v in floats], weight)
  for variable, total in zip(floats, totals, strict=True):
    variable.assign((total / whole).astype(variable.dtype.as_numpy_dtype))


def broadcast_variables(variables: Iterable[tf.Variable]) -> None:
  """Sets variables to the chief's values."""
  hvd, variables = _horovod(), list(variables)
  if hvd is not None and variables:
    with explained():
      hvd.broadcast_variables(variables, root_rank=0)


def broadcast_object(value: T) -> T:
  """The chief's value of anything that can be pickled."""
  hvd = _horovod()
  if hvd is None:
    return value
  content = np.frombuffer(pickle.dumps(value), np.uint8) if hvd.rank() == 0 else None
  length = 0 if content is None else content.size
  with explained():
    length = int(hvd.broadcast(tf.constant(length, tf.int64), 0, name='secateurs_length').numpy())
    tensor = tf.zeros([length], tf.uint8) if content is None else tf.constant(content)
    sent = hvd.broadcast(tensor, 0, name='secateurs_object').numpy()
  return pickle.loads(sent.tobytes())


def gather_objects(value: T) -> list[T]:
  """Every rank's value of anything that can be pickled, by rank."""
  hvd = _horovod()
  if hvd is None:
    return [value]
  content = tf.constant(np.frombuffer(pickle.dumps(value), np.uint8))
  with explained():
    lengths = hvd.allgather(tf.shape(content, tf.int64), name='secateurs_lengths').numpy()
    everything = hvd.allgather(content, name='secateurs_objects').numpy()
  parts = np.split(everything, np.cumsum(lengths)[:-1])
  return [pickle.loads(part.tobytes()) for part in parts]


def from_chief(function: Callable[[], T]) -> T:
  """Runs a function on the chief alone and gives its value to all ranks.

  What it raises is raised on all ranks.
  """
  if size() == 1:
    return function()
  value, error = None, None
  if is_chief():
    with alone():
      try:
        value = function()
      except Exception as raised:
        error = raised
    broadcast_object((None, _portable(error)) if error is not None else (value, None))
    if error is not None:
      raise error
    return value
  value, error = broadcast_object((value, error))
  if error is not None:
    raise error
  return value


def _portable(error: Exception) -> Exception:
  """The error itself if it can be sent, else one with the same text."""
  try:
    pickle.loads(pickle.dumps(error))
  except Exception:
    return RuntimeError(f'{type(error).__name__}: {error}')
  return error


@contextlib.contextmanager
def alone() -> Iterator[None]:
  """Inside, this process acts as the only one: nothing waits for others."""
  start()
  _world.alone += 1
  try:
    yield
  finally:
    _world.alone -= 1


def first_on_host(function: Callable[[], T]) -> T:
  """Runs a function on all ranks, on one rank of each host before the others.

  For what fills a host's cache, such as a download: the others find it there.
  """
  hvd = _horovod()
  if hvd is None:
    return function()
  if hvd.local_rank() != 0:
    barrier()
    return function()
  try:
    return function()
  finally:
    barrier()


@contextlib.contextmanager
def chiefs_file(path: Path) -> Iterator[Path]:
  """A path at which every rank finds the chief's file; folders are taken to be on all hosts."""
  if size() == 1 or from_chief(path.is_dir):
    yield path
    return
  content = from_chief(path.read_bytes)
  if is_chief():
    yield path
    return
  with tempfile.TemporaryDirectory(prefix='secateurs-') as folder:
    copy = Path(folder) / path.name
    copy.write_bytes(content)
    yield copy


def require_agreement(facts: dict[str, Any]) -> None:
  """Compares what must be the same on all ranks, such as flags and versions.

  Raises:
    UserError: a rank has other facts than the chief; each is named.
  """
  everyone = gather_objects(facts)
  for number, theirs in enumerate(everyone):
    differing = [
      f'{key} {everyone[0].get(key)} on rank 0 but {theirs.get(key)} on rank {number}'
      for key in {**everyone[0], **theirs}
      if everyone[0].get(key) != theirs.get(key)
    ]
    if differing:
      raise UserError(
        f'The processes of this job do not agree ({"; ".join(differing[:6])}): start all of them '
        'with the same flags, from the same version of the code and its libraries.'
      )


@contextlib.contextmanager
def explained() -> Iterator[None]:
  """Tells a peer that has gone from other errors."""
  try:
    yield
  except tf.errors.OpError as error:
    if _world.horovod is None or 'horovod' not in str(error).lower():
      raise
    raise LostPeerError('Another process of the job has ended: its own error says why.') from error
