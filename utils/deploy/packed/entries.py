"""What the header of a .dc file says of each weight, checked before anything of that size is made."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np

from secateurs.utils.buckets import KINDS, Buckets

_KINDS_OF_TYPES = 'biufc'  # Those of NumPy that have a small, fixed size.


@dataclasses.dataclass(frozen=True)
class Entry:
  """One weight.

  Attributes:
    shape: of the weight.
    type: of its values.
    stored: of the values in the file.
    coded: bytes of a kernel that is coded; None of other weights.
    buckets: of such a kernel.
  """

  shape: tuple[int, ...]
  type: np.dtype
  stored: np.dtype
  coded: int | None = None
  buckets: Buckets | None = None

  @property
  def size(self) -> int:
    """How many values it has."""
    return math.prod(self.shape)

  @property
  def nb_bytes(self) -> int:
    """What it takes in memory."""
    return self.size * self.type.itemsize

  @property
  def nb_stored(self) -> int:
    """What it takes among the weights that are not coded, before they are deflated."""
    return self.size * self.stored.itemsize if self.buckets is None else 0


def parsed(entry: dict[str, Any]) -> Entry:
  """Reads what a header says of a weight.

  Raises:
    ValueError, KeyError, TypeError: it says something that no weight has.
  """
  shape = tuple(whole(side, 'side of a weight') for side in entry['shape'])
  if 'bytes' in entry:
    form = np.dtype('<f4')
    coded = whole(entry['bytes'], 'number of bytes')
    return Entry(shape, form, form, coded, _buckets(shape, *entry['buckets']))
  form = np.dtype(entry['type'])
  if form.kind not in _KINDS_OF_TYPES:
    raise ValueError(f'{entry["type"]!r} is no type of a weight')
  return Entry(shape, form, np.dtype('<f2') if entry.get('half') else form)


def whole(value: Any, what: str, low: int = 0) -> int:
  """A whole number of the header.

  Raises:
    ValueError: it is none, or too small.
  """
  if not isinstance(value, int) or isinstance(value, bool) or value < low:
    raise ValueError(f'{value!r} is no {what}')
  return value


def _buckets(shape: tuple[int, ...], kind: str, size: int, channel_axes: int) -> Buckets:
  if kind not in KINDS or not 1 <= whole(channel_axes, 'number of axes') <= max(len(shape), 1):
    raise ValueError(f'{kind!r} with {channel_axes!r} axes is no way of grouping weights')
  # The last row is filled up to the size of a bucket, which could be any.
  largest = max(math.prod(shape), 1)
  return Buckets(shape, kind, min(whole(size, 'size of a bucket', 1), largest), channel_axes)
