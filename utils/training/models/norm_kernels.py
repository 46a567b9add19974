"""Batch normalisation by kernels that suit the processor.

Without AVX-512 oneDNN has no fast forward kernel for batch normalisation of channels-last maps, in
training or inference: scripts/bench_step.py shows what it takes of a step. The same in products and
sums of whole tensors takes 28 to 64 % of that on maps of ResNets. Its backward kernel stays.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf
import tensorflow.compat.v2 as keras_tf  # tf_keras asks for its operations there.

from secateurs.utils import processor


@contextlib.contextmanager
def suited_to_processor() -> Iterator[None]:
  """Normalises by matrix products, where that is faster, in what is traced inside the block.

  Results are equal to rounding. Models stay as they are: nothing that is saved or exported knows.
  """
  if not processor.normalises_slowly():
    yield
    return
  original = keras_tf.compat.v1.nn.fused_batch_norm
  keras_tf.compat.v1.nn.fused_batch_norm = functools.partial(_normalised, original)
  try:
    yield
  finally:
    keras_tf.compat.v1.nn.fused_batch_norm = original


def _normalised(
  original: Callable,
  x: tf.Tensor,
  scale: tf.Tensor,
  offset: tf.Tensor,
  mean: tf.Tensor | None = None,
  variance: tf.Tensor | None = None,
  epsilon: float = 0.001,
  data_format: str = 'NHWC',
  is_training: bool = True,
  name: str | None = None,
  exponential_avg_factor: float | None = 1.0,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
  """`tf.compat.v1.nn.fused_batch_norm`, of which `original` does what has no faster form here."""
  ours = x.shape.rank == 4 and x.shape[-1] and x.dtype == tf.float32 and data_format == 'NHWC'
  if not ours or (is_training and exponential_avg_factor is None):
    kwargs: dict[str, Any] = {
      'epsilon': epsilon,
      'data_format': data_format,
      'is_training': is_training,
      'name': name,
      'exponential_avg_factor': exponential_avg_factor,
    }
    return original(x, scale, offset, mean=mean, variance=variance, **kwargs)
  scale, offset = tf.convert_to_tensor(scale), tf.convert_to_tensor(offset)
  if not is_training:
    factor = scale * tf.math.rsqrt(variance + epsilon)
    return x * factor + (offset - mean * factor), mean, variance
  y, batch_mean, batch_variance = _by_products(x, scale, offset, epsilon)
  size = tf.cast(tf.size(x) // x.shape[-1], tf.float32)
  batch_variance *= size / tf.maximum(size - 1, 1)  # What moves is the unbiased one.
  if exponential_avg_factor == 1.0:
    return y, batch_mean, batch_variance
  share = exponential_avg_factor
  return y, mean + share * (batch_mean - mean), variance + share * (batch_variance - variance)


def _by_products(x: tf.Tensor, scale: tf.Tensor, offset: tf.Tensor, epsilon: float) -> tuple:
  """Forward in matrix products, backward by the fused kernel: (y, mean, biased variance)."""

  @tf.custom_gradient
  def normalise(x: tf.Tensor, scale: tf.Tensor, offset: tf.Tensor) -> tuple:
    rows = tf.reshape(x, (-1, x.shape[-1]))
    size = tf.shape(rows)[0]
    averaging = tf.fill((1, size), 1 / tf.cast(size, tf.float32))
    mean = (averaging @ rows)[0]
    centred = rows - mean
    variance = (averaging @ tf.square(centred))[0]
    y = centred * (scale * tf.math.rsqrt(variance + epsilon)) + offset

    def gradient(dy: tf.Tensor, _: tf.Tensor, __: tf.Tensor) -> tuple:
      dx, dscale, doffset, *_ = tf.raw_ops.FusedBatchNormGradV3(
        y_backprop=dy,
        x=x,
        scale=scale,
        reserve_space_1=mean,
        reserve_space_2=variance,
        reserve_space_3=tf.zeros([0]),
        epsilon=epsilon,
        is_training=True,
      )
      return dx, dscale, doffset

    return (tf.reshape(y, tf.shape(x)), mean, variance), gradient

  y, mean, variance = normalise(x, scale, offset)
  return tf.ensure_shape(y, x.shape), tf.stop_gradient(mean), tf.stop_gradient(variance)
