"""One kernel as bytes: raw, pruned, with shared weights, or with Huffman codes.

  form (u8)       0 raw: float32 of all weights; 1 pruned: gaps, float32 of the others;
                  2 shared: gaps, codebooks, numbers of entries
  gap bits (u8)   forms 1 and 2; 0 where zeros are weights like others
  gaps            stream, where gap bits are not 0
  codebooks       form 2: for each bucket its entries (u16), then all entries (float32)
  weights         form 1: float32; form 2: stream of numbers of entries

Weights lie in the order of the buckets' rows.
"""

from __future__ import annotations

import struct

import numpy as np

from secateurs.utils.buckets import Buckets
from secateurs.utils.deploy.packed import streams
from secateurs.utils.deploy.packed.gaps import from_gaps, to_gaps
from secateurs.utils.deploy.packed.streams import Reader

RAW, PRUNED, SHARED = 0, 1, 2
_GAP_BITS = (0, 2, 3, 4, 5, 6, 8)
STAGES = {
  'float': (RAW, streams.FIXED),
  'pruned': (PRUNED, streams.FIXED),
  'shared': (SHARED, streams.FIXED),
  'huffman': (SHARED, streams.HUFFMAN),
}
"""Form and coder of the stages of Deep Compression, in order."""


def write(kernel: np.ndarray, buckets: Buckets, stage: str) -> bytes:
  """A kernel, float32 of `buckets.shape`, as bytes: the shortest form up to a stage."""
  found = []
  for form, coder in list(STAGES.values())[: list(STAGES).index(stage) + 1]:
    if form == RAW:
      found.append(struct.pack('<B', RAW) + kernel.astype('<f4').tobytes())
    else:
      found += [_coded(kernel, buckets, form, coder, bits) for bits in _GAP_BITS]
  return min((data for data in found if data is not None), key=len)


def _coded(
  kernel: np.ndarray, buckets: Buckets, form: int, coder: int, gap_bits: int
) -> bytes | None:
  rows, filled = buckets.rows(kernel), buckets.filled
  stays = filled & (rows != 0) if gap_bits else filled
  head = struct.pack('<BB', form, gap_bits)
  if gap_bits:
    nonzero = stays[filled]
    head += streams.write(to_gaps(nonzero, gap_bits), 2**gap_bits, coder)
  if form == PRUNED:
    return head + rows[stays].astype('<f4').tobytes()
  books = [np.unique(row[kept]) for row, kept in zip(rows, stays, strict=True)]
  largest = max(len(book) for book in books)
  if largest > 4096:  # No shared weights.
    return None
  numbers = [
    np.searchsorted(book, row[kept]) for book, row, kept in zip(books, rows, stays, strict=True)
  ]
  sizes = np.array([len(book) for book in books], '<u2').tobytes()
  entries = np.concatenate(books).astype('<f4').tobytes()
  return head + sizes + entries + streams.write(np.concatenate(numbers), max(largest, 1), coder)


def read(data: bytes, buckets: Buckets) -> np.ndarray:
  """The kernel, float32; `write` turned round.

  Raises:
    ValueError: the bytes are damaged.
  """
  reader, total = Reader(data), int(np.prod(buckets.shape))
  (form,) = reader.unpack('<B')
  if form == RAW:
    return reader.floats(total).reshape(buckets.shape).copy()
  (gap_bits,) = reader.unpack('<B')
  stays = buckets.filled.copy()
  if gap_bits:
    stays[stays] = from_gaps(reader.symbols(), gap_bits, total)
  rows = np.zeros(stays.shape, np.float32)
  if form == PRUNED:
    rows[stays] = reader.floats(int(stays.sum()))
    return buckets.kernel(rows)
  if form != SHARED:
    raise ValueError(f'{form} is no form of a kernel.')
  sizes = np.frombuffer(reader.take(2 * buckets.nb_rows), '<u2').astype(np.int64)
  entries = reader.floats(int(sizes.sum()))
  numbers = reader.symbols()
  owners = np.nonzero(stays)[0]
  if len(numbers) != len(owners) or (numbers >= sizes[owners]).any():
    raise ValueError('The numbers of entries do not fit the codebooks.')
  rows[stays] = entries[(np.cumsum(sizes) - sizes)[owners] + numbers]
  return buckets.kernel(rows)
