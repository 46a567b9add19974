"""Feature maps at a cut that moves through a network: what has been computed is not computed again."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from secateurs.utils import nested
from secateurs.utils.graph.counts.memory import inference_batch
from secateurs.utils.graph.flat.cuts import calls_between, crossing, run_calls
from secateurs.utils.graph.flat.walk import Call, FlatModel
from secateurs.utils.training.layerwise.maps import Maps, MapStore

_BATCH = 128
_BYTES = 2
_Run = Callable[[Mapping[int, tf.Tensor]], Mapping[int, tf.Tensor]]


class Frontier:
  """All tensors that cross a cut, for some images, in inference mode.

  They are held in float16 (float32 where a value would not fit). Layers before the cut must not
  change any more; those after it may.

  Attributes:
    flat: the network.
    position: calls before the cut.
    tensors: what crosses it, [n, ...] by tensor number.
  """

  def __init__(self, flat: FlatModel, images: Any, store: MapStore | None = None) -> None:
    """Starts in front of the first layer with inputs [n, ...], several of them in a tuple."""
    self.flat = flat
    self.position = 0
    self._store = store or MapStore()
    self._batch = inference_batch(flat, _BATCH)
    self.tensors: dict[int, Maps] = {
      number: self._store.holding(np.asarray(one))
      for (number, _), one in zip(flat.inputs, nested.parts(images), strict=True)
    }

  def advance(self, position: int) -> None:
    """Moves the cut to after the first `position` calls."""
    if position > self.position:
      calls = self.flat.calls[self.position : position]
      after = self._run(calls, crossing(self.flat, position))
      for number, maps in self.tensors.items():
        if number not in after:
          maps.clear()
      self.tensors = after
      self.position = position

  def peek(self, wanted: Collection[int]) -> dict[int, Maps]:
    """Tensors after the cut, [n, ...] by number; the cut stays."""
    return self._run(calls_between(self.flat, self.position, wanted), wanted)

  def lookout(self, wanted: Collection[int]) -> Callable[[], dict[int, Maps]]:
    """What gives the same as `peek`, up to rounding, while the cut stays: compiled when first used."""
    calls = calls_between(self.flat, self.position, wanted)
    made = [number for number in wanted if number not in self.tensors]
    given = {n: self._spec(n) for n in self._read(calls)}  # Batches of all sizes: one graph.
    run = functools.partial(run_calls, calls, wanted=made)
    compiled = tf.function(run, input_signature=[given], autograph=False)
    return lambda: self._run(calls, wanted, compiled)

  def _spec(self, number: int) -> tf.TensorSpec:
    return tf.TensorSpec((None, *self.flat.shapes[number][1:]), self.flat.dtypes[number])

  def _read(self, calls: Sequence[Call]) -> set[int]:
    return {number for call in calls for number in call.inputs}.intersection(self.tensors)

  def close(self) -> None:
    """Lets all feature maps go."""
    for maps in self.tensors.values():
      maps.clear()

  def _run(
    self, calls: Sequence[Call], wanted: Collection[int], run: _Run | None = None
  ) -> dict[int, Maps]:
    found = {number: self.tensors[number] for number in wanted if number in self.tensors}
    made = {n: self._store.new(self.flat.shapes[n][1:]) for n in wanted if n not in self.tensors}
    run = run or functools.partial(run_calls, calls, wanted=list(made))
    read = self._read(calls)
    size = len(next(iter(self.tensors.values())))
    for first in range(0, size, self._batch) if made else ():
      given = {
        n: tf.cast(self.tensors[n].rows(first, first + self._batch), self.flat.dtypes[n])
        for n in read
      }
      for number, value in run(given).items():
        made[number].append_tensor(value)
    return found | made


def bytes_per_image(flat: FlatModel, position: int) -> int:
  """What a frontier at a position holds for one image."""
  shapes = [flat.shapes[number] for number in crossing(flat, position)]
  return _BYTES * sum(int(np.prod(shape[1:])) for shape in shapes)
