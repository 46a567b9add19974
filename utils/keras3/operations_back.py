"""Operations of TensorFlow as operations of keras.ops, each with TensorFlow's arguments.

Arguments have TensorFlow's names, because a model may hold them by name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from keras import ops

Operation = Callable[..., Any]


def axes(axis: Any) -> Any:
  """Axes as keras.ops takes them."""
  if axis is None or isinstance(axis, int):
    return axis
  found = np.asarray(axis)
  return int(found) if found.ndim == 0 else tuple(int(one) for one in found)


def numbers(values: Any) -> Any:
  """An array as a list."""
  return np.asarray(values).tolist()


def unary(function: Operation) -> Operation:
  """An operation on one tensor."""

  def run(x: Any = None, **kwargs: Any) -> Any:
    kwargs.pop('name', None)
    given = x if x is not None else next(iter(kwargs.values()))
    return function(given)

  return run


def like(function: Operation) -> Operation:
  """tf.ones_like and tf.zeros_like."""

  def run(x: Any = None, dtype: Any = None, **kwargs: Any) -> Any:
    given = x if x is not None else kwargs.get('input', kwargs.get('tensor'))
    return function(given, dtype=getattr(dtype, 'name', dtype))

  return run


def binary(function: Operation) -> Operation:
  """An operation on two."""

  def run(*args: Any, **kwargs: Any) -> Any:
    kwargs.pop('name', None)
    return function(*args, *kwargs.values())

  return run


def reduce(function: Operation) -> Operation:
  """tf.reduce_*."""

  def run(input_tensor: Any, axis: Any = None, keepdims: Any = False, **kwargs: Any) -> Any:
    return function(input_tensor, axis=axes(axis), keepdims=bool(keepdims))

  return run


def cast(x: Any, dtype: Any, name: Any = None) -> Any:
  """tf.cast."""
  return ops.cast(x, getattr(dtype, 'name', dtype))


def clip(t: Any, clip_value_min: Any, clip_value_max: Any, name: Any = None) -> Any:
  """tf.clip_by_value."""
  low, high = np.asarray(clip_value_min), np.asarray(clip_value_max)
  if low.ndim or high.ndim:
    return ops.minimum(ops.maximum(t, low), high)
  return ops.clip(t, low.item(), high.item())


def concat(values: Any, axis: Any, name: Any = None) -> Any:
  """tf.concat."""
  return ops.concatenate(list(values), axis=axes(axis))


def stack(values: Any, axis: int = 0, name: Any = None) -> Any:
  """tf.stack."""
  return ops.stack(list(values), axis=axis)


def split(value: Any, num_or_size_splits: Any, axis: int = 0, **kwargs: Any) -> Any:
  """tf.split."""
  sizes = np.asarray(num_or_size_splits)
  if sizes.ndim:
    return ops.split(value, [int(one) for one in np.cumsum(sizes)[:-1]], axis=axes(axis))
  return ops.split(value, int(sizes), axis=axes(axis))


def unstack(value: Any, num: Any = None, axis: int = 0, name: Any = None) -> Any:
  """tf.unstack."""
  return ops.unstack(value, num, axis)


def reshape(tensor: Any, shape: Any, name: Any = None) -> Any:
  """tf.reshape."""
  return ops.reshape(tensor, tuple(numbers(shape)))


def transpose(a: Any, perm: Any = None, conjugate: bool = False, name: Any = None) -> Any:
  """tf.transpose."""
  return ops.transpose(a, None if perm is None else axes(perm))


def expand(input: Any, axis: Any = None, name: Any = None, dim: Any = None) -> Any:
  """tf.expand_dims."""
  return ops.expand_dims(input, axes(dim if axis is None else axis))


def squeeze(input: Any, axis: Any = None, name: Any = None, squeeze_dims: Any = None) -> Any:
  """tf.squeeze."""
  return ops.squeeze(input, axes(squeeze_dims if axis is None else axis))


def gather(
  params: Any, indices: Any, validate_indices: Any = None, axis: Any = None, **kwargs: Any
) -> Any:
  """tf.gather."""
  if kwargs.get('batch_dims'):
    raise NotImplementedError('batch_dims')
  indices = np.asarray(indices, 'int32') if isinstance(indices, (list, tuple)) else indices
  return ops.take(params, indices, axis=axes(axis) or 0)


def window(input_: Any, begin: Any, size: Any, name: Any = None) -> Any:
  """tf.slice."""
  begin, size = numbers(begin), numbers(size)
  return input_[tuple(slice(b, None if s == -1 else b + s) for b, s in zip(begin, size))]


def pad(
  tensor: Any, paddings: Any, mode: str = 'CONSTANT', name: Any = None, constant_values: Any = 0
) -> Any:
  """tf.pad, which models hold with the order of arguments that it had in TensorFlow 1."""
  width = tuple(tuple(pair) for pair in numbers(paddings))
  if mode.upper() != 'CONSTANT':
    return ops.pad(tensor, width, mode.lower())
  return ops.pad(tensor, width, constant_values=np.asarray(constant_values).item())


def matmul(
  a: Any, b: Any, transpose_a: bool = False, transpose_b: bool = False, **kwargs: Any
) -> Any:
  """tf.linalg.matmul."""
  if any(kwargs.get(key) for key in ('adjoint_a', 'adjoint_b', 'a_is_sparse', 'b_is_sparse')):
    raise NotImplementedError('adjoint or sparse operands')
  a = ops.swapaxes(a, -1, -2) if transpose_a else a
  b = ops.swapaxes(b, -1, -2) if transpose_b else b
  return ops.matmul(a, b)


def resize(
  images: Any, size: Any, method: Any = 'bilinear', antialias: bool = False, **kwargs: Any
) -> Any:
  """tf.image.resize."""
  if kwargs.get('preserve_aspect_ratio'):
    raise NotImplementedError('preserve_aspect_ratio')
  return ops.image.resize(images, tuple(numbers(size)), str(method), antialias=antialias)


def patches(
  images: Any, sizes: Any, strides: Any, rates: Any, padding: str, name: Any = None
) -> Any:
  """tf.image.extract_patches."""
  return ops.image.extract_patches(
    images, tuple(sizes[1:3]), tuple(strides[1:3]), rates[1], padding.lower()
  )


def pool(function: Operation) -> Operation:
  """tf.nn.max_pool and tf.nn.avg_pool."""

  def run(input: Any, ksize: Any, strides: Any, padding: str, **kwargs: Any) -> Any:
    size, step = (numbers(one) for one in (ksize, strides))
    size = tuple(size[1:3]) if isinstance(size, list) and len(size) == 4 else size
    step = tuple(step[1:3]) if isinstance(step, list) and len(step) == 4 else step
    return function(input, size, step, padding.lower(), 'channels_last')

  return run


def argmax(function: Operation) -> Operation:
  """tf.argmax and tf.argmin."""

  def run(input: Any, axis: Any = None, output_type: Any = 'int64', name: Any = None) -> Any:
    return ops.cast(function(input, axes(axis) or 0), getattr(output_type, 'name', output_type))

  return run


def one_hot(
  indices: Any,
  depth: Any,
  on_value: Any = None,
  off_value: Any = None,
  axis: Any = None,
  dtype: Any = None,
  name: Any = None,
) -> Any:
  """tf.one_hot."""
  if on_value not in (None, 1) or off_value not in (None, 0):
    raise NotImplementedError('values other than 0 and 1')
  dtype = getattr(dtype, 'name', dtype) or 'float32'
  return ops.one_hot(indices, int(depth), -1 if axis is None else axis, dtype)


def l2_normalize(x: Any, axis: Any = None, epsilon: float = 1e-12, name: Any = None) -> Any:
  """tf.math.l2_normalize."""
  power = ops.sum(ops.square(x), axis=axes(axis), keepdims=True)
  return x * ops.rsqrt(ops.maximum(power, epsilon))


def moments(x: Any, axes: Any, shift: Any = None, keepdims: bool = False, name: Any = None) -> Any:
  """tf.nn.moments."""
  return ops.moments(x, list(axes), keepdims)


def leaky(features: Any, alpha: float = 0.2, name: Any = None) -> Any:
  """tf.nn.leaky_relu."""
  return ops.leaky_relu(features, float(alpha))


def gelu(features: Any, approximate: bool = False, name: Any = None) -> Any:
  """tf.nn.gelu."""
  return ops.gelu(features, approximate)


def softmax(function: Operation) -> Operation:
  """tf.nn.softmax and tf.nn.log_softmax."""

  def run(logits: Any, axis: Any = None, name: Any = None) -> Any:
    return function(logits, -1 if axis is None else int(axis))

  return run


def hard_sigmoid_of_tf_keras(x: Any) -> Any:
  """max(0, min(1, 0.2 x + 0.5)); Keras 3 has another function of this name."""
  return ops.clip(0.2 * x + 0.5, 0.0, 1.0)


def getitem(x: Any, key: Any) -> Any:
  """Indexing, whose slices tf_keras spells as dictionaries."""
  key = key if isinstance(key, (list, tuple)) else [key]
  return x[tuple(_slice_of(one) if isinstance(one, dict) else one for one in key)]


def _slice_of(spelled: dict[str, Any]) -> slice:
  return slice(spelled['start'], spelled['stop'], spelled['step'])
