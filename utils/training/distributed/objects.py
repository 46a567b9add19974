"""What ranks send each other whole: values of variables, and anything that can be pickled."""

from __future__ import annotations

import pickle
from collections.abc import Iterable
from typing import TypeVar

import numpy as np
import tensorflow as tf

from secateurs.utils.training.distributed.world import explained, horovod

T = TypeVar('T')


def barrier() -> None:
  """Returns when all ranks have called it."""
  gather_objects(None)


def broadcast_variables(variables: Iterable[tf.Variable]) -> None:
  """Sets variables to the chief's values."""
  hvd, variables = horovod(), list(variables)
  if hvd is not None and variables:
    with explained():
      hvd.broadcast_variables(variables, root_rank=0)


def broadcast_object(value: T) -> T:
  """The chief's value of anything that can be pickled."""
  hvd = horovod()
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
  hvd = horovod()
  if hvd is None:
    return [value]
  content = tf.constant(np.frombuffer(pickle.dumps(value), np.uint8))
  with explained():
    lengths = hvd.allgather(tf.shape(content, tf.int64), name='secateurs_lengths').numpy()
    everything = hvd.allgather(content, name='secateurs_objects').numpy()
  parts = np.split(everything, np.cumsum(lengths)[:-1])
  return [pickle.loads(part.tobytes()) for part in parts]
