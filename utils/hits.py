"""Which samples of an evaluation came out right: two networks are compared by them, one by one."""

from __future__ import annotations

import base64
from typing import TypedDict

import numpy as np


class Hits(TypedDict):
  """One bit for each sample, as reports hold it."""

  samples: int
  bits: str  # base64 of the bits, eight to a byte, the first sample in the highest bit


def packed(right: np.ndarray) -> Hits:
  """Packs what is right of every sample, bool [n], in the order of the data."""
  bits = base64.b64encode(np.packbits(right).tobytes()).decode('ascii')
  return Hits(samples=len(right), bits=bits)


def unpacked(hits: Hits) -> np.ndarray:
  """The samples again, bool [n].

  Raises:
    ValueError: there are fewer bits than samples, or they are no base64.
  """
  raw = np.frombuffer(base64.b64decode(hits['bits'], validate=True), np.uint8)
  if hits['samples'] > 8 * raw.size:
    raise ValueError(f'{hits["samples"]} samples have {8 * raw.size} bits.')
  return np.unpackbits(raw, count=hits['samples']).astype(bool)


def disagreements(first: Hits | None, second: Hits | None) -> tuple[int, int] | None:
  """How many samples only the first has right, and how many only the second.

  None where one is not known, or they are of different numbers of samples.
  """
  if first is None or second is None or first['samples'] != second['samples']:
    return None
  a, b = unpacked(first), unpacked(second)
  return int(np.sum(a & ~b)), int(np.sum(b & ~a))
