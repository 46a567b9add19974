"""Decoded records of TFRecord shards in a given order, past records that cannot be read."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from secateurs.nets.datasets.record_index import read_record
from secateurs.nets.datasets.record_order import Chunks, RecordOrder
from secateurs.utils.errors import UserError

_READ_BYTES = 1 << 18
_NB_OPEN = 4
_NB_NAMED = 5

Decode = Callable[[tf.Tensor, tf.Tensor], tuple[tf.Tensor, ...]]


class Faults:
  """Records that cannot be used: each is told and counted once, up to a limit.

  Attributes:
    limit: how many there may be.
  """

  def __init__(self, limit: int) -> None:
    self.limit = limit
    self._reasons: dict[tuple[str, int], str] = {}
    self._lock = threading.Lock()  # Pipelines run in threads of their own.

  def __len__(self) -> int:
    return len(self._reasons)

  def add(self, path: str, record: int, reason: str) -> None:
    """Takes note of one.

    Raises:
      UserError: it is one too many.
    """
    with self._lock:
      if (path, record) in self._reasons:
        return
      self._reasons[path, record] = reason
    if len(self) > self.limit:
      raise UserError(
        f'{len(self)} records cannot be used, the last being record {record} of {path} ({reason}), but '
        f'--nb_corrupt_max allows {self.limit}: make the files anew, or allow more.'
      )
    print(f'Warning: record {record} of {path} is left out: {reason}.', flush=True)

  def notes(self) -> list[str]:
    """What the reader of a report must know, if anything."""
    if not self._reasons:
      return []
    named = [
      f'record {record} of {os.path.basename(path)} ({reason})'
      for (path, record), reason in sorted(self._reasons.items())
    ]
    more = f' and {len(named) - _NB_NAMED} more' if len(named) > _NB_NAMED else ''
    return [
      f'Records that could not be used and were left out: {", ".join(named[:_NB_NAMED])}{more}.'
    ]


class RecordStream:
  """Decodes the records of some chunks in the order of a seed.

  Where a record cannot be read or decoded, it is noted, and the next good one is given in its place
  (`endless`) or nothing is. An endless stream is therefore a function of seed and position alone,
  whether it is entered at its beginning or not.
  """

  def __init__(
    self,
    chunks: Chunks,
    seed: int | None,
    decode: Decode,
    explain: Callable[[bytes], str],
    faults: Faults,
  ) -> None:
    """Nothing is read yet.

    Args:
      chunks: what there is.
      seed: of the order; None keeps the order of the files.
      decode: makes tensors of fixed shapes from (serialized record, its position); may fail.
      explain: says why a record cannot be decoded.
      faults: takes note of those.
    """
    self._chunks, self._decode, self._explain, self._faults = chunks, decode, explain, faults
    self._order = RecordOrder(chunks.count, seed)
    self._specs = _outputs(decode)
    self._paths = tf.constant(chunks.paths)
    self._file, self._offset = tf.constant(chunks.file), tf.constant(chunks.offset)
    self._count = tf.constant(chunks.count, tf.int64)

  def endless(self, start: int) -> tf.data.Dataset:
    """Epoch after epoch from position `start` on."""
    first, skipped = self._order.pool_at(start)
    pools = tf.data.Dataset.range(first, np.iinfo(np.int64).max)
    return self._decoded(pools, skipped, start, fill=True)

  def once(self) -> tf.data.Dataset:
    """Every record once."""
    pools = tf.data.Dataset.range(self._order.nb_pools)
    return self._decoded(pools, 0, 0, fill=False)

  def _decoded(
    self, pools: tf.data.Dataset, skipped: int, start: int, *, fill: bool
  ) -> tf.data.Dataset:
    records = pools.map(self._read_pool, num_parallel_calls=1).prefetch(1)
    records = records.flat_map(self._elements).skip(skipped)
    decoded = records.map(
      self._decode_element, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True
    ).ignore_errors()
    counted = decoded.scan(
      tf.constant(start, tf.int64),
      lambda expected, element: self._close_gap(expected, element, fill),
    )
    return counted.flat_map(
      lambda copies, *values: tf.data.Dataset.from_tensors(values).repeat(copies)
    )

  def _read_pool(self, number: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """The serialized records of a pool in their order, and the position of the first."""
    chunks, order, position = self._order.pool(number)
    parts = tf.data.Dataset.from_tensor_slices(chunks).interleave(
      self._read_chunk,
      cycle_length=_NB_OPEN,
      block_length=tf.reduce_max(self._count),
      num_parallel_calls=_NB_OPEN,
      deterministic=True,
    )
    size = tf.size(order, tf.int64)
    records = parts.batch(size, drop_remainder=True).get_single_element()
    records = tf.cond(
      tf.reduce_any(tf.strings.length(records) == 0),
      lambda: tf.ensure_shape(
        tf.numpy_function(self._reread, [chunks, records], tf.string), [None]
      ),
      lambda: records,
    )
    return tf.gather(records, order), position

  def _read_chunk(self, chunk: tf.Tensor) -> tf.data.Dataset:
    """A chunk's records; empty ones from the first on that cannot be read."""
    count = self._count[chunk]
    records = _records_at(self._paths[self._file[chunk]], self._offset[chunk])
    nothing = tf.data.Dataset.from_tensors(tf.constant('')).repeat(count)
    return records.take(count).ignore_errors().concatenate(nothing).take(count)

  def _reread(self, chunks: np.ndarray, records: np.ndarray) -> np.ndarray:
    """Reads one by one what lies behind records that cannot be read; these stay empty."""
    records, place = records.copy(), 0
    for chunk in chunks:
      for number in range(self._chunks.count[chunk]):
        if not records[place]:
          records[place] = self._read_one(chunk, number) or b''
        place += 1
    return records

  def _read_one(self, chunk: int, number: int) -> bytes | None:
    """The data of a chunk's record, or None if it is damaged."""
    return read_record(self._path(chunk), int(self._chunks.offset[chunk]), number)

  def _path(self, chunk: int) -> str:
    return self._chunks.paths[self._chunks.file[chunk]]

  def _elements(self, records: tf.Tensor, position: tf.Tensor) -> tf.data.Dataset:
    """A pool's records with their positions; a last element marks the pool's end."""
    size = tf.size(records, tf.int64)
    positions = tf.range(position, position + size)
    end = tf.data.Dataset.from_tensors((tf.constant(''), position + size, True))
    ends = tf.zeros([size], tf.bool)
    return tf.data.Dataset.from_tensor_slices((records, positions, ends)).concatenate(end)

  def _decode_element(self, record: tf.Tensor, position: tf.Tensor, is_end: tf.Tensor) -> tuple:
    blank = [tf.zeros(spec.shape, spec.dtype) for spec in self._specs]
    values = tf.cond(is_end, lambda: blank, lambda: list(self._decode(record, position)))
    return (position, is_end, *values)

  def _close_gap(self, expected: tf.Tensor, element: tuple, fill: bool) -> tuple:
    """Counts how often an element is given: more than once if others before it are missing."""
    position, is_end, *values = element
    missing = position - expected
    noted = tf.cond(
      missing > 0,
      lambda: tf.numpy_function(self._note, [expected, position], tf.int64),
      lambda: tf.constant(0, tf.int64),
    )
    copies = missing + 1 if fill else tf.constant(1, tf.int64)
    copies = tf.where(is_end, tf.constant(0, tf.int64), copies) + noted
    following = tf.where(is_end, expected if fill else position, position + 1)
    return following, (copies, *values)

  def _note(self, begin: np.int64, end: np.int64) -> np.int64:
    """Takes note of the records at positions that gave nothing."""
    for position in range(int(begin), int(end)):
      chunk, record = self._locate(position)
      data = self._read_one(chunk, record)
      reason = 'its checksum is wrong' if data is None else self._explain(data)
      self._faults.add(self._path(chunk), int(self._chunks.first[chunk]) + record, reason)
    # With one good record, those before and behind it in two epochs are missing at the most.
    if end - begin >= 2 * self._order.nb_records - 1:
      raise UserError(
        f'None of the {self._order.nb_records} records can be used, such as those of '
        f'{self._chunks.paths[0]}: make the files anew.'
      )
    return np.int64(0)

  def _locate(self, position: int) -> tuple[int, int]:
    """The chunk in which the record at a position lies, and its number in the chunk."""
    pool, index = self._order.pool_at(position)
    chunks, order, _ = (tensor.numpy() for tensor in self._order.pool(pool))
    ends = np.cumsum(self._chunks.count[chunks])
    place = int(order[index])
    which = int(np.searchsorted(ends, place, side='right'))
    return int(chunks[which]), place - int(ends[which] - self._chunks.count[chunks[which]])


def _records_at(path: tf.Tensor | str, offset: tf.Tensor | int) -> tf.data.Dataset:
  """The records of a file from a byte on; tf.data's own reader knows no offset."""
  variant = tf.raw_ops.TFRecordDatasetV2(
    filenames=[path],
    compression_type='',
    buffer_size=tf.constant(_READ_BYTES, tf.int64),
    byte_offsets=tf.reshape(tf.cast(offset, tf.int64), [1]),
  )
  return tf.data.experimental.from_variant(variant, tf.TensorSpec([], tf.string))


def _outputs(decode: Decode) -> list[tf.TensorSpec]:
  arguments = tf.TensorSpec([], tf.string), tf.TensorSpec([], tf.int64)
  outputs = tf.function(decode).get_concrete_function(*arguments).structured_outputs
  return [tf.TensorSpec(output.shape, output.dtype) for output in outputs]
