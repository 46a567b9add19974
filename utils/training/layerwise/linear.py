"""Layers as linear maps: which can be refit, and their kernels as matrices."""

from __future__ import annotations

import numpy as np
import tf_keras as keras

L = keras.layers
MAX_ROWS = 10_000  # Their normal equations take 800 MB.
_ADDITIONS = ('__operators__.add', 'math.add')


def is_addition(layer: keras.layers.Layer) -> bool:
  """Whether a layer adds its inputs element by element."""
  return type(layer) is L.Add or getattr(layer, 'symbol', None) in _ADDITIONS


def is_refittable(layer: keras.layers.Layer, rank: int, max_rows: int | None = MAX_ROWS) -> bool:
  """Whether a layer can be refit: a plain convolution or a Dense layer, of no enormous kernel.

  A Dense layer on maps or sequences is a convolution of size one.
  """
  if type(layer) in (L.Conv1D, L.Conv2D, L.Conv3D):
    fits = layer.groups == 1 and layer.data_format == 'channels_last'
  else:
    fits = type(layer) is L.Dense and rank >= 2
  return fits and (max_rows is None or int(np.prod(layer.kernel.shape[:-1])) <= max_rows)


def kernel_matrix(layer: keras.layers.Layer) -> np.ndarray:
  """The kernel as [rows, outputs], rows as `patches` gives them, float64."""
  kernel = layer.kernel.numpy().astype(np.float64)
  return kernel.reshape(-1, kernel.shape[-1])


def row_channels(layer: keras.layers.Layer) -> np.ndarray:
  """The input channel of each row of `kernel_matrix`."""
  channels = layer.kernel.shape[-2]
  return np.tile(np.arange(channels), int(np.prod(layer.kernel.shape[:-1])) // channels)
