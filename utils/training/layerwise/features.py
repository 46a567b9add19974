"""Feature maps of a network and of what has been pruned of it so far, and what layers need of them.

Both networks run side by side over the same images, layer by layer, once: a feature map is computed
when a layer asks for it and forgotten when all of its readers have run. As long as nothing upstream
has changed the two share it.
"""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

from secateurs.utils import nested
from secateurs.utils.graph.counts.memory import inference_batch
from secateurs.utils.graph.flat.cuts import run_calls
from secateurs.utils.graph.flat.walk import Call, flatten_model
from secateurs.utils.training import distributed
from secateurs.utils.training.layerwise.least_squares import Moments, NormalEquations
from secateurs.utils.training.layerwise.linear import is_separable, kernel_matrix
from secateurs.utils.training.layerwise.maps import Maps, MapStore
from secateurs.utils.training.layerwise.patches import patches
from secateurs.utils.training.layerwise.targets import Target, affine, has_shift, readers_of

_MIN_SHARE = 1e-3


class Features:
  """The feature maps of two networks of the same structure over some images.

  Attributes:
    original: the network before.
    pruned: the network that is being pruned; `changed` names layers that change.
  """

  def __init__(
    self,
    original: keras.Model,
    pruned: keras.Model,
    batches: Sequence[Any],
    *,
    seed: int,
    nb_points: int,
    store: MapStore | None = None,
  ) -> None:
    """Starts in front of the first layer.

    Args:
      original: the network before.
      pruned: one of the same structure.
      batches: inputs [n, ...].
      seed: of the sampled positions.
      nb_points: how many are sampled per image and layer.
      store: where feature maps are kept; default: all in memory.
    """
    self.original, self.pruned = flatten_model(original), flatten_model(pruned)
    self._calls = self.original.calls
    self._twins = self.pruned.calls
    if [c.name for c in self._calls] != [c.name for c in self._twins]:
      raise ValueError('The two networks must have the same layers in the same order.')
    self._seed, self._nb_points = seed, nb_points
    readers = readers_of(self.original)
    self._left = [len(calls) for calls in readers]
    self._producer = {out: i for i, call in enumerate(self._calls) for out in call.outputs}
    self._ancestors: dict[int, frozenset[int]] = {}
    self._done = [False] * len(self._calls)
    self._changed: set[str] = set()
    self._differs: set[int] = set()
    self._store = store or MapStore()
    sizes = [nested.size(batch) for batch in batches]
    self._batch = inference_batch(self.original, max(sizes, default=1))
    # Of each batch its first sample and the one after its last.
    ends = np.cumsum([0, *sizes])
    self._bounds = list(zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True))
    self._before: dict[int, Maps] = {n: self._new(n) for n, _ in self.original.inputs}
    for batch in batches:
      for maps, part in zip(self._before.values(), nested.parts(batch), strict=True):
        maps.append(np.asarray(part))
    self._after: dict[int, Maps] = {}

  def changed(self, names: Collection[str]) -> None:
    """Says that layers of the pruned network have other weights from here on."""
    self._changed |= set(names)

  def ancestors(self, tensor: int) -> frozenset[int]:
    """Indices of the calls that a tensor depends on."""
    if tensor not in self._producer:
      return frozenset()
    # In topological order, so that the depth of the network is no depth of recursion.
    for index in range(len(self._ancestors), self._producer[tensor] + 1):
      call = self._calls[index]
      above = [self._ancestors[self._producer[t]] for t in call.inputs if t in self._producer]
      self._ancestors[index] = frozenset({index}).union(*above)
    return self._ancestors[self._producer[tensor]]

  def layers_above(self, tensor: int) -> set[str]:
    """Names of the layers that a tensor depends on."""
    return {self._calls[i].name for i in self.ancestors(tensor)}

  def maps(self, tensor: int) -> tuple[Maps, Maps]:
    """Feature maps of the original and of the pruned network."""
    todo = [index for index in sorted(self.ancestors(tensor)) if not self._done[index]]
    if todo:
      self._run(todo, tensor)
    before = self._before[tensor]
    return before, self._after[tensor] if tensor in self._differs else before

  def _run(self, todo: list[int], tensor: int) -> None:
    """Runs some calls of both networks; what later calls read is kept, and `tensor`."""
    calls = [self._calls[index] for index in todo]
    twins = [self._twins[index] for index in todo if self._sees_change(self._calls[index])]
    for index in todo:
      self._done[index] = True
      for number in set(self._calls[index].inputs):
        self._left[number] -= 1
    made = {number for call in calls for number in call.outputs}
    kept = {n for n in made if self._left[n] or n == tensor}
    read = {n for call in calls for n in call.inputs} - made
    shared = {n for call in twins for n in call.inputs} - self._differs
    before = {number: self._new(number) for number in kept}
    after = {number: self._new(number) for number in kept & self._differs}
    for first in range(0, self._bounds[-1][1] if self._bounds else 0, self._batch):
      last = min(first + self._batch, self._bounds[-1][1])
      values = {n: self._values(self._before[n], n, first, last) for n in read}
      found = run_calls(calls, values, wanted=[*(kept | (shared & made))])
      _append(before, found)
      if after:
        values |= found
        given = {n: values[n] for n in shared}
        given |= {n: self._values(self._after[n], n, first, last) for n in read & self._differs}
        _append(after, run_calls(twins, given, wanted=list(after)))
    self._before |= before
    self._after |= after
    for number in read:
      if not self._left[number]:
        # Whoever still looks at them keeps them.
        self._before.pop(number, None)
        self._after.pop(number, None)

  def _sees_change(self, call: Call) -> bool:
    """Whether the pruned network's call gives something else; notes what comes out of it."""
    differs = call.name in self._changed or any(t in self._differs for t in call.inputs)
    if differs:
      self._differs.update(call.outputs)
    return differs

  def _new(self, number: int) -> Maps:
    return self._store.new(self.original.shapes[number][1:])

  def _values(self, maps: Maps, number: int, first: int, last: int) -> tf.Tensor:
    return tf.cast(maps.rows(first, last), self.original.dtypes[number])

  def equations(self, target: Target, compensate: bool) -> NormalEquations:
    """Normal equations of a layer: input rows of the pruned network against what it should give.

    With s x + o what bias and normalisation make of a sum x in the original network, and s', o' in
    the pruned one, the layer should give (s Y + o + Y1 - Y1' - o') / s' for the original's sum Y:
    then what comes out after them, and after an addition, is that of the original.

    Sums are taken over the samples of all processes.

    Args:
      target: the layer.
      compensate: whether to make up for the error of what is added, Y1 - Y1'.
    """
    layer = target.call.layer
    kernel = kernel_matrix(layer)
    twin = self.pruned.layers()[target.call.name]
    before, after = self.maps(target.call.inputs[0])
    same = after is before and not (is_separable(layer) and _rows_differ(layer, twin))
    lost = self._lost(target) if compensate else []
    scale, offset = affine(self.original.layers(), target)
    now_scale, now_offset = affine(self.pruned.layers(), target)
    usable = np.abs(now_scale) > _MIN_SHARE * np.abs(now_scale).max()
    inverse = np.where(usable, 1 / np.where(usable, now_scale, 1), 0.0)
    factor = np.where(usable, scale * inverse, 1.0)
    shift = (offset - now_offset) * inverse
    sums = NormalEquations.empty(*kernel.shape)
    rng = np.random.default_rng([self._seed, zlib.crc32(target.call.name.encode())])
    index, nb_ranks = distributed.shard()
    for i, (first, last) in enumerate(self._bounds):
      x = before.rows(first, last)
      # Other ranks hold the batches between: with their draws passed over, all points together are
      # those that one process would draw.
      for _ in range(nb_ranks - 1 if i else index):
        self._points(rng, target, len(x))
      points = self._points(rng, target, len(x))
      rows = patches(x, layer, points).astype(np.float32)
      wanted = (rows @ kernel.astype(rows.dtype)) * factor + shift
      for one, other in lost:
        wanted += (
          one.rows(first, last)[points].astype(np.float32)
          - other.rows(first, last)[points].astype(np.float32)
        ) * inverse
      if not same:
        rows = patches(after.rows(first, last), twin, points).astype(np.float32)
      sums.add(rows, wanted)
    fields = dataclasses.fields(sums)
    totals = distributed.sum(*(getattr(sums, field.name) for field in fields))
    return NormalEquations(*totals)

  def moments(self, target: Target, compensate: bool) -> Moments:
    """Moments of `equations`, about the means where the layer or its normalisation can shift."""
    return self.equations(target, compensate).moments(has_shift(target))

  def scale(self, target: Target) -> np.ndarray:
    """What the outputs of a layer of the pruned network are multiplied with after it, [outputs]."""
    return affine(self.pruned.layers(), target)[0]

  def _lost(self, target: Target) -> list[tuple[Maps, Maps]]:
    """What is added beside the layer in the original and in the pruned network, where they differ."""
    pairs = [self.maps(number) for number in target.others]
    return [(before, after) for before, after in pairs if after is not before]

  def _points(self, rng: np.random.Generator, target: Target, nb_images: int) -> tuple:
    """Index arrays of sampled positions: (image, row, column), or (image,) for flat rows."""
    shape = self.original.shapes[target.call.outputs[0]]
    if len(shape) == 2:
      return (np.arange(nb_images),)
    images = np.repeat(np.arange(nb_images), self._nb_points)
    return images, *(rng.integers(0, size, len(images)) for size in shape[1:-1])


def _append(maps: Mapping[int, Maps], values: Mapping[int, tf.Tensor]) -> None:
  for number, one in maps.items():
    one.append_tensor(values[number])


def _rows_differ(one: keras.layers.Layer, other: keras.layers.Layer) -> bool:
  """Whether two separable convolutions make different maps for their pointwise kernels."""
  return (one.depthwise_kernel.numpy() != other.depthwise_kernel.numpy()).any()
