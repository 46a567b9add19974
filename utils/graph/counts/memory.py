"""Bytes of feature maps that one sample needs, from the shapes of a network alone.

Training stores what the backward pass reads: a convolution, a dense layer and a normalisation read
their inputs again, an activation its output. Inference holds what later layers still read.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Sequence

import tensorflow as tf
import tf_keras as keras

from secateurs.utils.graph.flat.walk import Call, FlatModel

_LAYERS = keras.layers
_KEEP_OUTPUT = (_LAYERS.ReLU, _LAYERS.Activation, _LAYERS.Softmax, _LAYERS.Dropout)
_KEEP_NOTHING = (
  _LAYERS.Add,
  _LAYERS.Average,
  _LAYERS.Concatenate,
  _LAYERS.Flatten,
  _LAYERS.Reshape,
  _LAYERS.ZeroPadding2D,
  _LAYERS.GlobalAveragePooling2D,
  _LAYERS.AveragePooling2D,
  _LAYERS.InputLayer,
)
_ADDITIONS = ('__operators__.add', 'math.add')
_INFERENCE_BYTES = 256 << 20  # Larger batches than this holds are no faster.
_INFERENCE_SAMPLES = 500
_SIZE_IF_OPEN = 1  # Of an axis whose size the network leaves open.


@dataclasses.dataclass(frozen=True)
class MapBytes:
  """Feature maps of one sample, in bytes.

  Attributes:
    training: stored between the forward and the backward pass.
    inference: the most that is held at any moment of a forward pass.
    largest: the largest single map.
  """

  training: int
  inference: int
  largest: int


def map_bytes(flat: FlatModel, calls: Sequence[Call] | None = None) -> MapBytes:
  """Counts the feature maps of a network, or of some consecutive calls of it.

  Args:
    flat: the network.
    calls: in topological order; default: all.
  """
  calls = flat.calls if calls is None else calls
  kept: set[int] = set()
  for call in calls:
    kept |= _kept(call)
  return MapBytes(
    sum(tensor_bytes(flat, number) for number in kept),
    _most_held(flat, calls),
    max(
      (tensor_bytes(flat, n) for call in calls for n in (*call.inputs, *call.outputs)), default=0
    ),
  )


def inference_batch(flat: FlatModel, wanted: int) -> int:
  """How many samples to run at once, at most `wanted`: as many as 256 MB of feature maps hold."""
  most = max(map_bytes(flat).inference, 1)
  return max(min(wanted, _INFERENCE_BYTES // most), 1)


def inference_bytes(maps: MapBytes) -> int:
  """What such a batch holds at the most."""
  return max(min(_INFERENCE_BYTES, _INFERENCE_SAMPLES * maps.inference), maps.inference)


def tensor_bytes(flat: FlatModel, number: int) -> int:
  """Bytes of one sample's part of a tensor."""
  shape = flat.shapes[number][1:]
  size = math.prod(_SIZE_IF_OPEN if axis is None else axis for axis in shape)
  return size * tf.as_dtype(flat.dtypes[number]).size


def all_bytes(flat: FlatModel) -> int:
  """Bytes of one sample's part of all tensors, where each is kept."""
  return sum(tensor_bytes(flat, number) for call in flat.calls for number in call.outputs)


def _kept(call: Call) -> set[int]:
  layer = call.layer
  if isinstance(layer, _KEEP_NOTHING) or getattr(layer, 'symbol', None) in _ADDITIONS:
    return set()
  if isinstance(layer, _KEEP_OUTPUT):
    return set(call.outputs)
  activation = getattr(layer, 'activation', None)
  plain = activation in (None, keras.activations.linear)
  # The sum before an activation is overwritten by it where its gradient needs the output only.
  return set(call.inputs) if plain else {*call.inputs, *call.outputs}


def _most_held(flat: FlatModel, calls: Sequence[Call]) -> int:
  return max(held_bytes(flat, calls), default=0)


def held_bytes(flat: FlatModel, calls: Sequence[Call] | None = None) -> list[int]:
  """Bytes of one sample's tensors that are held before the first call and during each."""
  calls = flat.calls if calls is None else calls
  last = {number: index for index, call in enumerate(calls) for number in call.inputs}
  ends: Collection[int] = set(flat.outputs)
  held = {n for n in last if not any(n in call.outputs for call in calls[: last[n]])}
  size = sum(tensor_bytes(flat, number) for number in held)
  sizes = [size]
  for index, call in enumerate(calls):
    new = set(call.outputs) - held
    held |= new
    size += sum(tensor_bytes(flat, number) for number in new)
    sizes.append(size)
    gone = {n for n in (*call.inputs, *call.outputs) if last.get(n, -1) <= index and n not in ends}
    gone &= held
    held -= gone
    size -= sum(tensor_bytes(flat, number) for number in gone)
  return sizes
