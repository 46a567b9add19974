"""Data files for scripts/fuzz_files.py: how small ones are made, and what reads them."""

from __future__ import annotations

import contextlib
import io
import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

NB_RECORDS = 12
_SIZE = 12
_NB_A_FILE = 4


def tried(read: Callable[[Path], Any], path: Path, content: bytes | None = None) -> Any:
  """What a file is read as, with other content if that is given, or the exception that it ends in."""
  if content is not None:
    path.write_bytes(content)
  try:
    return read(path)
  except Exception as error:
    return error


def image_file(ending: str) -> Any:
  """A maker of two classes of three images each, of which one is damaged."""
  from PIL import Image

  def make(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    for name in ('a', 'b'):
      (folder / name).mkdir()
      for number in range(3):
        pixels = rng.integers(0, 256, (_SIZE, _SIZE, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / name / f'{number}.{ending}')
    return folder / 'a' / f'1.{ending}'

  return make


def images(path: Path) -> list[np.ndarray]:
  """All pixels and labels of the folder that an image lies in."""
  from secateurs.nets.datasets.image_folder import ImageFolderConfig, load

  data = load(ImageFolderConfig(data_dir_local=str(path.parents[1]), image_size=_SIZE))
  return [part for split in data.splits.values() for part in (split.images, split.labels)]


def records(folder: Path) -> Path:
  """A shard of records that each hold a number and some more bytes."""
  import tensorflow as tf

  path = folder / 'train-00000-of-00001'
  with tf.io.TFRecordWriter(str(path)) as writer:
    for number in range(NB_RECORDS):
      writer.write(_record(number))
  return path


def _record(number: int) -> bytes:
  return f'{number:05d}'.encode() + bytes(range(16 * (number % 4)))


def _decoded(record: Any, position: Any) -> tuple[Any, Any]:
  """A record and its number, of which an empty record, one that could not be read, has none."""
  import tensorflow as tf

  del position
  number = tf.strings.to_number(tf.strings.substr(record, 0, 5), tf.int32)
  return tf.ensure_shape(record, []), number


def read_records(path: Path) -> list[bytes]:
  """All records.

  Raises:
    UserError: some cannot be used. They are skipped, counted and named; this function says so.
    AssertionError: a record is not what was written, or is missing and not counted.
  """
  from secateurs.utils.errors import UserError

  shards, faults, found = _read(path.parent)
  nb_indexed = sum(len(shard.lengths) for shard in shards)
  written = iter(map(_record, range(NB_RECORDS)))
  assert all(record in written for record in found), 'damaged records were read'
  assert len(found) + len(faults) == nb_indexed, 'a record is missing that was not counted'
  if faults.notes() or not all(shard.complete for shard in shards):
    raise UserError('records are skipped, counted and named')
  return found


def read_shards(path: Path, contents: Sequence[bytes]) -> list[Any]:
  """As `read_records` of each content; all but the first are shards of one folder.

  The first is alone, since a folder can be without any good record.
  """
  from secateurs.utils.errors import UserError

  first = tried(read_records, path, contents[0])
  folder = path.parent / 'together'
  folder.mkdir(exist_ok=True)
  for number, content in enumerate(contents[1:]):
    (folder / f'train-{number:05d}-of-{len(contents) - 1:05d}').write_bytes(content)
  try:
    shards, faults, records = _read(folder)
    found, records = [first], iter(records)
    for shard in shards:
      skipped = {number for name, number in faults._reasons if name == shard.path}
      numbers = [number for number in range(len(shard.lengths)) if number not in skipped]
      mine = [next(records) for _ in numbers]
      assert mine == list(map(_record, numbers))
      whole = shard.complete and not skipped
      found.append(mine if whole else UserError('records are skipped, counted and named'))
    assert next(records, None) is None
  except Exception:  # Each alone says of which file it was.
    return [first, *(tried(read_records, path, content) for content in contents[1:])]
  return found


def _read(folder: Path) -> tuple[list[Any], Any, list[bytes]]:
  """Shards of a folder, the records that were skipped, and the others."""
  import tensorflow as tf

  from secateurs.nets.datasets.record_index import find_shards, index_shards
  from secateurs.nets.datasets.record_order import chunks_of
  from secateurs.nets.datasets.record_stream import Faults, RecordStream
  from secateurs.utils.errors import UserError, told_in

  shards = index_shards(find_shards(folder, 'train'))
  faults = Faults(NB_RECORDS * len(shards))
  if not any(len(shard.lengths) for shard in shards):
    raise UserError('no record is left')
  stream = RecordStream(chunks_of(shards, 4), None, _decoded, lambda data: 'it is odd', faults)
  with contextlib.redirect_stdout(io.StringIO()):
    try:
      return shards, faults, [row[0] for row in stream.once().as_numpy_iterator()]
    except tf.errors.OpError as error:  # What a reader says inside of a pipeline.
      raise told_in(error) or error from error


def cifar10(folder: Path) -> Path:
  """The binary layout, with a few records a file."""
  rng = np.random.default_rng(0)
  for name in [*(f'data_batch_{number}' for number in range(1, 6)), 'test_batch']:
    rows = rng.integers(0, 256, (_NB_A_FILE, 3073)).astype(np.uint8)
    rows[:, 0] %= 10
    (folder / f'{name}.bin').write_bytes(rows.tobytes())
  return folder / 'data_batch_3.bin'


def cifar10_of_python(folder: Path) -> Path:
  """The layout of pickles, with a few records a file."""
  rng = np.random.default_rng(0)
  for name in [*(f'data_batch_{number}' for number in range(1, 6)), 'test_batch']:
    pixels = rng.integers(0, 256, (_NB_A_FILE, 3072)).astype(np.uint8)
    content = {b'data': pixels, b'labels': [3] * _NB_A_FILE}
    (folder / name).write_bytes(pickle.dumps(content, protocol=2))
  return folder / 'data_batch_3'


def read_cifar10(path: Path) -> list[np.ndarray]:
  """All pixels and labels of the folder that a file lies in."""
  from secateurs.nets.datasets import cifar10
  from secateurs.nets.datasets.source import DataConfig

  with mock.patch.object(cifar10, '_NB_PER_FILE', _NB_A_FILE):
    data = cifar10.load(DataConfig(data_dir_local=str(path.parent)))
  return [part for split in data.splits.values() for part in (split.images, split.labels)]
