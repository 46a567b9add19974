"""Feature maps in half precision, in memory as long as they fit and else in files.

A file has no name: the system removes it when the process ends, in whatever way. What is read back is
the same from both, so that results do not depend on the memory.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from secateurs.utils.errors import UserError

_MARGIN = 64 << 20  # Left free on the disk.
_HALF = np.dtype(np.float16)
_INFINITE = 0x7C00 << 1  # Bits of a float16 without its sign, from which on it is no real number.


class MapStore:
  """Where feature maps are kept.

  Attributes:
    room: bytes that it may take in memory; None: no limit.
    used: bytes in memory.
    on_disk: bytes in files.
  """

  def __init__(self, room: int | None = None, folder: str | os.PathLike | None = None) -> None:
    """Keeps nothing yet.

    Args:
      room: bytes in memory; None: no limit.
      folder: of the files; default: the system's for temporary files.
    """
    self.room, self._folder = room, folder
    self.used = self.on_disk = 0

  def new(self, shape: Sequence[int | None]) -> Maps:
    """Maps of samples of a shape, none yet."""
    return Maps(self, tuple(shape))

  def holding(self, array: np.ndarray) -> Maps:
    """Maps of the samples of an array [n, ...]."""
    maps = self.new(array.shape[1:])
    maps.append(array)
    return maps

  def has_room(self, size: int) -> bool:
    """Whether so many bytes more fit into memory."""
    return self.room is None or self.used + size <= self.room

  def file(self, size: int, file: int | None = None) -> int:
    """A file that has room for so many bytes more, as its descriptor: a new one, or a given one.

    Raises:
      UserError: the disk has not so many left, or the folder cannot be written.
    """
    folder = Path(self._folder or tempfile.gettempdir())
    try:
      folder.mkdir(parents=True, exist_ok=True)
      free = shutil.disk_usage(folder).free
      if free >= size + _MARGIN:
        if file is not None:
          return file
        with tempfile.TemporaryFile(dir=folder) as opened:
          return os.dup(opened.fileno())
      reason = f'{free >> 20} MB are left there'
    except OSError as error:
      reason = error.strerror or str(error)
    raise UserError(
      f'{folder} was expected to take {max(size >> 20, 1)} MB of feature maps, but {reason}: free some '
      'space, raise --max_memory_mb so that they stay in memory, or use fewer samples.'
    )


class Maps:
  """Feature maps [n, ...] of one tensor, appended part by part.

  A part is float16, or float32 where a value would not fit; what is no real number stays as it is.
  """

  def __init__(self, store: MapStore, shape: tuple[int | None, ...]) -> None:
    self.shape = shape
    self._store = store
    self._parts: list[_Part] = []
    self._starts = [0]
    self._file: int | None = None  # One for all parts that are not in memory.
    self._end = 0

  def __len__(self) -> int:
    return self._starts[-1]

  @property
  def dtype(self) -> np.dtype:
    """Of what is read back."""
    return np.result_type(*(part.dtype for part in self._parts)) if self._parts else _HALF

  def append(self, array: np.ndarray) -> None:
    """Adds samples [m, ...]."""
    self._add(as_half(array))

  def append_tensor(self, tensor: tf.Tensor) -> None:
    """Adds samples of any type that TensorFlow computes in, which converts them on all cores."""
    if not tensor.dtype.is_floating:
      self._add(tensor.numpy())
      return
    half = tf.cast(tensor, tf.float16).numpy()
    self._add(half if _all_finite(half) else tf.cast(tensor, tf.float32).numpy())

  def _add(self, part: np.ndarray) -> None:
    if not len(part):
      return
    store = self._store
    if store.has_room(part.nbytes):
      self._parts.append(_Part(part.dtype, part, 0))
      store.used += part.nbytes
    else:
      self._file = store.file(part.nbytes, self._file)
      _write(self._file, part, self._end)
      self._parts.append(_Part(part.dtype, None, self._end))
      self._end += part.nbytes
      store.on_disk += part.nbytes
    self._starts.append(self._starts[-1] + len(part))
    self.shape = part.shape[1:]

  def rows(self, start: int, stop: int) -> np.ndarray:
    """Samples from `start` to before `stop`."""
    return self.take(np.arange(start, min(stop, len(self))))

  def __getitem__(self, rows: slice) -> np.ndarray:
    return self.take(np.arange(len(self))[rows])

  def whole(self) -> np.ndarray:
    """All samples."""
    return self.rows(0, len(self))

  def take(self, places: np.ndarray) -> np.ndarray:
    """The samples at some places, [k, ...]."""
    found = np.empty((len(places), *(axis or 0 for axis in self.shape)), self.dtype)
    owner = np.searchsorted(self._starts, places, side='right') - 1
    for number in np.unique(owner):
      mine = np.flatnonzero(owner == number)
      part, inside = self._parts[number], places[mine] - self._starts[number]
      if part.array is None:
        _read(self._file, part, inside, found, mine)
      else:
        found[mine] = part.array[inside]
    return found

  def gather(self, places: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    """The same inside a graph: samples at places int32 [k]."""
    kind = tf.as_dtype(self.dtype)
    found = tf.numpy_function(self.take, [places], kind, stateful=False)
    return tf.cast(tf.ensure_shape(found, [places.shape[0], *self.shape]), dtype)

  def clear(self) -> None:
    """Lets all samples go."""
    self._store.used -= sum(part.array.nbytes for part in self._parts if part.array is not None)
    self._store.on_disk -= self._end
    if self._file is not None:
      os.close(self._file)
    self._parts, self._starts, self._file, self._end = [], [0], None, 0

  def __del__(self) -> None:
    self.clear()


@dataclasses.dataclass(frozen=True)
class _Part:
  """Some samples: an array, or where they begin in the file."""

  dtype: np.dtype
  array: np.ndarray | None
  offset: int


def _write(file: int, array: np.ndarray, offset: int) -> None:
  view, done = memoryview(np.ascontiguousarray(array)).cast('B'), 0
  while done < len(view):
    done += os.pwrite(file, view[done:], offset + done)


def _read(file: int, part: _Part, places: np.ndarray, found: np.ndarray, at: np.ndarray) -> None:
  """Copies the part's samples at `places` to `found[at]`."""
  row = np.empty(found.shape[1:], part.dtype)
  view = memoryview(row).cast('B')
  for place, target in zip(places, at, strict=True):
    offset, done = part.offset + int(place) * len(view), 0
    while done < len(view):
      done += os.preadv(file, [view[done:]], offset + done)
    found[target] = row


def as_half(array: np.ndarray) -> np.ndarray:
  """Real numbers in float16, or in float32 where that would make a finite value infinite."""
  if array.dtype.kind != 'f':
    return array  # Tokens, say.
  with np.errstate(over='ignore'):
    half = array.astype(np.float16)
  return half if _all_finite(half) else array.astype(np.float32)


def _all_finite(half: np.ndarray) -> bool:
  """What np.isfinite(half).all() gives, by the bits: several times as fast."""
  if not half.size:
    return True
  return int((half.view(np.uint16) << 1).max()) < _INFINITE  # Without its sign.
