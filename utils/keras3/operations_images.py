"""Operations of keras.ops on images, and convolutions with given kernels, as TensorFlow operations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf


def _last(op: Any) -> None:
  if getattr(op, 'data_format', None) not in (None, 'channels_last'):
    raise NotImplementedError('channels first')


def _pool(kind: str) -> Callable[..., Any]:
  function = {'max': tf.nn.max_pool, 'avg': tf.nn.avg_pool}[kind]

  def run(op: Any, x: Any) -> Any:
    _last(op)
    return function(x, op.pool_size, op.strides or op.pool_size, op.padding.upper())

  return run


def _conv(op: Any, x: Any, kernel: Any) -> Any:
  _last(op)
  return tf.nn.convolution(
    x, kernel, strides=op.strides, padding=op.padding.upper(), dilations=op.dilation_rate
  )


def _depthwise(op: Any, x: Any, kernel: Any) -> Any:
  _last(op)
  one = op.strides if isinstance(op.strides, int) else op.strides[0]
  rate = op.dilation_rate
  dilations = [rate] * 2 if isinstance(rate, int) else list(rate)
  return tf.nn.depthwise_conv2d(
    x, kernel, [1, one, one, 1], op.padding.upper(), dilations=dilations
  )


def _resize(op: Any, x: Any) -> Any:
  _last(op)
  if op.crop_to_aspect_ratio or op.pad_to_aspect_ratio:
    raise NotImplementedError('resizing that keeps the ratio of the sides')
  return tf.image.resize(x, op.size, op.interpolation, antialias=op.antialias)


def _patches(op: Any, x: Any) -> Any:
  _last(op)
  size = [op.size] * 2 if isinstance(op.size, int) else list(op.size)
  strides = op.strides or size
  strides = [strides] * 2 if isinstance(strides, int) else list(strides)
  rate = [op.dilation_rate] * 2 if isinstance(op.dilation_rate, int) else list(op.dilation_rate)
  return tf.image.extract_patches(
    x, [1, *size, 1], [1, *strides, 1], [1, *rate, 1], op.padding.upper()
  )


def _edges(first: Any, last: Any, target: Any, size: int) -> tuple[int, int]:
  """What is added or cropped before and after, of which one may follow from the target size."""
  change = None if target is None else abs(target - size)
  if first is None:
    first = 0 if change is None else change - (last or 0)
  if last is None:
    last = 0 if change is None else change - first
  return first, last


def _pad_images(op: Any, x: Any) -> Any:
  _last(op)
  top, bottom = _edges(op.top_padding, op.bottom_padding, op.target_height, x.shape[1])
  left, right = _edges(op.left_padding, op.right_padding, op.target_width, x.shape[2])
  return tf.pad(x, [[0, 0], [top, bottom], [left, right], [0, 0]])


def _crop_images(op: Any, x: Any) -> Any:
  _last(op)
  height, width = x.shape[1:3]
  top, bottom = _edges(op.top_cropping, op.bottom_cropping, op.target_height, height)
  left, right = _edges(op.left_cropping, op.right_cropping, op.target_width, width)
  return x[:, top : height - bottom, left : width - right]


def _grey(op: Any, x: Any) -> Any:
  _last(op)
  return tf.image.rgb_to_grayscale(x)


IMAGES: dict[str, Callable[..., Any]] = {
  'AveragePool': _pool('avg'),
  'MaxPool': _pool('max'),
  'Conv': _conv,
  'DepthwiseConv': _depthwise,
  'Resize': _resize,
  'ExtractPatches': _patches,
  'PadImages': _pad_images,
  'CropImages': _crop_images,
  'RGBToGrayscale': _grey,
}
