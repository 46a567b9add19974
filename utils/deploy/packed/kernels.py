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

import dataclasses
import struct
from collections.abc import Callable, Iterator

import numpy as np

from secateurs.utils.buckets import Buckets
from secateurs.utils.deploy.packed import streams
from secateurs.utils.deploy.packed.gaps import from_gaps, to_gaps
from secateurs.utils.deploy.packed.halves import are_halves
from secateurs.utils.deploy.packed.streams import Reader

RAW, PRUNED, SHARED = 0, 1, 2
_HALVES = 16
_GAP_BITS = (0, 2, 3, 4, 5, 6, 8)
_MOST_ENTRIES = 4096
STAGES = {
  'float': (RAW, streams.FIXED),
  'pruned': (PRUNED, streams.FIXED),
  'shared': (SHARED, streams.FIXED),
  'huffman': (SHARED, streams.HUFFMAN),
  'halves': (SHARED, streams.HUFFMAN),
}
"""Form and coder of the stages of Deep Compression, in order; the last one has float16 beside them."""
ALL = 'halves'


@dataclasses.dataclass(frozen=True)
class _Part:
  """Bytes whose number is known before they are made."""

  nb_bytes: int
  make: Callable[[], bytes]


def write(kernel: np.ndarray, buckets: Buckets, stage: str) -> bytes:
  """A kernel, float32 of `buckets.shape`, as bytes: the shortest form up to a stage.

  All forms of a large kernel would take many times its bytes: only the shortest one is made.
  """
  shortest = min(_forms(kernel, buckets, stage), key=lambda parts: sum(p.nb_bytes for p in parts))
  return b''.join(part.make() for part in shortest)


def _forms(kernel: np.ndarray, buckets: Buckets, stage: str) -> Iterator[list[_Part]]:
  halves = stage == ALL and are_halves(kernel)
  rows, filled = buckets.rows(kernel), buckets.filled
  shared: dict[bool, tuple | None] = {}  # By whether zeros are left out.
  for form, coder in dict.fromkeys(list(STAGES.values())[: list(STAGES).index(stage) + 1]):
    if form == RAW:
      yield [_bytes(struct.pack('<B', RAW | _HALVES * halves)), _floats(kernel, halves)]
      continue
    for gap_bits in _GAP_BITS:
      stays = filled & (rows != 0) if gap_bits else filled
      parts = [_bytes(struct.pack('<BB', form | _HALVES * halves, gap_bits))]
      if gap_bits:
        symbols = to_gaps(stays[filled], gap_bits).astype(np.uint8)
        parts.append(_stream(symbols, 2**gap_bits, coder))
      if form == PRUNED:
        yield [*parts, _floats(rows[stays], halves)]
        continue
      if (sparse := gap_bits > 0) not in shared:
        shared[sparse] = _shared(rows, stays)
      if (found := shared[sparse]) is not None:
        sizes, entries, numbers = found
        yield [
          *parts,
          _bytes(sizes.astype('<u2').tobytes()),
          _floats(entries, halves),
          _stream(numbers, max(int(sizes.max()), 1), coder),
        ]


def _shared(rows: np.ndarray, stays: np.ndarray) -> tuple[np.ndarray, ...] | None:
  """Sizes of codebooks, their entries, and each weight's number; None where weights are not shared."""
  books = [np.unique(row[kept]) for row, kept in zip(rows, stays, strict=True)]
  sizes = np.array([len(book) for book in books])
  if sizes.max() > _MOST_ENTRIES:
    return None
  numbers = [
    np.searchsorted(book, row[kept]).astype(np.uint16)
    for book, row, kept in zip(books, rows, stays, strict=True)
  ]
  return sizes, np.concatenate(books), np.concatenate(numbers)


def _bytes(content: bytes) -> _Part:
  return _Part(len(content), lambda: content)


def _floats(values: np.ndarray, halves: bool) -> _Part:
  form = np.dtype('<f2' if halves else '<f4')
  return _Part(form.itemsize * values.size, lambda: values.astype(form).tobytes())


def _stream(symbols: np.ndarray, size: int, coder: int) -> _Part:
  length = streams.nb_bytes(symbols, size, coder)
  return _Part(length, lambda: streams.write(symbols, size, coder))


def read(data: bytes, buckets: Buckets) -> np.ndarray:
  """The kernel, float32; the inverse of `write`.

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
  stays = buckets.filled
  if gap_bits not in _GAP_BITS:
    raise ValueError(f'{gap_bits} is no number of bits of a gap.')
  if gap_bits:
    stays[stays] = from_gaps(reader.symbols(total), gap_bits, total)
  rows = np.zeros(stays.shape, np.float32)
  if form == PRUNED:
    rows[stays] = floats(int(stays.sum()))
    return buckets.kernel(rows)
  if form != SHARED:
    raise ValueError(f'{form} is no form of a kernel.')
  sizes = np.frombuffer(reader.take(2 * buckets.nb_rows), '<u2').astype(np.int64)
  entries = floats(int(sizes.sum()))
  numbers = reader.symbols(total)
  owners = np.repeat(np.arange(len(stays), dtype=np.int32), stays.sum(axis=1))
  if len(numbers) != len(owners) or (numbers >= sizes[owners]).any():
    raise ValueError('The numbers of entries do not fit the codebooks.')
  rows[stays] = entries[(np.cumsum(sizes) - sizes)[owners] + numbers]
  return buckets.kernel(rows)
