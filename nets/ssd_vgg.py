"""The maps of SSD300's VGG-16."""

from __future__ import annotations

import functools

import tf_keras as keras

from secateurs.nets.layers import INIT, widened
from secateurs.utils.graph.flat.l2_norm import L2Norm

L = keras.layers
_STAGES = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
_EXTRAS = ((256, 512, 2), (128, 256, 2), (128, 256, 0), (128, 256, 0))


def vgg16_maps(inputs, width_mult: float) -> list:  # noqa: ANN001
  """conv4_3 normalised, fc7, and the four layers after it (Liu et al. 2016, figure 2).

  As published, pool5 keeps the map's size, fc6 is a 3x3 convolution with holes and fc7 a 1x1 one, and
  pooling rounds odd sizes up. Layers have the names of `vgg.vgg16`.

  Args:
    inputs: Keras tensor of the images.
    width_mult: multiplier for all numbers of channels, rounded down.
  """
  widen = functools.partial(widened, factor=width_mult)
  x, maps = inputs, []
  for stage, (width, repeats) in enumerate(_STAGES, 1):
    for number in range(1, repeats + 1):
      x = _conv(x, widen(width), 3, f'{stage}_{number}')
    if stage == 4:
      maps.append(L2Norm(name='conv4_3_norm')(x))
    window, stride = (3, 1) if stage == len(_STAGES) else (2, 2)
    x = L.MaxPooling2D(window, stride, padding='same', name=f'pool{stage}')(x)
  x = _conv(x, widen(1024), 3, '6', dilation_rate=6)
  x = _conv(x, widen(1024), 1, '7')
  maps.append(x)
  for number, (middle, width, stride) in enumerate(_EXTRAS, 8):
    x = _conv(x, widen(middle), 1, f'{number}_1')
    if stride:
      x = L.ZeroPadding2D(1, name=f'conv{number}_2_pad')(x)
    x = _conv(x, widen(width), 3, f'{number}_2', padding='valid', strides=stride or 1)
    maps.append(x)
  return maps


def _conv(x, width: int, kernel: int, number: str, padding: str = 'same', **options: int):  # noqa: ANN001
  x = L.Conv2D(
    width, kernel, padding=padding, kernel_initializer=INIT, name=f'conv{number}', **options
  )(x)
  return L.ReLU(name=f'relu{number}')(x)
