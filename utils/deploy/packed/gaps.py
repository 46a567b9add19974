"""Where the weights that are not zero lie: numbers of zeros before each (Han et al. 2016, section 2).

A gap of `most` = 2^bits - 1 zeros or more is written as `most`, which stands for so many zeros and no
weight, as often as need be. Deviation: the paper pads with zero weights, which cost a value each.
"""

from __future__ import annotations

import numpy as np


def to_gaps(nonzero: np.ndarray, bits: int) -> np.ndarray:
  """Gap symbols of a bool array [n], int64 in [0, 2^bits)."""
  most = 2**bits - 1
  zeros = np.diff(np.append(-1, np.flatnonzero(nonzero))) - 1
  fillers = zeros // most
  symbols = np.full(int((fillers + 1).sum()), most)
  symbols[np.cumsum(fillers + 1) - 1] = zeros % most
  return symbols


def from_gaps(symbols: np.ndarray, bits: int, size: int) -> np.ndarray:
  """The bool array [size] of gap symbols.

  Raises:
    ValueError: they reach past its end.
  """
  most = 2**bits - 1
  is_weight = symbols != most
  places = np.cumsum(np.where(is_weight, np.asarray(symbols, np.int64) + 1, most)) - 1
  if len(places) and places[-1] >= size:
    raise ValueError('The gaps reach past the end of the kernel.')
  nonzero = np.zeros(size, bool)
  nonzero[places[is_weight]] = True
  return nonzero
