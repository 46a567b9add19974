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
from secateurs.utils.graph.flat.walk import Call, FlatModel, flatten_model
from secateurs.utils.training import distributed
from secateurs.utils.training.layerwise.least_squares import Moments, NormalEquations
from secateurs.utils.training.layerwise.linear import (
  is_addition,
  is_separable,
  kernel_matrix,
  kernel_of,
)
from secateurs.utils.training.layerwise.maps import Maps, MapStore

L = keras.layers
_PASSING = (L.Dropout, L.SpatialDropout1D, L.SpatialDropout2D, L.SpatialDropout3D)
_MIN_SHARE = 1e-3


@dataclasses.dataclass(frozen=True)
class Target:
  """A layer that is refit, and where its output goes.

  Attributes:
    call: its call.
    norm: the BatchNormalization after it, if that alone reads its output.
    others: tensors that are added to its output, after `norm` or not; empty without an addition.
  """

  call: Call
  norm: str | None
  others: tuple[int, ...]


def find_target(flat: FlatModel, name: str) -> Target:
  """Follows a layer's output to its normalisation and to an addition."""
  call = flat.calls_by_layer()[name][0]
  readers = _readers(flat)
  norm, tensor = None, call.outputs[0]
  plain = getattr(call.layer, 'activation', None) in (None, keras.activations.linear)
  while plain and tensor not in flat.outputs and len(readers[tensor]) == 1:
    step = readers[tensor][0]
    layer = step.layer
    shared = len(flat.calls_by_layer()[step.name]) > 1
    if type(layer) is L.BatchNormalization and norm is None and not shared:
      norm = step.name
    elif is_addition(layer) and len(step.inputs) > 1:
      same = all(flat.shapes[i] == flat.shapes[tensor] for i in step.inputs)
      others = tuple(i for i in step.inputs if i != tensor)
      return Target(call, norm, others if same and len(others) == len(step.inputs) - 1 else ())
    elif not isinstance(layer, _PASSING):
      break
    tensor = step.outputs[0]
  return Target(call, norm, ())


def _readers(flat: FlatModel) -> list[list[Call]]:
  readers: list[list[Call]] = [[] for _ in flat.shapes]
  for call in flat.calls:
    for number in set(call.inputs):
      readers[number].append(call)
  return readers


def _affine(layers: Mapping[str, L.Layer], target: Target) -> tuple[np.ndarray, np.ndarray]:
  """Factor and offset that bias and normalisation give a layer's sums at inference, [outputs]."""
  layer = layers[target.call.name]
  size = kernel_of(layer).shape[-1]
  offset = layer.bias.numpy().astype(np.float64) if layer.use_bias else np.zeros(size)
  if target.norm is None:
    return np.ones(size), offset
  norm = layers[target.norm]
  scale = 1 / np.sqrt(norm.moving_variance.numpy().astype(np.float64) + norm.epsilon)
  if norm.scale:
    scale = scale * norm.gamma.numpy()
  shift = norm.beta.numpy() if norm.center else 0.0
  return scale, scale * (offset - norm.moving_mean.numpy()) + shift


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
    readers = _readers(self.original)
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
    scale, offset = _affine(self.original.layers(), target)
    now_scale, now_offset = _affine(self.pruned.layers(), target)
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
    return _affine(self.pruned.layers(), target)[0]

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


def has_shift(target: Target) -> bool:
  """Whether an intercept can be given to the layer: by its bias, or by the mean after it."""
  return bool(target.call.layer.use_bias) or target.norm is not None


def patches(maps: np.ndarray, layer: keras.layers.Layer, points: tuple) -> np.ndarray:
  """The input rows that a layer multiplies with its kernel at some output positions.

  Args:
    maps: [n, h, w, c] (or [n, t, c], [n, d, h, w, c]), or [n, ..., c] for a Dense layer.
    layer: a convolution, plain or separable, or a Dense layer.
    points: index arrays of output positions: (image, row, column), or (image,) for flat rows.

  Returns:
    [points, k * k * c], in the order of the flattened kernel, or [points, c]. For a separable
    convolution what its depthwise kernel makes of them, [points, c * multiplier].
  """
  if isinstance(layer, L.Dense):
    return maps[points]
  nb_axes, nb_points = len(points) - 1, len(points[0])
  inside, places = np.ones((nb_points, *[1] * nb_axes), bool), []
  for axis in range(nb_axes):
    starts = _starts(layer, axis, maps.shape[1 + axis])
    reach = np.arange(layer.kernel_size[axis]) * layer.dilation_rate[axis]
    found = points[1 + axis][:, None] * layer.strides[axis] - starts + reach
    found = found.reshape(nb_points, *[1] * axis, -1, *[1] * (nb_axes - 1 - axis))
    inside = inside & (found >= 0) & (found < maps.shape[1 + axis])
    places.append(np.clip(found, 0, maps.shape[1 + axis] - 1))
  images = points[0].reshape(nb_points, *[1] * nb_axes)
  found = np.where(inside[..., None], maps[(images, *places)], 0)
  if not is_separable(layer):
    return found.reshape(nb_points, -1)
  depthwise = layer.depthwise_kernel.numpy()
  depthwise = depthwise.reshape(-1, *depthwise.shape[-2:])
  found = found.reshape(nb_points, len(depthwise), -1).astype(depthwise.dtype)
  return np.einsum('pkc,kcm->pcm', found, depthwise, optimize=True).reshape(nb_points, -1)


def _starts(layer: keras.layers.Layer, axis: int, size: int) -> int:
  """Zeros that a convolution puts before an axis of its input."""
  reach = (layer.kernel_size[axis] - 1) * layer.dilation_rate[axis] + 1
  if layer.padding == 'causal':
    return reach - 1
  if layer.padding != 'same':
    return 0
  stride = layer.strides[axis]
  return max((-(-size // stride) - 1) * stride + reach - size, 0) // 2
