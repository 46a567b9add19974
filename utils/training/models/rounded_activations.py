"""Networks whose activations have few bits while they train.

A copy of the network rounds each tensor that an integer runtime would hold: the inputs, and what a
layer gives once the normalisation and the ReLU that such a runtime fuses into it are done (Jacob et al.
2018, arXiv:1712.05877, section 3). Gradients pass straight through inside the range and are zero
outside. The ranges follow the values as moving averages, and start where `calibrate` puts them.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf
import tf_keras as keras

from secateurs.utils import nested
from secateurs.utils.graph.counts.copying import copy_layer
from secateurs.utils.graph.counts.memory import all_bytes
from secateurs.utils.graph.flat.cuts import given, run_calls
from secateurs.utils.graph.flat.rebuild import fill, new_inputs, new_model
from secateurs.utils.graph.flat.walk import Call, FlatModel, flatten_model
from secateurs.utils.names import unique_name

_MOMENTUM = 0.99
_CALIBRATION_BYTES = 256 << 20  # Of tensors whose ranges are read at a time.
_END = '_range'
_L = keras.layers
# What an integer runtime computes inside the layer before it.
_FUSED = (_L.BatchNormalization, _L.ReLU)
_LINEAR = ('Conv', 'Dense', 'BatchNormalization', 'Add')
# What only moves values, or takes the greatest: the range stays.
_MOVING = (
  _L.Flatten,
  _L.Reshape,
  _L.Permute,
  _L.Dropout,
  _L.ZeroPadding2D,
  _L.Cropping2D,
  _L.MaxPooling2D,
  _L.GlobalMaxPooling2D,
)


class Rounding(keras.layers.Layer):
  """Rounds a tensor to 2^bits values between `low` and `high`, which hold zero."""

  def __init__(self, bits: int, **kwargs: Any) -> None:
    super().__init__(**kwargs)
    self.bits = bits

  def build(self, shape: Any) -> None:
    """Makes the range."""
    self.low = self.add_weight('low', (), tf.float32, 'zeros', trainable=False)
    self.high = self.add_weight('high', (), tf.float32, 'ones', trainable=False)
    super().build(shape)

  def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
    """The rounded tensor; 9 bits and more are symmetric about zero, as TensorFlow Lite has them.

    Training moves the range.
    """
    values = tf.cast(inputs, tf.float32)
    if training:
      low = tf.minimum(tf.reduce_min(values), 0.0)
      high = tf.maximum(tf.reduce_max(values), 0.0)
      self.low.assign(_MOMENTUM * self.low + (1 - _MOMENTUM) * low)
      self.high.assign(_MOMENTUM * self.high + (1 - _MOMENTUM) * high)
    low, high = tf.convert_to_tensor(self.low), tf.convert_to_tensor(self.high)
    symmetric = self.bits > 8
    if symmetric:
      high = tf.maximum(high, -low)
      low = -high
    rounded = tf.quantization.fake_quant_with_min_max_vars(
      values, low, high, num_bits=self.bits, narrow_range=symmetric
    )
    return tf.cast(rounded, inputs.dtype)

  def get_config(self) -> dict[str, Any]:
    """The number of bits with the rest."""
    return {**super().get_config(), 'bits': self.bits}


def rounded_twin(model: keras.Model, bits: int) -> keras.Model:
  """A copy of a model, with its own weights, that rounds activations.

  Args:
    model: functional; nested models are opened.
    bits: 2 to 16.

  Raises:
    UserError: a layer cannot be made again from its config.
  """
  flat = flatten_model(model)
  inputs = new_inputs(flat)
  tensors = dict(inputs)
  for number, name in _rounded_inputs(flat).items():
    tensors[number] = _rounding(name, bits)(inputs[number])
  layers: dict[str, Any] = {}
  rounded = _rounded_tensors(flat)
  for call in flat.calls:
    args, kwargs = fill(call.args, tensors), fill(call.kwargs, tensors)
    first = call.name not in layers
    if first:
      layers[call.name], result = copy_layer(call.layer, call.name, args, kwargs)
    else:
      result = layers[call.name](*args, **kwargs)
    for number, tensor in zip(call.outputs, tf.nest.flatten(result)):
      name = rounded.get(number)
      tensors[number] = tensor if name is None else _rounding(name, bits)(tensor)
  return new_model(flat, inputs, [tensors[number] for number in flat.outputs])


def calibrate(twin: keras.Model, model: keras.Model, images: Any) -> None:
  """Sets the ranges of a twin to those that the model itself has for some images.

  Args:
    twin: from `rounded_twin(model)`.
    model: functional, with the weights that count.
    images: inputs [n, ...].
  """
  flat = flatten_model(model)
  names = {**_rounded_tensors(flat), **_rounded_inputs(flat)}
  extremes = {name: [0.0, 0.0] for name in names.values()}
  batch = max(_CALIBRATION_BYTES // max(all_bytes(flat), 1), 1)
  for start in range(0, nested.size(images), batch):
    part = given(flat, nested.rows(images, slice(start, start + batch)))
    for number, value in run_calls(flat.calls, part, wanted=list(names)).items():
      ends = extremes[names[number]]
      ends[0] = min(ends[0], float(tf.reduce_min(value)))
      ends[1] = max(ends[1], float(tf.reduce_max(value)))
  for name, (low, high) in extremes.items():
    layer = twin.get_layer(name + _END)
    layer.low.assign(low)
    layer.high.assign(high)


def _rounding(name: str, bits: int) -> Rounding:
  return Rounding(bits, name=name + _END, dtype='float32')


def _rounded_inputs(flat: FlatModel) -> dict[int, str]:
  """Names of the network's inputs that are rounded, by number."""
  real = [number for number, _ in flat.inputs if flat.dtypes[number].is_floating]
  return {number: f'input{place or ""}' for place, number in enumerate(real)}


def _rounded_tensors(flat: FlatModel) -> dict[int, str]:
  """Names of the tensors that are rounded, by number."""
  readers: dict[int, list[Call]] = {}
  for call in flat.calls:
    for number in call.inputs:
      readers.setdefault(number, []).append(call)
  found: dict[int, str] = {}
  layers, taken = {call.name for call in flat.calls}, set(_rounded_inputs(flat).values())
  for call in flat.calls:
    if isinstance(call.layer, _MOVING):
      continue
    for number in call.outputs:
      if number not in flat.outputs and _is_fused(call, readers.get(number, [])):
        continue
      name = unique_name(call.name, taken, layers)
      taken.add(name)
      found[number] = name
  return found


def _is_fused(call: Call, readers: list[Call]) -> bool:
  """Whether a call's result goes into nothing but what is fused into the call."""
  if len(readers) != 1 or not _is_linear(call.layer):
    return False
  layer = readers[0].layer
  return isinstance(layer, _FUSED) or (
    isinstance(layer, _L.Activation) and layer.activation is keras.activations.relu
  )


def _is_linear(layer: keras.layers.Layer) -> bool:
  activation = getattr(layer, 'activation', None)
  known = any(part in type(layer).__name__ for part in _LINEAR)
  return known and activation in (None, keras.activations.linear)
