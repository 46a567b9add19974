"""One kernel as bytes: raw, pruned, with shared weights, with Huffman codes, or with float16 as well.

  form (u8)       0 raw: all weights; 1 pruned: gaps, the other weights;
                  2 shared: gaps, codebooks, numbers of entries; 16 is added where weights and entries
                  of codebooks are float16, which hold them exactly, else they are float32
  gap bits (u8)   forms 1 and 2; 0 where zeros are weights like others
  gaps            stream, where gap bits are not 0
  codebooks       form 2: for each bucket its entries (u16), then all entries
  weights         form 1: values; form 2: stream of numbers of entries

Weights lie in the order of the buckets' rows.
"""

from __future__ import annotations

import struct

import numpy as np

from secateurs.utils.buckets import Buckets
from secateurs.utils.deploy.packed import streams
from secateurs.utils.deploy.packed.gaps import from_gaps, to_gaps
from secateurs.utils.deploy.packed.halves import are_halves
from secateurs.utils.deploy.packed.streams import Reader

RAW, PRUNED, SHARED = 0, 1, 2
_HALVES = 16
_GAP_BITS = (0, 2, 3, 4, 5, 6, 8)
STAGES = {
  'float': (RAW, streams.FIXED),
  'pruned': (PRUNED, streams.FIXED),
  'shared': (SHARED, streams.FIXED),
  'huffman': (SHARED, streams.HUFFMAN),
  'halves': (SHARED, streams.HUFFMAN),
}
"""Form and coder of the stages of Deep Compression, in order; the last one has float16 beside them."""
ALL = 'halves'


def write(kernel: np.ndarray, buckets: Buckets, stage: str) -> bytes:
  """A kernel, float32 of `buckets.shape`, as bytes: the shortest form up to a stage."""
  found, halves = [], stage == ALL and are_halves(kernel)
  for form, coder in dict.fromkeys(list(STAGES.values())[: list(STAGES).index(stage) + 1]):
    if form == RAW:
      found.append(struct.pack('<B', RAW | _HALVES * halves) + _floats(kernel, halves))
    else:
      found += [_coded(kernel, buckets, form, coder, bits, halves) for bits in _GAP_BITS]
  return min((data for data in found if data is not None), key=len)


def _floats(values: np.ndarray, halves: bool) -> bytes:
  return values.astype('<f2' if halves else '<f4').tobytes()


def _coded(
  kernel: np.ndarray, buckets: Buckets, form: int, coder: int, gap_bits: int, halves: bool
) -> bytes | None:
  rows, filled = buckets.rows(kernel), buckets.filled
  stays = filled & (rows != 0) if gap_bits else filled
  head = struct.pack('<BB', form | _HALVES * halves, gap_bits)
  if gap_bits:
    nonzero = stays[filled]
    head += streams.write(to_gaps(nonzero, gap_bits), 2**gap_bits, coder)
  if form == PRUNED:
    return head + _floats(rows[stays], halves)
  books = [np.unique(row[kept]) for row, kept in zip(rows, stays, strict=True)]
  largest = max(len(book) for book in books)
  if largest > 4096:  # No shared weights.
    return None
  numbers = [
    np.searchsorted(book, row[kept]) for book, row, kept in zip(books, rows, stays, strict=True)
  ]
  sizes = np.array([len(book) for book in books], '<u2').tobytes()
  entries = _floats(np.concatenate(books), halves)
  return head + sizes + entries + streams.write(np.concatenate(numbers), max(largest, 1), coder)


def read(data: bytes, buckets: Buckets) -> np.ndarray:
  """The kernel, float32; `write` turned round.

  Raises:
    ValueError: the bytes are damaged.
  """
  reader, total = Reader(data), int(np.prod(buckets.shape))
  (form,) = reader.unpack('<B')
  floats = reader.halves if form & _HALVES else reader.floats
  form &= ~_HALVES
  if form == RAW:
    return floats(total).reshape(buckets.shape).copy()
  (gap_bits,) = reader.unpack('<B')
  stays = buckets.filled.copy()
  if gap_bits:
    stays[stays] = from_gaps(reader.symbols(), gap_bits, total)
  rows = np.zeros(stays.shape, np.float32)
  if form == PRUNED:
    rows[stays] = floats(int(stays.sum()))
    return buckets.kernel(rows)
  if form != SHARED:
    raise ValueError(f'{form} is no form of a kernel.')
  sizes = np.frombuffer(reader.take(2 * buckets.nb_rows), '<u2').astype(np.int64)
  entries = floats(int(sizes.sum()))
  numbers = reader.symbols()
  owners = np.nonzero(stays)[0]
  if len(numbers) != len(owners) or (numbers >= sizes[owners]).any():
    raise ValueError('The numbers of entries do not fit the codebooks.')
  rows[stays] = entries[(np.cumsum(sizes) - sizes)[owners] + numbers]
  return buckets.kernel(rows)
