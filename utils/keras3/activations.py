"""Activation functions of Keras 3 in terms of tf_keras and TensorFlow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

_SAME = 'linear relu sigmoid tanh softmax softplus softsign elu selu gelu mish exponential'
SAME = {**{name: name for name in _SAME.split()}, 'silu': 'swish', 'swish': 'swish'}
"""Names in Keras 3 of functions that tf_keras has, and their names there."""


def hard_sigmoid(x: Any) -> Any:
  """relu6(x + 3) / 6; the function of this name in tf_keras is another."""
  return tf.nn.relu6(x + 3.0) / 6.0


def hard_silu(x: Any) -> Any:
  """x relu6(x + 3) / 6, which TensorFlow Lite has as one operation."""
  return x * hard_sigmoid(x)


def celu(x: Any, alpha: float = 1.0) -> Any:
  """max(x, 0) + alpha (exp(min(x, 0) / alpha) - 1)."""
  return tf.nn.relu(x) + alpha * tf.math.expm1(tf.math.minimum(x, 0.0) / alpha)


def glu(x: Any, axis: int = -1) -> Any:
  """The first half times the sigmoid of the second."""
  first, second = tf.split(x, 2, axis)
  return first * tf.sigmoid(second)


def hard_tanh(x: Any) -> Any:
  """Clipped to [-1, 1]."""
  return tf.clip_by_value(x, -1.0, 1.0)


def hard_shrink(x: Any, threshold: float = 0.5) -> Any:
  """Zero where |x| is at most the threshold."""
  return tf.where(tf.math.abs(x) > threshold, x, tf.zeros_like(x))


def soft_shrink(x: Any, threshold: float = 0.5) -> Any:
  """x without what lies within the threshold."""
  return tf.nn.relu(x - threshold) - tf.nn.relu(-x - threshold)


def tanh_shrink(x: Any) -> Any:
  """X - tanh(x)."""
  return x - tf.math.tanh(x)


def squareplus(x: Any, b: float = 4) -> Any:
  """(x + sqrt(x^2 + b)) / 2."""
  return (x + tf.math.sqrt(tf.math.square(x) + float(b))) * 0.5


def threshold(x: Any, threshold: float, default_value: float) -> Any:
  """x above the threshold, the default elsewhere."""
  return tf.where(x > threshold, x, tf.zeros_like(x) + default_value)


def sparse_sigmoid(x: Any) -> Any:
  """(x + 1) / 2, clipped to [0, 1]."""
  return tf.clip_by_value(0.5 * (x + 1.0), 0.0, 1.0)


def sparse_plus(x: Any) -> Any:
  """0 below -1, x above 1, (x + 1)^2 / 4 between."""
  middle = tf.math.square(tf.clip_by_value(x, -1.0, 1.0) + 1.0) * 0.25
  return middle + tf.nn.relu(x - 1.0)


FUNCTIONS: dict[str, Callable[..., Any]] = {
  'relu6': tf.nn.relu6,
  'leaky_relu': lambda x, negative_slope=0.2: tf.nn.leaky_relu(x, negative_slope),
  'hard_sigmoid': hard_sigmoid,
  'hard_silu': hard_silu,
  'hard_swish': hard_silu,
  'log_softmax': lambda x, axis=-1: tf.nn.log_softmax(x, axis),
  'log_sigmoid': tf.math.log_sigmoid,
  'celu': celu,
  'glu': glu,
  'hard_tanh': hard_tanh,
  'hard_shrink': hard_shrink,
  'soft_shrink': soft_shrink,
  'tanh_shrink': tanh_shrink,
  'squareplus': squareplus,
  'threshold': threshold,
  'sparse_sigmoid': sparse_sigmoid,
  'sparse_plus': sparse_plus,
}
"""Those that tf_keras lacks, as operations on the tensor, by name in Keras 3."""
