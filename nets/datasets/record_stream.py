"""Decodes records of TFRecord shards in a given order and skips those that cannot be read."""

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
  """Unusable records: each is reported and counted once, up to a limit.

  Attributes:
    limit: maximum number of unusable records.
  """

  def __init__(self, limit: int) -> None:
    self.limit = limit
    self._reasons: dict[tuple[str, int], str] = {}
    self._lock = threading.Lock()  # Pipelines run in separate threads.

  def __len__(self) -> int:
    return len(self._reasons)

  def add(self, path: str, record: int, reason: str) -> None:
    """Reports and counts a record.

    Raises:
      UserError: the limit is exceeded.
    """
    with self._lock:
      if (path, record) in self._reasons:
        return
      self._reasons[path, record] = reason
    if len(self) > self.limit:
      raise UserError(
        f'{len(self)} records cannot be used, the last being record {record} of {path} ({reason}), but '
        f'--nb_corrupt_max allows {self.limit}: create the files again, or allow more.'
      )
    print(f'Warning: record {record} of {path} is skipped: {reason}.', flush=True)

  def notes(self) -> list[str]:
    """Remarks for the report, if any."""
    if not self._reasons:
      return []
    named = [
      f'record {record} of {os.path.basename(path)} ({reason})'
      for (path, record), reason in sorted(self._reasons.items())
    ]
    more = f' and {len(named) - _NB_NAMED} more' if len(named) > _NB_NAMED else ''
    return [
      f'Records that could not be used and were skipped: {", ".join(named[:_NB_NAMED])}{more}.'
    ]


class RecordStream:
  """Decodes the records of some chunks in the order given by a seed.

  A record that cannot be read or decoded is reported. `endless` yields the next good record in its
  place; `once` yields nothing. An endless stream therefore depends only on seed and position, wherever
  it starts.
  """

  def __init__(
    self,
    chunks: Chunks,
    seed: int | None,
    decode: Decode,
    explain: Callable[[bytes], str],
    faults: Faults,
  ) -> None:
    """Prepares the stream; reads nothing.

    Args:
      chunks: the records.
      seed: seed of the order; None keeps the order of the files.
      decode: makes tensors of fixed shapes from (serialized record, its position); may fail.
      explain: returns the reason why a record cannot be decoded.
      faults: collects the records that cannot be decoded.
    """
    self._chunks, self._decode, self._explain, self._faults = chunks, decode, explain, faults
    self._order = RecordOrder(chunks.count, seed)
    self._specs = _outputs(decode)
    self._paths = tf.constant(chunks.paths)
    self._file, self._offset = tf.constant(chunks.file), tf.constant(chunks.offset)
    self._count = tf.constant(chunks.count, tf.int64)

  def endless(self, start: int) -> tf.data.Dataset:
    """Yields epoch after epoch from position `start` on."""
    first, skipped = self._order.pool_at(start)
    pools = tf.data.Dataset.range(first, np.iinfo(np.int64).max)
    return self._decoded(pools, skipped, start, fill=True)

  def once(self) -> tf.data.Dataset:
    """Yields every record once."""
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
    """Reads the serialized records of a pool in their order, and the position of the first."""
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
    """Reads a chunk's records; empty ones from the first unreadable record on."""
    count = self._count[chunk]
    records = _records_at(self._paths[self._file[chunk]], self._offset[chunk])
    nothing = tf.data.Dataset.from_tensors(tf.constant('')).repeat(count)
    return records.take(count).ignore_errors().concatenate(nothing).take(count)

  def _reread(self, chunks: np.ndarray, records: np.ndarray) -> np.ndarray:
    """Reads the records after an unreadable record one by one; unreadable ones stay empty."""
    records, place = records.copy(), 0
    for chunk in chunks:
      for number in range(self._chunks.count[chunk]):
        if not records[place]:
          records[place] = self._read_one(chunk, number) or b''
        place += 1
    return records

  def _read_one(self, chunk: int, number: int) -> bytes | None:
    """Reads the data of a chunk's record; None if it is damaged."""
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
    """Sets how often an element is yielded: more than once if records before it are missing."""
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
    """Reports the records at positions that yielded nothing."""
    for position in range(int(begin), int(end)):
      chunk, record = self._locate(position)
      data = self._read_one(chunk, record)
      reason = 'its checksum is wrong' if data is None else self._explain(data)
      self._faults.add(self._path(chunk), int(self._chunks.first[chunk]) + record, reason)
    # With a single good record, at most those before and after it in two epochs are missing.
    if end - begin >= 2 * self._order.nb_records - 1:
      raise UserError(
        f'None of the {self._order.nb_records} records can be used, such as those of '
        f'{self._chunks.paths[0]}: create the files again.'
      )
    return np.int64(0)

  def _locate(self, position: int) -> tuple[int, int]:
    """Returns the chunk of the record at a position, and its number in the chunk."""
    pool, index = self._order.pool_at(position)
    chunks, order, _ = (tensor.numpy() for tensor in self._order.pool(pool))
    ends = np.cumsum(self._chunks.count[chunks])
    place = int(order[index])
    which = int(np.searchsorted(ends, place, side='right'))
    return int(chunks[which]), place - int(ends[which] - self._chunks.count[chunks[which]])


def _records_at(path: tf.Tensor | str, offset: tf.Tensor | int) -> tf.data.Dataset:
  """Reads the records of a file from a byte offset on, which TFRecordDataset cannot do."""
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
