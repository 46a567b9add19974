"""Operations of keras.ops that take more than one TensorFlow operation, or other arguments.

Each takes the operation, whose settings are attributes, and its arguments.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

Operation = Callable[..., Any]


def axes(axis: Any) -> Any:
  """Axes as TensorFlow takes them."""
  return list(axis) if isinstance(axis, tuple) else axis


def reduce(function: Operation) -> Operation:
  """A reduction over axes."""
  return lambda op, x: function(x, axis=axes(op.axis), keepdims=bool(op.keepdims))


def plain(function: Operation) -> Operation:
  """An operation without settings."""
  return lambda op, *args: function(*args)


def rank(x: Any) -> int:
  """Number of axes."""
  return len(x.shape)


def place(function: Operation) -> Operation:
  """Where along an axis the largest or smallest entry is."""

  def run(op: Any, x: Any) -> Any:
    if op.axis is None:
      raise NotImplementedError('no axis')
    found = function(x, op.axis, output_type=tf.int32)
    return tf.expand_dims(found, op.axis) if op.keepdims else found

  return run


def norm(op: Any, x: Any) -> Any:
  """The norm of vectors along one axis, or of matrices along two."""
  along = axes(op.axis)
  if isinstance(along, list):
    along = along[0] if len(along) == 1 else tuple(along)
  return tf.norm(x, ord='euclidean' if op.ord is None else op.ord, axis=along, keepdims=op.keepdims)


def split(op: Any, x: Any) -> Any:
  """Equal parts, or parts between given places."""
  cuts = op.indices_or_sections
  if isinstance(cuts, int):
    return tf.split(x, cuts, op.axis)
  edges = [0, *(int(cut) for cut in cuts), x.shape[op.axis]]
  return tf.split(x, np.diff(edges).tolist(), op.axis)


def swapaxes(op: Any, x: Any) -> Any:
  """Two axes exchanged."""
  order = list(range(rank(x)))
  order[op.axis1], order[op.axis2] = order[op.axis2], order[op.axis1]
  return tf.transpose(x, order)


def moveaxis(op: Any, x: Any) -> Any:
  """Axes moved to other places, the others in order."""
  sizes = np.empty(range(rank(x)))  # Each axis has its number as its size.
  return tf.transpose(x, list(np.moveaxis(sizes, op.source, op.destination).shape))


def expand(op: Any, x: Any) -> Any:
  """One new axis or several."""
  added = op.axis if isinstance(op.axis, (list, tuple)) else [op.axis]
  size = rank(x) + len(added)
  for axis in sorted(axis % size for axis in added):
    x = tf.expand_dims(x, axis)
  return x


def flip(op: Any, x: Any) -> Any:
  """Reversed along axes, or along all."""
  chosen = range(rank(x)) if op.axis is None else np.atleast_1d(op.axis).tolist()
  return tf.reverse(x, [axis % rank(x) for axis in chosen])


def pad(op: Any, x: Any, constant_values: Any = None) -> Any:
  """Padded on each axis."""
  width = np.broadcast_to(np.asarray(op.pad_width), (rank(x), 2)).tolist()
  return tf.pad(x, width, op.mode.upper(), constant_values or 0)


def sized(shape: Any) -> list[int]:
  """A shape whose open sizes are -1."""
  return [-1 if size is None else int(size) for size in shape]


def reshaped(op: Any, x: Any) -> Any:
  """Reshaped; of several open sizes the first one is the batch, and another follows from the rest."""
  sizes = sized(op.newshape)
  if sizes.count(-1) == 2 and sizes[0] == -1 and None not in x.shape[1:]:
    rest = math.prod(size for size in sizes if size != -1)
    sizes[sizes.index(-1, 1)] = math.prod(x.shape[1:]) // rest
  return tf.reshape(x, sizes)


def broadcast(op: Any, x: Any) -> Any:
  """Broadcast to a shape, whose open sizes are those of the tensor."""
  if None not in op.shape:
    return tf.broadcast_to(x, list(op.shape))
  # An open size is that of the tensor: it stays as it is.
  return tf.tile(x, [1 if new in (None, old) else new for new, old in zip(op.shape, x.shape)])


def normalize(op: Any, x: Any) -> Any:
  """Divided by its norm along an axis."""
  epsilon = 1e-12 if op.epsilon is None else op.epsilon
  if op.order == 2:
    return tf.math.l2_normalize(x, axes(op.axis), epsilon=epsilon**2)
  norm = tf.norm(x, ord=op.order, axis=axes(op.axis), keepdims=True)
  return x / tf.math.maximum(norm, epsilon)


def rms_norm(x: Any, scale: Any, axis: Any, epsilon: float) -> Any:
  """X / sqrt(mean(x^2) + epsilon), times the scale."""
  power = tf.math.reduce_mean(tf.math.square(x), axis=axes(axis), keepdims=True)
  x = x * tf.math.rsqrt(power + epsilon)
  return x if scale is None else x * scale


def layer_norm(op: Any, x: Any, gamma: Any = None, beta: Any = None) -> Any:
  """Normalised over axes, scaled and shifted."""
  epsilon = 1e-7 if op.epsilon is None else op.epsilon
  if op.rms_scaling:
    x = x * tf.math.rsqrt(tf.math.reduce_variance(x, axes(op.axis), keepdims=True) + epsilon)
    return x if gamma is None else x * gamma
  mean, variance = tf.nn.moments(x, axes(op.axis), keepdims=True)
  x = (x - mean) * tf.math.rsqrt(variance + epsilon)
  x = x if gamma is None else x * gamma
  return x if beta is None else x + beta


def attention(
  op: Any, query: Any, key: Any, value: Any, bias: Any = None, mask: Any = None, scale: Any = None
) -> Any:
  """Scaled dot products; tensors are [batch, length, heads, size]."""
  if op.is_causal or op.attn_logits_soft_cap:
    raise NotImplementedError('caps of attention are not translated, nor is is_causal')
  scale = 1 / np.sqrt(query.shape[-1]) if scale is None else scale
  scores = tf.einsum('btnh,bsnh->bnts', query, key) * float(scale)
  scores = scores if bias is None else scores + bias
  if mask is not None:
    scores = tf.where(mask, scores, tf.zeros_like(scores) - 1e9)
  return tf.einsum('bnts,bsnh->btnh', tf.nn.softmax(scores), value)


def dot(op: Any, x: Any, y: Any) -> Any:
  """The product over the last axis and the last but one."""
  if rank(x) > 1 and rank(y) == 2:
    return tf.linalg.matmul(x, y)
  return tf.tensordot(x, y, [[-1], [max(len(y.shape) - 2, 0)]])


def take(op: Any, x: Any, indices: Any) -> Any:
  """Chosen entries along an axis, counted from its end where they are negative."""
  if isinstance(indices, (int, np.ndarray)) and np.min(indices, initial=0) < 0:
    indices = np.asarray(indices) % (math.prod(x.shape) if op.axis is None else x.shape[op.axis])
  if op.axis is None:
    return tf.gather(tf.reshape(x, [-1]), indices)
  return tf.gather(x, indices, axis=op.axis)


def relu(op: Any, x: Any) -> Any:
  """relu with a slope and a greatest value."""
  if op.threshold:
    raise NotImplementedError('a threshold')
  x = tf.nn.leaky_relu(x, op.negative_slope) if op.negative_slope else tf.nn.relu(x)
  return x if op.max_value is None else tf.math.minimum(x, float(op.max_value))
