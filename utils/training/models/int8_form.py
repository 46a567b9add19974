"""An equal network whose layers all have a form in 8 bits, for training that simulates it.

tensorflow-model-optimization refuses some layers and activations, gives the results of operations on
tensors no range, and folds a batch normalisation into few layers. What it leaves out would compute in
float32 in the full-integer file. Here

  - Rescaling, Normalization, and a batch normalisation after no convolution or dense layer become a
    1x1 depthwise convolution with a bias;
  - a batch normalisation right after a transposed convolution is folded into it;
  - an activation that is not simulated becomes a separate layer, whose result gets a range;
  - the result of an operation passes an Activation layer that does nothing but get a range.
"""

from __future__ import annotations

import collections
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

from secateurs.utils.graph.counts.copying import copy_flat, copy_layer
from secateurs.utils.graph.flat.walk import Call, FlatModel, flatten_model

OPERATIONS = ('TFOpLambda', 'SlicingOpLambda')
RANGE = '_range'
"""How the names of layers end that give operations a range."""

_SIMULATED = ('linear', 'relu', 'softmax', 'sigmoid', 'tanh', 'gelu', 'swish')
_FOLDING = ('Conv2D', 'DepthwiseConv2D', 'SeparableConv2D', 'Dense')

Copied = tuple[Callable, Any]


def int8_form(model: keras.Model) -> keras.Model:
  """The equal network; the model itself where all its layers have a form in 8 bits.

  Args:
    model: functional, float32, with one input. It stays as it is.
  """
  flat = flatten_model(model)
  folded = _norms_after_transposed(flat)
  norms = {call.name for call, _ in folded.values()}
  affine = _affine(flat) - norms
  changed = {*folded, *affine}
  changed |= {call.name for call in flat.calls if type(call.layer).__name__ in OPERATIONS}
  changed |= {call.name for call in flat.calls if _has_other_activation(call.layer)}
  if not changed:
    return model

  def copy(layer: keras.layers.Layer, name: str, args: tuple, kwargs: dict[str, Any]) -> Copied:
    if name in norms:
      return _nothing, args[0]
    if name in folded:
      return _folded(layer, name, args, folded[name][0].layer)
    if name in affine:
      return _as_depthwise(layer, name, args)
    if _has_other_activation(layer):
      return _with_separate_activation(layer, name, args, kwargs)
    made, result = copy_layer(layer, name, args, kwargs)
    if type(layer).__name__ in OPERATIONS and _takes_a_range(result):
      ranged = keras.layers.Activation('linear', name=f'{name}{RANGE}')
      return (lambda *a, **k: ranged(made(*a, **k))), ranged(result)
    return made, result

  return copy_flat(flat, copy=copy)


def is_simulated(activation: Any) -> bool:
  """Whether an activation has a form in 8 bits as it is."""
  return getattr(activation, '__name__', '') in _SIMULATED


def _has_other_activation(layer: keras.layers.Layer) -> bool:
  """Whether a layer with a kernel ends in an activation that is not simulated."""
  activation = getattr(layer, 'activation', None)
  return activation is not None and bool(layer.weights) and not is_simulated(activation)


def _with_separate_activation(
  layer: keras.layers.Layer, name: str, args: tuple, kwargs: dict[str, Any]
) -> Copied:
  copy = type(layer).from_config({**layer.get_config(), 'name': name, 'activation': 'linear'})
  made = copy(*args, **kwargs)
  copy.set_weights(layer.get_weights())
  after = keras.layers.Activation(layer.activation, name=f'{name}{RANGE}')
  return (lambda *a, **k: after(copy(*a, **k))), after(made)


def _affine(flat: FlatModel) -> set[str]:
  """Names of layers on maps that are a scale and an offset for each channel, and are not folded."""
  makers = {number: call for call in flat.calls for number in call.outputs}
  readers = collections.Counter(number for call in flat.calls for number in set(call.inputs))
  found = set()
  for call in flat.calls:
    kind, source = type(call.layer).__name__, makers.get(call.inputs[0] if call.inputs else None)
    if len(flat.shapes[call.outputs[0]]) != 4:
      continue
    if kind in ('Rescaling', 'Normalization'):
      found.add(call.name)
    elif isinstance(call.layer, keras.layers.BatchNormalization):
      folds = (
        source is not None
        and type(source.layer).__name__ in _FOLDING
        and source.layer.activation is keras.activations.linear
        and readers[call.inputs[0]] == 1
      )
      found |= set() if folds else {call.name}
  return found


def _nothing(x: Any) -> Any:
  return x


def _takes_a_range(result: Any) -> bool:
  return getattr(result, 'dtype', None) == tf.float32 and result.shape.rank >= 2


def _as_depthwise(layer: keras.layers.Layer, name: str, args: tuple) -> Copied:
  """scale x + offset for each channel, found by asking the layer at 0 and 1."""
  shape = (1, 1, 1, args[0].shape[-1])
  offset = layer(tf.zeros(shape)).numpy().reshape(-1)
  scale = layer(tf.ones(shape)).numpy().reshape(-1) - offset
  learns = isinstance(layer, keras.layers.BatchNormalization) and layer.trainable
  copy = keras.layers.DepthwiseConv2D(1, name=name, trainable=learns)
  result = copy(args[0])
  copy.set_weights([scale.reshape(1, 1, -1, 1), offset])
  return copy, result


def _norms_after_transposed(flat: FlatModel) -> dict[str, tuple[Call, Call]]:
  """By the name of a transposed convolution the normalisation that alone reads it, and its own call."""
  readers: dict[int, list[Call]] = {}
  for call in flat.calls:
    for number in call.inputs:
      readers.setdefault(number, []).append(call)
  times = {name: len(calls) for name, calls in flat.calls_by_layer().items()}
  found = {}
  for call in flat.calls:
    layer, after = call.layer, readers.get(call.outputs[0], [])
    fits = type(layer).__name__ == 'Conv2DTranspose' and len(after) == 1
    if not fits or call.outputs[0] in flat.outputs or times[call.name] > 1:
      continue
    norm = after[0]
    linear = layer.activation is keras.activations.linear
    if isinstance(norm.layer, keras.layers.BatchNormalization) and times[norm.name] == 1 and linear:
      found[call.name] = norm, call
  return found


def _folded(
  layer: keras.layers.Conv2DTranspose, name: str, args: tuple, norm: keras.layers.Layer
) -> Copied:
  """The layer with a bias, and with the normalisation in its weights."""
  gamma = np.ones(layer.filters) if norm.gamma is None else norm.gamma.numpy()
  beta = np.zeros(layer.filters) if norm.beta is None else norm.beta.numpy()
  factor = gamma / np.sqrt(norm.moving_variance.numpy() + norm.epsilon)
  bias = layer.bias.numpy() if layer.use_bias else 0.0
  copy = type(layer).from_config({**layer.get_config(), 'name': name, 'use_bias': True})
  result = copy(args[0])
  kernel = layer.kernel.numpy() * factor[:, None]  # [height, width, outputs, inputs]
  copy.set_weights([kernel, (bias - norm.moving_mean.numpy()) * factor + beta])
  return copy, result
