"""Cuts a network into segments: a layer, and what the converter fuses into it.

A segment is timed alone, as a small separate network, with any numbers of channels.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from typing import Any

import tensorflow as tf
import tf_keras as keras

from secateurs.utils.graph.flat.rebuild import fill
from secateurs.utils.graph.flat.walk import Call, FlatModel

_WIDTH = {'Dense': 'units'}  # Entry of a config that holds the number of channels made.
_FREE = ('BatchNormalization', 'ReLU', 'Dropout', 'SpatialDropout2D')
_NO_TIME = (*_FREE, 'ActivityRegularization', 'Identity')
_NAMED = ('name', 'trainable', 'dtype', 'filters', 'units', 'batch_input_shape', 'use_bias')
_ENDS = ('softmax', 'sigmoid')
"""Activations that a run trains a classifier's last layer without, and times it alike."""
_OF_TRAINING = ('_initializer', '_regularizer', '_constraint')


@dataclasses.dataclass(frozen=True)
class Segment:
  """A layer and the layers after it that run within it.

  Attributes:
    index: number of its first call in the flattened model.
    calls: its calls, in order.
    in_shapes: shapes of its inputs without the batch.
    out_channels: channels of its output, whole.
    makes: whether its first layer makes as many channels as its config says, whatever comes in.
    key: equal for segments that take equally long at equal numbers of channels.
  """

  index: int
  calls: tuple[Call, ...]
  in_shapes: tuple[tuple[int, ...], ...]
  out_channels: int
  makes: bool
  key: str

  @property
  def text(self) -> str:
    """The segment for people."""
    first = self.calls[0].layer
    parts = [type(first).__name__]
    for name in ('kernel_size', 'pool_size', 'strides', 'size'):
      value = getattr(first, name, None)
      if isinstance(value, tuple):
        parts.append('x'.join(map(str, value)))
    parts.append('at ' + 'x'.join(map(str, self.in_shapes[0][:-1])) if self.in_shapes else '')
    return ' '.join(parts + [f'+ {type(call.layer).__name__}' for call in self.calls[1:]])


def segments_of(flat: FlatModel) -> list[Segment]:
  """The segments of a network in order; each call is in one.

  A layer follows in a segment if it computes element by element and is all that reads the one before.
  """
  readers: dict[int, int] = dict.fromkeys(flat.outputs, 1)
  for call in flat.calls:
    for number in set(call.inputs):
      readers[number] = readers.get(number, 0) + 1
  chains: list[list[int]] = []
  ends: dict[int, int] = {}  # Output of a chain -> its number.
  for index, call in enumerate(flat.calls):
    chain = ends.pop(call.inputs[0], None) if len(call.inputs) == 1 else None
    if chain is not None and _joins(call) and readers[call.inputs[0]] == 1:
      chains[chain].append(index)
    else:
      chain = len(chains)
      chains.append([index])
    if len(call.outputs) == 1:
      ends[call.outputs[0]] = chain
  return [_segment(flat, chain) for chain in chains]


def _joins(call: Call) -> bool:
  return type(call.layer).__name__ in (*_NO_TIME, 'Activation', 'LeakyReLU')


def _segment(flat: FlatModel, indices: Sequence[int]) -> Segment:
  calls = tuple(flat.calls[index] for index in indices)
  first = calls[0]
  in_shapes = tuple(tuple(flat.shapes[number][1:]) for number in first.inputs)
  shape = flat.shapes[calls[-1].outputs[0]]
  makes = _width_of(first.layer) is not None
  described = [_described(call) for call in calls if not _is_free(call, calls)]
  fused = [type(call.layer).__name__ for call in calls[1:] if _is_free(call, calls)]
  if not makes:  # Normalisation and ReLU after anything else are operators of their own.
    described += fused
  sizes = [shape[:-1] for shape in in_shapes]
  text = json.dumps([described, sizes], sort_keys=True, default=str)
  digest = hashlib.sha256(text.encode()).hexdigest()[:16]
  return Segment(indices[0], calls, in_shapes, shape[-1] if len(shape) > 1 else 1, makes, digest)


def _is_free(call: Call, calls: Sequence[Call]) -> bool:
  return call is not calls[0] and type(call.layer).__name__ in _FREE


def _width_of(layer: keras.layers.Layer) -> str | None:
  """The entry of the config that holds the number of channels made, if there is one."""
  name = _WIDTH.get(type(layer).__name__, 'filters')
  return name if name in layer.get_config() else None


def _described(call: Call) -> list[Any]:
  config = {
    key: value
    for key, value in call.layer.get_config().items()
    if key not in _NAMED and not key.endswith(_OF_TRAINING)
  }
  ends = _ENDS if isinstance(call.layer, keras.layers.Dense) else ()
  if config.get('activation') in ('relu', 'linear', *ends):
    config.pop('activation')  # Runs within the layer, at no cost.
  return [type(call.layer).__name__, config]


def build(segment: Segment, taken: int, made: int) -> keras.Model:
  """A network of one segment with new weights.

  Args:
    segment: what is built.
    taken: channels of its input, where its first layer makes its own.
    made: channels of the output; where the first layer makes none, its inputs get the same part of
      their channels.

  Raises:
    ValueError: the segment does not work with such numbers.
  """
  part = made / segment.out_channels
  inputs = [
    keras.Input((*shape[:-1], taken if segment.makes else max(round(part * shape[-1]), 1)))
    for shape in segment.in_shapes
  ]
  first = segment.calls[0]
  tensors: dict[int, Any] = dict(zip(first.inputs, inputs, strict=True))
  for call in segment.calls:
    config = call.layer.get_config()
    config.pop('batch_input_shape', None)
    if call is first and segment.makes:
      config[_width_of(call.layer)] = made
    layer = type(call.layer).from_config(config)
    results = layer(*fill(call.args, tensors), **fill(call.kwargs, tensors))
    tensors.update(zip(call.outputs, tf.nest.flatten(results), strict=True))
  return keras.Model(inputs, tensors[segment.calls[-1].outputs[0]])


def network_key(segments: Sequence[Segment]) -> str:
  """Equal for networks whose segments and widths are equal."""
  text = ','.join(f'{segment.key}:{segment.out_channels}' for segment in segments)
  return hashlib.sha256(text.encode()).hexdigest()[:16]
