"""Lists of small whole numbers as bytes: with a fixed number of bits each, or Huffman codes.

  fixed    coder 0 (u8), count (u32), bits of a symbol (u8), the bits, most significant first
  Huffman  coder 1 (u8), count (u32), symbols of the alphabet (u16), lengths (u4 each, two a byte), bits
           of each block of 4096 symbols (u16 each), bytes of the codes (u32), the codes

All numbers are little-endian.
"""

from __future__ import annotations

import struct

import numpy as np

from secateurs.utils.deploy.packed import huffman

FIXED, HUFFMAN = 0, 1
_MAX_BITS = 16
_PIECE = 1 << 16  # Symbols whose bits are made at once; of any width they end with a byte.


def write(symbols: np.ndarray, size: int, coder: int) -> bytes:
  """Symbols, int [n] in [0, size), as bytes.

  Args:
    symbols: what to write.
    size: of the alphabet, at most 65535.
    coder: FIXED or HUFFMAN.
  """
  if coder == FIXED:
    bits = _width(size)
    pieces = [_fixed(symbols[i : i + _PIECE], bits) for i in range(0, len(symbols), _PIECE)]
    return struct.pack('<BIB', FIXED, len(symbols), bits) + b''.join(pieces)
  lengths = huffman.code_lengths(np.bincount(symbols, minlength=size))
  codes, blocks = huffman.encode(symbols, lengths)
  halves = np.append(lengths, np.zeros(len(lengths) % 2, np.uint8)).reshape(-1, 2)
  table = (halves[:, 0] << 4 | halves[:, 1]).astype(np.uint8).tobytes()
  head = struct.pack('<BIH', HUFFMAN, len(symbols), size)
  return head + table + blocks.astype('<u2').tobytes() + struct.pack('<I', len(codes)) + codes


def nb_bytes(symbols: np.ndarray, size: int, coder: int) -> int:
  """How many bytes `write` would make, without making them."""
  if coder == FIXED:
    return struct.calcsize('<BIB') - (-len(symbols) * _width(size) // 8)
  counts = np.bincount(symbols, minlength=size)
  bits = int(counts @ huffman.code_lengths(counts).astype(np.int64))
  fields = struct.calcsize('<BIH') + struct.calcsize('<I')
  return fields - (-size // 2) - 2 * (-len(symbols) // huffman.BLOCK) - (-bits // 8)


def _width(size: int) -> int:
  return max(int(size - 1).bit_length(), 1)


def _fixed(symbols: np.ndarray, bits: int) -> bytes:
  digits = np.asarray(symbols, np.int64)[:, None] >> np.arange(bits - 1, -1, -1) & 1
  return np.packbits(digits.astype(np.uint8).reshape(-1)).tobytes()


class Reader:
  """Reads numbers and streams from bytes, one after the other."""

  def __init__(self, data: bytes) -> None:
    self._data, self._place = data, 0

  def take(self, number: int) -> bytes:
    """The next bytes.

    Raises:
      ValueError: there are not so many.
    """
    part = self._data[self._place : self._place + number]
    if len(part) != number:
      raise ValueError('The data end too early.')
    self._place += number
    return part

  def unpack(self, form: str) -> tuple:
    """The next numbers, by a form of `struct`."""
    return struct.unpack(form, self.take(struct.calcsize(form)))

  def floats(self, number: int) -> np.ndarray:
    """The next float32 numbers."""
    return np.frombuffer(self.take(4 * number), '<f4')

  def halves(self, number: int) -> np.ndarray:
    """The next float16 numbers, as float32."""
    return np.frombuffer(self.take(2 * number), '<f2').astype(np.float32)

  def symbols(self, most: int) -> np.ndarray:
    """The symbols of the next stream, uint16 [n].

    Args:
      most: as many as there may be.

    Raises:
      ValueError: it is damaged, or has more.
    """
    coder, count = self.unpack('<BI')
    if count > most:
      raise ValueError(f'A stream of {count} symbols came where there can be {most}.')
    if coder == FIXED:
      (bits,) = self.unpack('<B')
      if not 1 <= bits <= _MAX_BITS:
        raise ValueError(f'{bits} is no number of bits of a symbol.')
      digits = np.unpackbits(np.frombuffer(self.take(-(-count * bits // 8)), np.uint8))
      found = np.zeros(count, np.uint16)
      for place in range(bits):
        found <<= 1
        found |= digits[place : count * bits : bits]
      return found
    if coder != HUFFMAN:
      raise ValueError(f'{coder} is no coder.')
    (size,) = self.unpack('<H')
    halves = np.frombuffer(self.take(-(-size // 2)), np.uint8)
    lengths = np.stack([halves >> 4, halves & 15], axis=1).reshape(-1)[:size]
    blocks = np.frombuffer(self.take(2 * -(-count // huffman.BLOCK)), '<u2')
    (length,) = self.unpack('<I')
    return huffman.decode(self.take(length), blocks, lengths, count)
