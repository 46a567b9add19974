"""Equal calls of layers, of which all parts have operators in 8 bits."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

_MASKED = -32.0  # exp(-32) is 1e-14.

Expression = Any
"""The number of a tensor, a variable, an array, or (operation, expression, ...)."""


def forms_of(layer: keras.layers.Layer) -> dict[keras.layers.Layer, Callable[..., Any]]:
  """Calls to open a layer with in place of its `call` and those of the layers inside it."""
  found = {}
  for part in (one for one in layer.submodules if isinstance(one, keras.layers.Layer)):
    found[part] = _form_of(part)
  found[layer] = _form_of(layer)
  return {part: form for part, form in found.items() if form is not None}


def _form_of(layer: keras.layers.Layer) -> Callable[..., Any] | None:
  kind, own = type(layer), layer.call
  if kind is keras.layers.LayerNormalization:
    return functools.partial(_layer_normalised, layer)
  if kind is keras.layers.GroupNormalization:
    return functools.partial(_group_normalised, layer, own)
  if kind is keras.layers.Dense:
    return functools.partial(_dense, layer)
  if kind is keras.layers.Softmax:
    return functools.partial(_masked_softmax, own)
  return None


def affine_parts(
  layer: keras.layers.Layer, shape: tuple, dtype: tf.DType
) -> tuple[Expression, Expression] | None:
  """Scale and offset of a layer that is x scale + offset for each channel when it does not train.

  Args:
    layer: the layer.
    shape: of its input, with the batch.
    dtype: of its input.

  Returns:
    None for other layers.
  """
  if not dtype.is_floating or len(shape) < 2 or shape[-1] is None:
    return None
  if isinstance(layer, keras.layers.BatchNormalization):
    if list(layer.axis) != [len(shape) - 1]:
      return None
    statistics = layer.moving_mean, layer.moving_variance
    return normalisation_parts(layer.gamma, layer.beta, *statistics, np.float32(layer.epsilon))
  if type(layer) is keras.layers.Rescaling or _is_by_channel(layer, shape):
    ones = (1,) * (len(shape) - 1) + (shape[-1],)
    offset = np.reshape(layer(tf.zeros(ones)), -1)
    return np.reshape(layer(tf.ones(ones)), -1) - offset, offset
  return None


def _is_by_channel(layer: keras.layers.Layer, shape: tuple) -> bool:
  known = type(layer) is keras.layers.Normalization
  return known and set(layer.axis) <= {-1, len(shape) - 1}


def normalisation_parts(
  gamma: Expression | None,
  beta: Expression | None,
  mean: Expression,
  variance: Expression,
  epsilon: np.float32,
) -> tuple[Expression, Expression]:
  """gamma / sqrt(variance + epsilon), and beta minus the mean times that."""
  scale: Expression = ('Rsqrt', ('AddV2', variance, epsilon))
  if gamma is not None:
    scale = ('Mul', gamma, scale)
  moved = ('Mul', mean, scale)
  return scale, ('Neg', moved) if beta is None else ('Sub', beta, moved)


def _layer_normalised(layer: keras.layers.LayerNormalization, x: tf.Tensor) -> tf.Tensor:
  y = _normalised(x, list(layer.axis), layer.epsilon)
  shape = [x.shape[axis] if axis in layer.axis else 1 for axis in range(x.shape.rank)]
  gamma, beta = (
    None if weight is None else tf.reshape(weight, shape) for weight in (layer.gamma, layer.beta)
  )
  y = y if gamma is None else y * gamma
  return y if beta is None else y + beta


def _group_normalised(
  layer: keras.layers.GroupNormalization, own: Callable[..., Any], x: tf.Tensor, mask: Any = None
) -> tf.Tensor:
  """With all places on one axis, so that no tensor has more than four."""
  shape = list(x.shape)
  if mask is not None or layer.axis not in (-1, len(shape) - 1) or None in shape[1:]:
    return own(x, mask=mask)
  places, channels = math.prod(shape[1:-1]), shape[-1] // layer.groups
  grouped = tf.reshape(x, [-1, places, layer.groups, channels])
  y = tf.reshape(_normalised(grouped, [1, 3], layer.epsilon), [-1, *shape[1:]])
  y = y * layer.gamma if layer.scale else y
  return y + layer.beta if layer.center else y


def _normalised(x: tf.Tensor, axes: list[int], epsilon: float) -> tf.Tensor:
  centred = x - tf.reduce_mean(x, axes, keepdims=True)
  variance = tf.reduce_mean(centred * centred, axes, keepdims=True)
  return centred * tf.math.rsqrt(variance + epsilon)


def _dense(layer: keras.layers.Dense, x: tf.Tensor) -> tf.Tensor:
  """As one product of two matrices rather than by the shapes of a tensordot."""
  y = tf.matmul(x, layer.kernel)
  y = tf.nn.bias_add(y, layer.bias) if layer.use_bias else y
  return y if layer.activation is None else layer.activation(y)


def _masked_softmax(own: Callable[..., Any], x: tf.Tensor, mask: Any = None) -> tf.Tensor:
  """With masked scores a little lower than others, as minus a billion would be all of their range."""
  return own(x if mask is None else x + (1.0 - tf.cast(mask, x.dtype)) * _MASKED)
