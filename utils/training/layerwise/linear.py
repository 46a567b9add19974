"""Layers as linear maps: which can be refit, and their kernels as matrices."""

from __future__ import annotations

import math

import numpy as np
import tensorflow as tf
import tf_keras as keras

L = keras.layers
MAX_ROWS = 10_000  # Their normal equations take 800 MB.
_ADDITIONS = ('__operators__.add', 'math.add')


def is_addition(layer: keras.layers.Layer) -> bool:
  """Whether a layer adds its inputs element by element."""
  return type(layer) is L.Add or getattr(layer, 'symbol', None) in _ADDITIONS


def is_separable(layer: keras.layers.Layer) -> bool:
  """Whether a layer is a separable convolution: a depthwise kernel, then a pointwise one."""
  return type(layer) in (L.SeparableConv1D, L.SeparableConv2D)


def is_refittable(layer: keras.layers.Layer, rank: int, max_rows: int | None = MAX_ROWS) -> bool:
  """Whether a layer can be refit: a plain or separable convolution, or Dense, of no enormous kernel.

  A Dense layer on maps or sequences is a convolution of size one, and so is the pointwise kernel of a
  separable convolution: it reads what the depthwise kernel makes, which stays.
  """
  if is_separable(layer):
    fits = layer.data_format == 'channels_last'
  elif type(layer) in (L.Conv1D, L.Conv2D, L.Conv3D):
    fits = layer.groups == 1 and layer.data_format == 'channels_last'
  else:
    fits = type(layer) is L.Dense and rank >= 2
  return fits and (max_rows is None or nb_rows(layer) <= max_rows)


def kernel_of(layer: keras.layers.Layer) -> tf.Variable:
  """The weights [..., rows, outputs] by which a layer sums over its inputs."""
  return layer.pointwise_kernel if is_separable(layer) else layer.kernel


def nb_rows(layer: keras.layers.Layer) -> int:
  """Rows of `kernel_matrix`."""
  return math.prod(kernel_of(layer).shape[:-1])


def nb_inputs(layer: keras.layers.Layer) -> int:
  """Input channels of a layer."""
  return (layer.depthwise_kernel if is_separable(layer) else layer.kernel).shape[-2]


def kernel_matrix(layer: keras.layers.Layer) -> np.ndarray:
  """The kernel as [rows, outputs], rows as `patches` gives them, float64."""
  kernel = kernel_of(layer).numpy().astype(np.float64)
  return kernel.reshape(-1, kernel.shape[-1])


def by_last_rows(layer: keras.layers.Layer, by_channel: np.ndarray) -> np.ndarray:
  """Values of a layer's input channels, [inputs], for the last axis of rows of its kernel.

  They are the same, except for separable convolutions, where each channel has as many rows as the
  depthwise kernel makes of it.
  """
  if not is_separable(layer):
    return by_channel
  return np.repeat(by_channel, layer.depthwise_kernel.shape[-1])


def row_channels(layer: keras.layers.Layer) -> np.ndarray:
  """The input channel of each row of `kernel_matrix`."""
  last = by_last_rows(layer, np.arange(nb_inputs(layer)))
  return np.tile(last, nb_rows(layer) // len(last))
