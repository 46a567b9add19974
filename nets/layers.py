"""Convolution and normalisation layers that all networks share."""

from __future__ import annotations

import tf_keras as keras

L = keras.layers
INIT = 'he_normal'
_BN_EPSILON = 1e-5
_BN_MOMENTUM = 0.9


def conv(x, width: int, kernel: int, stride: int, name: str, *, symmetric: bool = True):  # noqa: ANN001, ANN201
  """Convolution without bias; the output has the size of the input divided by `stride`.

  Args:
    x: Keras tensor [n, h, w, c].
    width: number of filters.
    kernel: height and width of the kernel, odd.
    stride: stride in both directions.
    name: name of the layer; its padding layer has the name `<name>_pad`.
    symmetric: if True, a strided layer is padded equally on all sides, as most published weights
      expect; if False, as TensorFlow's SAME, which pads an even size only at its end.
  """
  x, padding = _padded(x, kernel, stride, name, symmetric)
  return L.Conv2D(
    width, kernel, stride, padding, use_bias=False, kernel_initializer=INIT, name=name
  )(x)


def depthwise(x, stride: int, name: str, *, symmetric: bool = True):  # noqa: ANN001, ANN201
  """Depthwise 3x3 convolution without bias; arguments as for `conv`."""
  x, padding = _padded(x, 3, stride, name, symmetric)
  return L.DepthwiseConv2D(
    3, stride, padding, use_bias=False, depthwise_initializer=INIT, name=name
  )(x)


def batch_norm(x, name: str, epsilon: float = _BN_EPSILON):  # noqa: ANN001, ANN201
  """Batch normalisation over the last axis."""
  return L.BatchNormalization(epsilon=epsilon, momentum=_BN_MOMENTUM, name=name)(x)


def widened(width: int, factor: float) -> int:
  """Number of channels times `factor`, rounded down, at least one."""
  return max(int(width * factor), 1)


def _padded(x, kernel: int, stride: int, name: str, symmetric: bool):  # noqa: ANN001
  if stride == 1 or kernel == 1 or not symmetric:
    return x, 'same'
  return L.ZeroPadding2D(kernel // 2, name=f'{name}_pad')(x), 'valid'
