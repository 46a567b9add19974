"""Canonical Huffman codes: the shortest codes of whole bits for symbols of known frequencies.

Codes follow from their lengths alone: symbols are sorted by (length, symbol), and each code is the one
before plus one, shifted left where the length grows. A file therefore holds lengths only. The bits of
every BLOCK symbols start at a known place, so that blocks are decoded side by side in NumPy.
"""

from __future__ import annotations

import heapq

import numpy as np

BLOCK = 4096
MAX_LENGTH = 15
_PIECE = 256 * BLOCK  # Symbols whose bits are made at once.
"""The longest code, so that the bits of a block are counted in 16 bits."""


def code_lengths(counts: np.ndarray) -> np.ndarray:
  """Lengths of the codes of symbols, in bits.

  Args:
    counts: int [symbols], how often each symbol occurs.

  Returns:
    uint8 [symbols]; 0 for a symbol that does not occur, 1 for a single one. Where a code would be
    longer than MAX_LENGTH, counts are halved (and kept above zero) until none is.
  """
  counts = np.asarray(counts, np.int64)
  while True:
    lengths = _optimal(counts)
    if lengths.max(initial=0) <= MAX_LENGTH:
      return lengths
    counts = np.where(counts > 0, (counts + 1) // 2, 0)


def _optimal(counts: np.ndarray) -> np.ndarray:
  lengths = np.zeros(len(counts), np.uint8)
  present = np.flatnonzero(counts)
  if len(present) < 2:
    lengths[present] = 1
    return lengths
  heap = [(int(counts[symbol]), int(symbol), [int(symbol)]) for symbol in present]
  heapq.heapify(heap)
  while len(heap) > 1:
    few, tie, some = heapq.heappop(heap)
    many, _, others = heapq.heappop(heap)
    for symbol in (*some, *others):
      lengths[symbol] += 1
    heapq.heappush(heap, (few + many, tie, some + others))
  return lengths


def _canonical(lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Symbols in the order of their codes, and each one's code, left-justified in MAX_LENGTH bits."""
  order = np.lexsort((np.arange(len(lengths)), lengths))
  order = order[lengths[order] > 0]
  widths = 1 << (MAX_LENGTH - lengths[order].astype(np.int64))
  return order, np.cumsum(widths) - widths


def encode(symbols: np.ndarray, lengths: np.ndarray) -> tuple[bytes, np.ndarray]:
  """The bits of symbols, most significant first, and the number of bits of each block.

  Args:
    symbols: int [n], each with a length above 0.
    lengths: from `code_lengths`.

  Returns:
    (bytes, uint16 [ceil(n / BLOCK)]).
  """
  order, codes = _canonical(lengths)
  by_symbol = np.zeros(len(lengths), np.int64)
  by_symbol[order] = codes
  parts, blocks, rest = [], [np.zeros(0, np.uint16)], np.zeros(0, np.uint8)
  for begin in range(0, len(symbols), _PIECE):
    piece = symbols[begin : begin + _PIECE]
    width = lengths.astype(np.int64)[piece]
    bits = np.append(rest, _bits(by_symbol[piece], width))
    whole = len(bits) - len(bits) % 8
    parts.append(np.packbits(bits[:whole]).tobytes())
    rest = bits[whole:]
    blocks.append(np.add.reduceat(width, np.arange(0, len(width), BLOCK)).astype(np.uint16))
  return b''.join(parts) + np.packbits(rest).tobytes(), np.concatenate(blocks)


def _bits(codes: np.ndarray, width: np.ndarray) -> np.ndarray:
  """The first `width` bits of codes of MAX_LENGTH bits, one after the other."""
  starts = np.cumsum(width) - width
  bits = np.zeros(int(width.sum()), np.uint8)
  for place in range(MAX_LENGTH):
    long_enough = width > place
    digits = codes[long_enough] >> (MAX_LENGTH - 1 - place) & 1
    bits[starts[long_enough] + place] = digits
  return bits


def decode(data: bytes, blocks: np.ndarray, lengths: np.ndarray, count: int) -> np.ndarray:
  """`count` symbols again, uint16; the inverse of `encode`.

  Raises:
    ValueError: the bits are not those of so many symbols.
  """
  if not count:
    return np.zeros(0, np.uint16)
  order, codes = _canonical(lengths)
  blocks = np.asarray(blocks, np.int64)
  sizes = np.minimum(count - np.arange(len(blocks)) * BLOCK, BLOCK)
  fits = len(blocks) == -(-count // BLOCK) and (blocks >= sizes).all()
  if not len(order) or not fits or blocks.sum() > 8 * len(data):
    raise ValueError('The bits do not fit the number of symbols.')
  # Three bytes hold any code wherever it starts; the last ones may read past the end.
  raw = np.frombuffer(data + b'\0\0\0', np.uint8)
  ends = np.cumsum(blocks)
  places = ends - blocks
  found = np.zeros((len(blocks), BLOCK), np.uint16)
  widths = lengths.astype(np.int64)
  for number in range(int(sizes.max())):
    alive = sizes > number
    at = np.minimum(places[alive] >> 3, len(data))
    first, second, third = (raw[at + byte].astype(np.int64) for byte in range(3))
    window = (first << 16) | (second << 8) | third
    peek = (window >> (24 - MAX_LENGTH - (places[alive] & 7))) & ((1 << MAX_LENGTH) - 1)
    symbols = order[np.searchsorted(codes, peek, side='right') - 1]
    found[alive, number] = symbols
    places[alive] += widths[symbols]
  if not np.array_equal(places, ends):
    raise ValueError('The bits do not end where their block does.')
  return found.reshape(-1)[:count]
