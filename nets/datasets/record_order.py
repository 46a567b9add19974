"""Which record comes when: a pure function of seed, shard and position, cheap to enter anywhere.

Records are read in chunks of neighbours, so that disks and network folders see long reads, and
shuffled twice: the chunks of an epoch among each other, then the records of a pool of chunks. Only
three pools are in memory at a time, however large the data set is.
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
  """Runs of neighbouring records, of any files, in any order.

  Attributes:
    paths: the files.
    file: number of the file that each chunk lies in, int32 [m].
    offset: byte at which it begins, int64 [m].
    first: number of its first record within the file, int64 [m].
    count: records in it, int64 [m].
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
    """Records in all of them."""
    return int(self.count.sum())

  def take(self, indices: np.ndarray) -> Chunks:
    """Some of the chunks."""
    columns = (self.file, self.offset, self.first, self.count)
    return Chunks(self.paths, *(column[indices] for column in columns))

  def shard(self, index: int, nb_shards: int) -> Chunks:
    """The share of one of several processes: disjoint, together everything."""
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
  """The first `nb_records` of some chunks, and the rest; a chunk is cut in two where need be."""
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
  """The order of the records of some chunks, epoch after epoch.

  Pools are numbered through all epochs; every epoch has the same number of them. A position counts the
  records that came before, from the beginning of the first epoch.

  Attributes:
    nb_records: records of an epoch.
    nb_pools: pools of an epoch.
  """

  def __init__(self, count: np.ndarray, seed: int | None) -> None:
    """`count` has the records of each chunk; without a seed they keep their order."""
    self.nb_records = int(count.sum())
    self.nb_pools = -(-len(count) // POOL_CHUNKS)
    self._seed = seed
    self._count = tf.constant(count, tf.int64)

  def pool(self, number: tf.Tensor | int) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """What a pool holds.

    Args:
      number: scalar int64, from zero.

    Returns:
      (chunks, order, position): the chunks to read, int64 [k]; the order in which their records come,
      as indices into the records of these chunks one after another, int64 [n]; and the position of
      the first of them, scalar int64.
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
    """The pool in which a position lies, and how many of its records come before."""
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
