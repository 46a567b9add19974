"""The order of records: a pure function of seed, shard and position that can start at any position.

Records are read in chunks of neighbours, which gives long reads on disks and network folders. They are
shuffled twice: first the chunks of an epoch, then the records within a pool of chunks. Only three pools
are in memory at a time, for any size of the data set.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from secateurs.nets.datasets.record_index import Shard

CHUNK = 16
POOL_CHUNKS = 64


@dataclasses.dataclass(frozen=True)
class Chunks:
  """Chunks: runs of neighbouring records, from any files, in any order.

  Attributes:
    paths: the files.
    file: index of each chunk's file, int32 [m].
    offset: byte offset of each chunk in its file, int64 [m].
    first: number of each chunk's first record within the file, int64 [m].
    count: number of records of each chunk, int64 [m].
  """

  paths: tuple[str, ...]
  file: np.ndarray
  offset: np.ndarray
  first: np.ndarray
  count: np.ndarray

  def __len__(self) -> int:
    return len(self.count)

  @property
  def nb_records(self) -> int:
    """Number of records in all chunks."""
    return int(self.count.sum())

  def take(self, indices: np.ndarray) -> Chunks:
    """Returns the chunks at the given indices."""
    columns = (self.file, self.offset, self.first, self.count)
    return Chunks(self.paths, *(column[indices] for column in columns))

  def shard(self, index: int, nb_shards: int) -> Chunks:
    """Returns the part of one of several processes; the parts are disjoint and complete."""
    return self.take(np.arange(index, len(self), nb_shards))


def chunks_of(shards: Sequence[Shard], size: int = CHUNK) -> Chunks:
  """Cuts files into chunks of at most `size` records."""
  files, offsets, firsts, counts = [], [], [], []
  for number, shard in enumerate(shards):
    starts = np.arange(0, len(shard.lengths), size)
    files.append(np.full(len(starts), number, np.int32))
    offsets.append(shard.offsets[starts])
    firsts.append(starts)
    counts.append(np.minimum(size, len(shard.lengths) - starts))
  columns = [np.concatenate(column) for column in (files, offsets, firsts, counts)]
  return Chunks(tuple(s.path for s in shards), *columns)


def split_off(chunks: Chunks, nb_records: int, shards: Sequence[Shard]) -> tuple[Chunks, Chunks]:
  """Splits chunks into the first `nb_records` records and the rest; may cut one chunk in two."""
  ends = np.cumsum(chunks.count)
  whole = int(np.searchsorted(ends, nb_records, side='right'))
  head, rest = chunks.take(np.arange(whole)), chunks.take(np.arange(whole, len(chunks)))
  missing = nb_records - head.nb_records
  if not missing:
    return head, rest
  cut = rest.take(np.arange(1))
  middle = cut.first[0] + missing
  later = dataclasses.replace(
    cut,
    offset=shards[cut.file[0]].offsets[[middle]],
    first=cut.first + missing,
    count=cut.count - missing,
  )
  return (
    _joined(head, dataclasses.replace(cut, count=np.array([missing]))),
    _joined(later, rest.take(np.arange(1, len(rest)))),
  )


def _joined(one: Chunks, other: Chunks) -> Chunks:
  names = ('file', 'offset', 'first', 'count')
  return Chunks(one.paths, *(np.concatenate([getattr(c, n) for c in (one, other)]) for n in names))


class RecordOrder:
  """The order of the records of some chunks, over all epochs.

  Pools are numbered through all epochs; every epoch has the same number of pools. A position is the
  number of records before it, from the beginning of the first epoch.

  Attributes:
    nb_records: number of records of an epoch.
    nb_pools: number of pools of an epoch.
  """

  def __init__(self, count: np.ndarray, seed: int | None) -> None:
    """Takes the number of records of each chunk; with seed None, records keep their order."""
    self.nb_records = int(count.sum())
    self.nb_pools = -(-len(count) // POOL_CHUNKS)
    self._seed = seed
    self._count = tf.constant(count, tf.int64)

  def pool(self, number: tf.Tensor | int) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Returns the content of a pool.

    Args:
      number: scalar int64, from zero.

    Returns:
      (chunks, order, position): the chunks to read, int64 [k]; the order of their records, as indices
      into the concatenated records of these chunks, int64 [n]; and the position of the first record,
      scalar int64.
    """
    number = tf.cast(number, tf.int64)
    epoch, index = number // self.nb_pools, number % self.nb_pools
    chunks = self._chunks(epoch)
    count = tf.gather(self._count, chunks)
    first = index * POOL_CHUNKS
    position = epoch * self.nb_records + tf.reduce_sum(count[:first])
    chosen = slice(first, tf.minimum(first + POOL_CHUNKS, tf.size(chunks, tf.int64)))
    order = tf.range(tf.reduce_sum(count[chosen]), dtype=tf.int64)
    if self._seed is not None:
      seeds = tf.stack([tf.constant(2 * self._seed + 1, tf.int64), number])
      order = tf.random.experimental.stateless_shuffle(order, seeds)
    return chunks[chosen], order, position

  def pool_at(self, position: int) -> tuple[int, int]:
    """Returns the pool that contains a position, and the number of its records before it."""
    epoch, offset = divmod(position, self.nb_records)
    ends = np.cumsum(self._count.numpy()[self._chunks(tf.constant(epoch, tf.int64)).numpy()])
    starts = np.concatenate([[0], ends])[:-1:POOL_CHUNKS]
    index = int(np.searchsorted(starts, offset, side='right')) - 1
    return epoch * self.nb_pools + index, int(offset - starts[index])

  def _chunks(self, epoch: tf.Tensor) -> tf.Tensor:
    chunks = tf.range(tf.size(self._count, tf.int64), dtype=tf.int64)
    if self._seed is None:
      return chunks
    seeds = tf.stack([tf.constant(2 * self._seed, tf.int64), epoch])
    return tf.random.experimental.stateless_shuffle(chunks, seeds)
