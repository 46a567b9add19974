"""Gates of channels and the rules of their training (Luo & Wu 2018, AutoPruner, arXiv:1805.08941)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

STD, VARIANCE = GATE_INITS = 'std', 'variance'
_MEAN_MOMENTUM = 0.9
_DECIDED, _ENOUGH = 0.1, 0.9  # What counts as near 0 or 1, and how many of the gates should be.


def first_std(fan_in: int, how: str) -> float:
  """Standard deviation of a gate's first weights.

  Args:
    fan_in: n, channels times positions of the pooled map.
    how: `std`: 10 sqrt(2 / n), as the official code; `variance`: its square root, as the paper's text,
      which calls 10 sqrt(2 / n) the variance.
  """
  value = 10.0 * math.sqrt(2.0 / fan_in)
  return value if how == STD else math.sqrt(value)


def pooled(maps: tf.Tensor) -> tf.Tensor:
  """The batch's mean map after 2x2 max pooling, flat: [n, h, w, c] or [n, c] -> [features].

  A map with a side of one is not pooled.
  """
  number = tf.shape(maps)[0]
  weights = tf.fill([1, number], 1.0 / tf.cast(number, maps.dtype))
  # The same mean by reduce_mean takes twice as long on a CPU, forward and backward.
  mean = tf.reshape(tf.matmul(weights, tf.reshape(maps, [number, -1])), [1, *maps.shape[1:]])
  if mean.shape.rank == 4 and min(mean.shape[1:3]) > 1:
    mean = tf.nn.max_pool2d(mean, 2, 2, 'VALID')
  return tf.reshape(mean, [-1])


def nb_features(shape: tuple[int | None, ...]) -> int:
  """Length of `pooled` for maps of a shape, batch first."""
  if len(shape) == 4 and min(shape[1:3]) > 1:
    return (shape[1] // 2) * (shape[2] // 2) * shape[3]
  return math.prod(shape[1:])


def alpha_at(first: float, last: float, progress: float) -> float:
  """The hardness of the gates after a fraction of their training: it grows evenly."""
  return first + (last - first) * min(progress, 1.0)


def nudged(alpha: float, step: float, gates: np.ndarray, target: float, progress: float) -> float:
  """The hardness with the nudges of the official code.

  In the second half of the training it grows by one more step where fewer than 90 % of the gates are
  within 0.1 of 0 or 1, and does not grow where fewer gates are open than asked for.

  Args:
    alpha: hardness by `alpha_at`.
    step: by which it grows at a time.
    gates: mean gates, [channels].
    target: the fraction that is to stay open.
    progress: fraction of the training that is done.
  """
  if progress < 0.5:
    return alpha
  if (gates > 0.5).mean() < target - step_of(gates):
    return alpha - step
  decided = (np.minimum(gates, 1.0 - gates) < _DECIDED).mean()
  return alpha + step if decided < _ENOUGH else alpha


def step_of(gates: np.ndarray) -> float:
  """The fraction that one gate stands for."""
  return 1.0 / len(gates)


def pull(gates: np.ndarray, target: float) -> float:
  """lambda = 100 |r_b - r|, with r_b the fraction of gates above 0.5 and r the target (section 3.3)."""
  return 100.0 * abs(float((gates > 0.5).mean()) - target)


class ChannelGate(keras.layers.Layer):
  """Multiplies each channel by a gate v = sigmoid(alpha z), with z linear in the batch's pooled map.

  In training v follows from the batch; otherwise channels are multiplied by `code`. Gives the gated map
  and v.

  Attributes:
    alpha: hardness.
    means: running mean of v, [channels].
    code: what stands for v outside of training, [channels]: exact zeros and ones once it is fixed.
  """

  def __init__(self, init: str, alpha: float, seed: int, **kwargs: Any) -> None:
    """`init`: see `first_std`; `alpha`: the first hardness; `seed`: of the weights."""
    super().__init__(dtype='float32', **kwargs)
    self._init, self._alpha, self._seed = init, alpha, seed

  def build(self, shape: tf.TensorShape) -> None:
    """Makes the fully connected layer over the pooled map."""
    sizes = tuple(shape)
    fan_in, nb_channels = nb_features(sizes), sizes[-1]
    std = first_std(fan_in, self._init)
    normal = keras.initializers.RandomNormal(0.0, std, seed=self._seed)
    self.kernel = self.add_weight('kernel', (fan_in, nb_channels), initializer=normal)
    self.bias = self.add_weight('bias', (nb_channels,), initializer='zeros')
    constant = keras.initializers.Constant
    fixed = {'trainable': False, 'experimental_autocast': False}
    self.alpha = self.add_weight('alpha', (), initializer=constant(self._alpha), **fixed)
    self.means = self.add_weight('means', (nb_channels,), initializer=constant(0.5), **fixed)
    self.code = self.add_weight('code', (nb_channels,), initializer='ones', **fixed)

  def call(self, inputs: tf.Tensor, training: bool = False) -> tuple[tf.Tensor, tf.Tensor]:
    """The gated map, float32, and v [channels]."""
    maps = tf.cast(inputs, tf.float32)
    if not training:
      return maps * self.code, tf.identity(self.code)
    features = pooled(maps)
    z = tf.linalg.matvec(self.kernel, features, transpose_a=True) + self.bias
    v = tf.sigmoid(self.alpha * z)
    self.means.assign(_MEAN_MOMENTUM * self.means + (1.0 - _MEAN_MOMENTUM) * tf.stop_gradient(v))
    return maps * v, v
