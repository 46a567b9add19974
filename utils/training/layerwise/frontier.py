"""Feature maps at a cut that moves through a network: what has been computed is not computed again."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from secateurs.utils import nested
from secateurs.utils.graph.flat.cuts import calls_between, crossing, run_calls
from secateurs.utils.graph.flat.walk import Call, FlatModel

_BATCH = 128
_BYTES = 2


class Frontier:
  """All tensors that cross a cut, for some images, in inference mode.

  They are held in float16 (float32 where a value would not fit). Layers before the cut must not
  change any more; those after it may.

  Attributes:
    flat: the network.
    position: calls before the cut.
    tensors: what crosses it, [n, ...] by tensor number.
  """

  def __init__(self, flat: FlatModel, images: Any) -> None:
    """Starts in front of the first layer with inputs [n, ...], several of them in a tuple."""
    self.flat = flat
    self.position = 0
    numbers = [number for number, _ in flat.inputs]
    self.tensors: dict[int, np.ndarray] = {
      number: as_half(np.asarray(one))
      for number, one in zip(numbers, nested.parts(images), strict=True)
    }

  def advance(self, position: int) -> None:
    """Moves the cut to after the first `position` calls."""
    if position > self.position:
      calls = self.flat.calls[self.position : position]
      self.tensors = self._run(calls, crossing(self.flat, position))
      self.position = position

  def peek(self, wanted: Collection[int]) -> dict[int, np.ndarray]:
    """Tensors after the cut, [n, ...] by number; the cut stays."""
    return self._run(calls_between(self.flat, self.position, wanted), wanted)

  def _run(self, calls: Sequence[Call], wanted: Collection[int]) -> dict[int, np.ndarray]:
    size = len(next(iter(self.tensors.values())))
    if not size:  # A process may have no image.
      shapes = {number: self.flat.shapes[number][1:] for number in wanted}
      return {number: np.zeros((0, *shape), np.float16) for number, shape in shapes.items()}
    parts: dict[int, list[np.ndarray]] = {number: [] for number in wanted}
    for first in range(0, size, _BATCH):
      given = {
        number: tf.cast(array[first : first + _BATCH], self.flat.dtypes[number])
        for number, array in self.tensors.items()
      }
      for number, value in run_calls(calls, given, wanted=wanted).items():
        value = tf.cast(value, tf.float32) if value.dtype.is_floating else value
        parts[number].append(as_half(value.numpy()))
    return {number: np.concatenate(arrays) for number, arrays in parts.items()}


def as_half(array: np.ndarray) -> np.ndarray:
  """Real numbers in float16, or in float32 where that would make a finite value infinite."""
  if array.dtype.kind != 'f':
    return array  # Tokens, say.
  with np.errstate(over='ignore'):
    half = array.astype(np.float16)
  return half if np.isfinite(half).all() else array.astype(np.float32)


def bytes_per_image(flat: FlatModel, position: int) -> int:
  """What a frontier at a position holds for one image."""
  shapes = [flat.shapes[number] for number in crossing(flat, position)]
  return _BYTES * sum(int(np.prod(shape[1:])) for shape in shapes)
