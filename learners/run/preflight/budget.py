"""How a run divides the memory that it may take."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable
from pathlib import Path

import tensorflow as tf

from secateurs.utils import memory
from secateurs.utils.deploy.files.convert import copies_held
from secateurs.utils.graph.counts.memory import MapBytes
from secateurs.utils.training import distributed
from secateurs.utils.training.layerwise.maps import MapStore

_OF_FREE = 0.5
_FOR_CACHES = 0.25
# TensorFlow, the project and compiled graphs; each byte of weights is held as network, gradient, two
# slots of an optimizer, original, and a copy while one of them is restored or compared.
_BASE, COPIES = 1300 << 20, 6
_TRAINED_COPIES = 4  # Of a variable beside the network's: itself, gradient, a slot, its next value.
_LARGEST_MAPS = 2  # What operators work on beside the stored maps.
_HOLES = 1.25  # The heap holds more than a step's maps: blocks of many sizes come and go in it.


@dataclasses.dataclass(frozen=True)
class Budget:
  """The memory of one process.

  Attributes:
    limit: bytes that it may hold.
    weights: bytes of the network's weights.
    folder: where feature maps go that do not fit.
    data: bytes of samples that are held in memory.
    extra: bytes that variables beside the network's take, such as gates; see `extra_bytes`.
  """

  limit: int
  weights: int
  folder: Path
  data: int = 0
  extra: int = 0

  def store(self) -> MapStore:
    """A store of feature maps: a quarter of the memory, and files for more."""
    return MapStore(self.cache_room, self.folder)

  @property
  def cache_room(self) -> int:
    """Bytes of feature maps that are kept in memory."""
    return int(_FOR_CACHES * self.limit)

  def room(self, *, caches: bool = False) -> int:
    """Bytes for the feature maps of a training step, beside those that are kept in a store."""
    return self.limit - self.taken - self.exporting - (self.cache_room if caches else 0)

  @property
  def taken(self) -> int:
    """Bytes that are held whatever the batch."""
    return _BASE + self.data + COPIES * self.weights + self.extra

  @property
  def exporting(self) -> int:
    """Bytes that making files takes, which stay free: what training took may stay with TensorFlow."""
    return copies_held(self.weights) * self.weights

  def pieces(self, maps: MapBytes, batch_size: int, *, caches: bool = False, also: int = 0) -> int:
    """In how many pieces a batch is run so that its feature maps fit.

    Args:
      maps: of one sample in a training step.
      batch_size: samples of the batch.
      caches: whether feature maps of other samples are kept meanwhile.
      also: further bytes for each sample, such as a teacher's.
    """
    each = sample_bytes(maps) + also
    fitting = max(self.room(caches=caches) // max(each, 1), 1)
    return math.ceil(batch_size / fitting)


def pieces_note(batch_size: int, nb_pieces: int, *, has_norms: bool) -> str:
  """A sentence about batches that are run in pieces."""
  norms = ', over each of which batch normalisation takes its statistics' if has_norms else ''
  return (
    f'Batches of {batch_size} are run in {nb_pieces} pieces of about {-(-batch_size // nb_pieces)} '
    f'samples{norms}, so that a step fits into the memory (--max_memory_mb).'
  )


def sample_bytes(maps: MapBytes) -> int:
  """What a sample of a training step takes."""
  return int(_HOLES * (maps.training + _LARGEST_MAPS * maps.largest))


def variable_bytes(variables: Iterable[tf.Variable]) -> int:
  """What some variables take."""
  return sum(one.shape.num_elements() * one.dtype.size for one in variables)


def extra_bytes(variables: Iterable[tf.Variable]) -> int:
  """What variables take that a learner adds to the network's: trained ones with what trains them."""
  found = list(variables)
  trained = [one for one in found if one.trainable]
  return variable_bytes(found) + (_TRAINED_COPIES - 1) * variable_bytes(trained)


def limit_of(max_memory_mb: int | None) -> int:
  """Bytes that this process may hold: what was asked for, else half of what is free now."""
  if max_memory_mb is not None:
    return max_memory_mb * memory.MEGABYTE
  return memory.resident() + int(_OF_FREE * memory.free() / distributed.size())
