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


def write(symbols: np.ndarray, size: int, coder: int) -> bytes:
  """Symbols, int [n] in [0, size), as bytes.

  Args:
    symbols: what to write.
    size: of the alphabet, at most 65535.
    coder: FIXED or HUFFMAN.
  """
  symbols = np.asarray(symbols, np.int64)
  if coder == FIXED:
    bits = max(int(size - 1).bit_length(), 1)
    digits = symbols[:, None] >> np.arange(bits - 1, -1, -1) & 1
    packed = np.packbits(digits.astype(np.uint8).reshape(-1)).tobytes()
    return struct.pack('<BIB', FIXED, len(symbols), bits) + packed
  lengths = huffman.code_lengths(np.bincount(symbols, minlength=size))
  codes, blocks = huffman.encode(symbols, lengths)
  halves = np.append(lengths, np.zeros(len(lengths) % 2, np.uint8)).reshape(-1, 2)
  table = (halves[:, 0] << 4 | halves[:, 1]).astype(np.uint8).tobytes()
  head = struct.pack('<BIH', HUFFMAN, len(symbols), size)
  return head + table + blocks.astype('<u2').tobytes() + struct.pack('<I', len(codes)) + codes


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

  def symbols(self) -> np.ndarray:
    """The symbols of the next stream, int64 [n].

    Raises:
      ValueError: it is damaged.
    """
    coder, count = self.unpack('<BI')
    if coder == FIXED:
      (bits,) = self.unpack('<B')
      raw = np.frombuffer(self.take(-(-count * bits // 8)), np.uint8)
      digits = np.unpackbits(raw)[: count * bits].reshape(count, bits).astype(np.int64)
      return digits @ (1 << np.arange(bits - 1, -1, -1))
    if coder != HUFFMAN:
      raise ValueError(f'{coder} is no coder.')
    (size,) = self.unpack('<H')
    halves = np.frombuffer(self.take(-(-size // 2)), np.uint8)
    lengths = np.stack([halves >> 4, halves & 15], axis=1).reshape(-1)[:size]
    blocks = np.frombuffer(self.take(2 * -(-count // huffman.BLOCK)), '<u2')
    (length,) = self.unpack('<I')
    return huffman.decode(self.take(length), blocks, lengths, count)
