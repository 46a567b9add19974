"""Which processes belong to this job, and which of them this one is."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from types import ModuleType

import tensorflow as tf

from secateurs.utils.errors import UserError

LAUNCHED = 'HOROVOD_RANK'  # Set by horovodrun for each process that it starts.


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


def horovod() -> ModuleType | None:
  """Horovod, where there are other processes to talk to."""
  start()
  return None if _world.alone else _world.horovod


def rank() -> int:
  """Number of this process in the job, from 0."""
  hvd = horovod()
  return hvd.rank() if hvd else 0


def size() -> int:
  """Number of processes of the job."""
  hvd = horovod()
  return hvd.size() if hvd else 1


def shard() -> tuple[int, int]:
  """(rank, size): which part of the data is this process's, of how many."""
  return rank(), size()


def is_chief() -> bool:
  """Whether this process reads and writes for all."""
  return rank() == 0


@contextlib.contextmanager
def alone() -> Iterator[None]:
  """Inside, this process acts as the only one: nothing waits for others."""
  start()
  _world.alone += 1
  try:
    yield
  finally:
    _world.alone -= 1


@contextlib.contextmanager
def explained() -> Iterator[None]:
  """Distinguishes a peer that has gone from other errors.

  Raises:
    LostPeerError: another process of the job has ended.
  """
  try:
    yield
  except tf.errors.OpError as error:
    if _world.horovod is None or 'horovod' not in str(error).lower():
      raise
    raise LostPeerError('Another process of the job has ended: its own error says why.') from error
