"""The input rows that a layer multiplies with its kernel."""

from __future__ import annotations

import numpy as np
import tf_keras as keras

from secateurs.utils.training.layerwise.linear import is_separable

L = keras.layers


def patches(maps: np.ndarray, layer: keras.layers.Layer, points: tuple) -> np.ndarray:
  """The input rows that a layer multiplies with its kernel at some output positions.

  Args:
    maps: [n, h, w, c] (or [n, t, c], [n, d, h, w, c]), or [n, ..., c] for a Dense layer.
    layer: a convolution, plain or separable, or a Dense layer.
    points: index arrays of output positions: (image, row, column), or (image,) for flat rows.

  Returns:
    [points, k * k * c], in the order of the flattened kernel, or [points, c]. For a separable
    convolution what its depthwise kernel makes of them, [points, c * multiplier].
  """
  if isinstance(layer, L.Dense):
    return maps[points]
  nb_axes, nb_points = len(points) - 1, len(points[0])
  inside, places = np.ones((nb_points, *[1] * nb_axes), bool), []
  for axis in range(nb_axes):
    starts = _starts(layer, axis, maps.shape[1 + axis])
    reach = np.arange(layer.kernel_size[axis]) * layer.dilation_rate[axis]
    found = points[1 + axis][:, None] * layer.strides[axis] - starts + reach
    found = found.reshape(nb_points, *[1] * axis, -1, *[1] * (nb_axes - 1 - axis))
    inside = inside & (found >= 0) & (found < maps.shape[1 + axis])
    places.append(np.clip(found, 0, maps.shape[1 + axis] - 1))
  images = points[0].reshape(nb_points, *[1] * nb_axes)
  found = np.where(inside[..., None], maps[(images, *places)], 0)
  if not is_separable(layer):
    return found.reshape(nb_points, -1)
  depthwise = layer.depthwise_kernel.numpy()
  depthwise = depthwise.reshape(-1, *depthwise.shape[-2:])
  found = found.reshape(nb_points, len(depthwise), -1).astype(depthwise.dtype)
  return np.einsum('pkc,kcm->pcm', found, depthwise, optimize=True).reshape(nb_points, -1)


def _starts(layer: keras.layers.Layer, axis: int, size: int) -> int:
  """Zeros that a convolution puts before an axis of its input."""
  reach = (layer.kernel_size[axis] - 1) * layer.dilation_rate[axis] + 1
  if layer.padding == 'causal':
    return reach - 1
  if layer.padding != 'same':
    return 0
  stride = layer.strides[axis]
  return max((-(-size // stride) - 1) * stride + reach - size, 0) // 2
