"""Which activation functions leave channels apart, and applying them to constants."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

# Keras 2's element-wise activations, by the name of the function.
_APART = {
  'linear',
  'elu',
  'exponential',
  'gelu',
  'hard_sigmoid',
  'leaky_relu',
  'mish',
  'relu',
  'relu6',
  'selu',
  'sigmoid',
  'softplus',
  'softsign',
  'swish',
  'silu',
  'tanh',
}


def acts_on_channels_apart(activation: Any) -> bool:
  """True if `activation` is None or one of TensorFlow's element-wise activation functions."""
  if activation is None:
    return True
  if isinstance(activation, keras.layers.Layer):
    return isinstance(
      activation,
      (
        keras.layers.ReLU,
        keras.layers.LeakyReLU,
        keras.layers.ELU,
        keras.layers.ThresholdedReLU,
      ),
    )
  module = getattr(activation, '__module__', '') or ''
  name = getattr(activation, '__name__', '')
  return name in _APART and module.split('.')[0] in ('tf_keras', 'keras', 'tensorflow')


def apply(function: Callable | None, values: np.ndarray) -> np.ndarray:
  """Applies an element-wise function to float values, NaN staying NaN."""
  if function is None:
    return values
  known = ~np.isnan(values)
  out = np.full(values.shape, np.nan)
  out[known] = function(tf.constant(values[known], tf.float32)).numpy()
  return out
