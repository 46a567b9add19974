"""Other ways to compute a layer, for runtimes that err at the usual one.

A rewriting changes how a layer is called while a model is traced, and nothing else: weights, names and
the model's own files stay. It holds for every use of the layer, in nested models and in twins that
simulate 8 bits.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import tensorflow as tf
import tf_keras as keras

LayerCall = Callable[..., tf.Tensor]
Rewriting = Callable[[keras.layers.Layer], LayerCall | None]
"""Gives a call that equals the layer's, or None for layers that it does not apply to."""


_CONVOLUTIONS = (
  keras.layers.Conv1D,
  keras.layers.Conv2D,
  keras.layers.Conv3D,
  keras.layers.DepthwiseConv1D,
  keras.layers.DepthwiseConv2D,
  keras.layers.SeparableConv1D,
  keras.layers.SeparableConv2D,
)


def same_padding(
  size: Sequence[int], kernel: Sequence[int], strides: Sequence[int], dilation: Sequence[int]
) -> list[tuple[int, int]]:
  """Zeros before and after each axis that `same` padding means.

  Of p = max((ceil(size / stride) - 1) stride + (kernel - 1) dilation + 1 - size, 0) zeros the smaller
  half comes before. With them `valid` padding gives as many outputs, of the same inputs.
  """
  pads = []
  for n, k, s, d in zip(size, kernel, strides, dilation, strict=True):
    total = max((-(-n // s) - 1) * s + (k - 1) * d + 1 - n, 0)
    pads.append((total // 2, total - total // 2))
  return pads


def explicit_padding(layer: keras.layers.Layer) -> LayerCall | None:
  """A convolution with `same` padding as padding and a `valid` convolution."""
  original = layer.call
  applies = isinstance(layer, _CONVOLUTIONS) and 'Transpose' not in type(layer).__name__
  if not applies or layer.padding != 'same' or layer.data_format != 'channels_last':
    return None

  def call(inputs: tf.Tensor) -> tf.Tensor:
    size = inputs.shape[1:-1]
    if None in size:
      return original(inputs)
    pads = same_padding(size, layer.kernel_size, layer.strides, layer.dilation_rate)
    layer.padding = 'valid'
    try:
      return original(tf.pad(inputs, [(0, 0), *pads, (0, 0)]))
    finally:
      layer.padding = 'same'

  return call


def grouped_convolution(layer: keras.layers.Layer) -> LayerCall | None:
  """A depthwise layer as a convolution in as many groups as it has channels."""
  applies = type(layer).__name__ == 'DepthwiseConv2D' and layer.data_format == 'channels_last'
  if not applies:
    return None

  def call(inputs: tf.Tensor) -> tf.Tensor:
    height, width, channels, multiplier = layer.depthwise_kernel.shape
    kernel = tf.reshape(layer.depthwise_kernel, (height, width, 1, channels * multiplier))
    outputs = tf.nn.conv2d(
      inputs, kernel, layer.strides, layer.padding.upper(), dilations=layer.dilation_rate
    )
    if layer.use_bias:
      outputs = tf.nn.bias_add(outputs, layer.bias)
    return outputs if layer.activation is None else layer.activation(outputs)

  return call


REWRITINGS: Mapping[str, Rewriting] = {
  'explicit padding before a layer with `valid` padding': explicit_padding,
  'a convolution in groups': grouped_convolution,
}
"""All rewritings by what they make of a layer, those that cost least first."""


@contextlib.contextmanager
def rewritten(calls: Mapping[keras.layers.Layer, LayerCall]) -> Iterator[None]:
  """Has layers computed by other calls inside the block, wherever a model calls them."""
  originals: list[tuple[keras.layers.Layer, Any]] = []
  try:
    for layer, call in calls.items():
      originals.append((layer, layer.__dict__.get('call')))
      layer.call = call
    yield
  finally:
    for layer, original in originals:
      if original is None:
        del layer.call
      else:
        layer.call = original


def describe(layer: keras.layers.Layer, shape: Sequence[int | None]) -> str:
  """A layer by name, class, what it does with places, and the shape of its input."""
  parts = [type(layer).__name__]
  for key in ('kernel_size', 'pool_size', 'size'):
    if isinstance(getattr(layer, key, None), tuple):
      parts.append(f'{key.replace("_", " ")} {"x".join(map(str, getattr(layer, key)))}')
  for key in ('strides', 'dilation_rate'):
    value = getattr(layer, key, None)
    if isinstance(value, tuple) and set(value) != {1}:
      parts.append(f'{key.replace("_", " ")} {"x".join(map(str, value))}')
  if isinstance(getattr(layer, 'padding', None), str):
    parts.append(f'{layer.padding} padding')
  return f'{layer.name} ({", ".join(parts)}, input {"x".join(map(str, shape[1:]))})'


def alike(layer: keras.layers.Layer) -> tuple:
  """What layers have in common that a runtime computes by the same code."""
  keys = ('kernel_size', 'strides', 'dilation_rate', 'padding')
  return (type(layer), *(getattr(layer, key, None) for key in keys))
