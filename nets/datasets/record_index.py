"""Indexes the records of TFRecord shards without reading their data.

A TFRecord is an 8-byte length, the masked CRC-32C of that length, the data, and its CRC
(tensorflow/core/lib/io/record_writer.h). The index reads only the lengths, 12 bytes per record, and
keeps one number per record.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re
import zipfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from tqdm import tqdm

from secateurs.utils.errors import UserError
from secateurs.utils.files import atomic_path, user_cache

HEADER, FOOTER = 12, 4
_NB_READERS = 16
_CACHED_FROM_BYTES = 1 << 30
_SHARD = re.compile(r'(.+)-(\d{5})-of-(\d{5})')
_POLYNOMIAL = 0x82F63B78  # CRC-32C, reflected.


@dataclasses.dataclass(frozen=True)
class Shard:
  """One file of records.

  Attributes:
    path: the file.
    lengths: bytes of data of each readable record, int64 [n].
    complete: whether the index reached the end of the file.
  """

  path: str
  lengths: np.ndarray
  complete: bool

  @property
  def offsets(self) -> np.ndarray:
    """Byte offset of each record, then the end of the last one, int64 [n + 1]."""
    steps = self.lengths + (HEADER + FOOTER)
    return np.concatenate([[0], np.cumsum(steps)]).astype(np.int64)


def find_shards(folder: Path, split: str) -> list[Path]:
  """Returns the files `<split>-*-of-*` of a folder, in order.

  Raises:
    UserError: all or some of the files are missing.
  """
  paths = sorted(p for p in folder.glob(f'{split}-*-of-*') if _SHARD.fullmatch(p.name))
  if not paths:
    raise UserError(
      f'{folder} has no files {split}-*-of-*, but TFRecord shards such as {split}-00000-of-01024 were '
      'expected: give the folder that contains them, or make them with scripts/build_ilsvrc12.py.'
    )
  total = int(_SHARD.fullmatch(paths[-1].name)[3])
  expected = {f'{split}-{i:05d}-of-{total:05d}' for i in range(total)}
  missing = sorted(expected - {p.name for p in paths})
  if missing or len(paths) != total:
    named = ', '.join(missing[:3]) or 'none'
    raise UserError(
      f'{folder} has {len(paths)} files {split}-*-of-*, but {total} were expected (missing: {named}): '
      'copy the missing ones, and keep only the shards of one data set in a folder.'
    )
  return paths


def index_shards(paths: Sequence[Path]) -> list[Shard]:
  """Indexes files of records; the index of a large data set is kept in the user's cache.

  Raises:
    UserError: a file cannot be read.
  """
  stats = [_stat(path) for path in paths]
  cache = _cache_file(paths, stats)
  large = sum(stat.st_size for stat in stats) >= _CACHED_FROM_BYTES
  shards = _cached(cache, paths) if large else None
  if shards is None:
    with ThreadPoolExecutor(_NB_READERS) as pool:
      found = pool.map(_index, paths)
      shards = list(tqdm(found, 'Indexing records', len(paths), unit='file', disable=not large))
    if large:
      _remember(cache, shards)
  return shards


def _index(path: Path) -> Shard:
  try:
    with path.open('rb', buffering=0) as file:
      if hasattr(os, 'posix_fadvise'):
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_RANDOM)
      lengths, complete = _lengths(file.fileno(), os.fstat(file.fileno()).st_size)
  except OSError as error:
    raise UserError(f'{path} cannot be read ({error.strerror}): fix or replace it.') from error
  return Shard(str(path), lengths, complete)


def _lengths(fd: int, size: int) -> tuple[np.ndarray, bool]:
  """Returns the data lengths of the records within `size` bytes, and whether they fill them."""
  lengths, offset = [], 0
  while offset < size:
    header = os.pread(fd, HEADER, offset)
    length = int.from_bytes(header[:8], 'little')
    end = offset + HEADER + length + FOOTER
    whole = len(header) == HEADER and end <= size
    if not whole or masked_crc32c(header[:8]) != header[8:]:
      return np.array(lengths, np.int64), False
    lengths.append(length)
    offset = end
  return np.array(lengths, np.int64), True


def read_record(path: str, offset: int, number: int) -> bytes | None:
  """Reads record `number`, counted from the record at byte `offset`; None if its CRC is wrong."""
  with open(path, 'rb') as file:
    file.seek(offset)
    for _ in range(number):
      length = int.from_bytes(file.read(HEADER)[:8], 'little')
      file.seek(length + FOOTER, os.SEEK_CUR)
    length = int.from_bytes(file.read(HEADER)[:8], 'little')
    data, crc = file.read(length), file.read(FOOTER)
  return data if masked_crc32c(data) == crc else None


def masked_crc32c(data: bytes) -> bytes:
  """Computes the CRC that a TFRecord stores after its length and after its data.

  In plain Python, hence only for headers and for the few records that TensorFlow's reader rejects.
  """
  crc = 0xFFFFFFFF
  for byte in data:
    crc = _TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
  crc ^= 0xFFFFFFFF
  masked = ((crc >> 15 | crc << 17 & 0xFFFFFFFF) + 0xA282EAD8) & 0xFFFFFFFF
  return masked.to_bytes(4, 'little')


def _crc_table() -> list[int]:
  table = list(range(256))
  for _ in range(8):
    table = [crc >> 1 ^ _POLYNOMIAL if crc & 1 else crc >> 1 for crc in table]
  return table


_TABLE = _crc_table()


def _stat(path: Path) -> os.stat_result:
  try:
    return path.stat()
  except OSError as error:
    raise UserError(f'{path} cannot be read ({error.strerror}): fix or replace it.') from error


def _cache_file(paths: Sequence[Path], stats: Sequence[os.stat_result]) -> Path:
  key = '\n'.join(f'{p} {s.st_size} {s.st_mtime_ns}' for p, s in zip(paths, stats, strict=True))
  name = hashlib.sha256(key.encode()).hexdigest()[:24]
  return user_cache() / 'record_index' / f'{name}.npz'


def _cached(cache: Path, paths: Sequence[Path]) -> list[Shard] | None:
  try:
    with np.load(cache, allow_pickle=False) as content:
      lengths = np.split(content['lengths'], np.cumsum(content['counts'])[:-1])
      complete = content['complete'].tolist()
  except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
    return None
  return [
    Shard(str(path), part.astype(np.int64), whole)
    for path, part, whole in zip(paths, lengths, complete, strict=True)
  ]


def _remember(cache: Path, shards: Sequence[Shard]) -> None:
  """Saves an index; a cache that is not writable only costs time."""
  try:
    with atomic_path(cache) as partial, partial.open('wb') as file:
      np.savez(
        file,
        lengths=np.concatenate([s.lengths for s in shards]).astype(np.int32),
        counts=np.array([len(s.lengths) for s in shards]),
        complete=np.array([s.complete for s in shards]),
      )
  except UserError as error:
    print(f'Warning: the index of the records was not saved: {error}', flush=True)
