"""Xception for ILSVRC-12, as a functional tf_keras model."""

from __future__ import annotations

import dataclasses
import functools

import tf_keras as keras

from secateurs.nets import applications
from secateurs.nets.layers import INIT, batch_norm, widened
from secateurs.nets.network import Network, width_suffix
from secateurs.utils.config import Config, option

L = keras.layers
_ENTRY = (128, 256, 728)
_NB_MIDDLE = 8


@dataclasses.dataclass(frozen=True)
class XceptionConfig(Config):
  """Xception network."""

  xception_width_mult: float = option(
    1.0, 'Multiplier for the number of channels of all layers.', low=0.01, high=4.0
  )


def imagenet_network(config: XceptionConfig) -> Network:
  """Returns the configured Xception."""
  factor = config.xception_width_mult
  build = functools.partial(xception, width_mult=factor)
  return Network(f'xception{width_suffix(factor)}', build, applications.xception_weights)


def xception(
  input_shape: tuple[int, int, int] = (299, 299, 3),
  nb_classes: int = 1000,
  *,
  width_mult: float = 1.0,
) -> keras.Model:
  """Builds Xception (Chollet 2017, arXiv:1610.02357, figure 5); outputs are logits.

  Two convolutions, then residual blocks of separable convolutions: three that halve the map, eight of
  728 channels, one more that halves it, and two layers of 1536 and 2048 channels. Padding is as in
  tf_keras.applications, whose weights fit.

  Args:
    input_shape: (height, width, channels); sides of at least 71.
    nb_classes: number of logits.
    width_mult: multiplier for all numbers of channels, rounded down.
  """
  wide = functools.partial(widened, factor=width_mult)
  inputs = L.Input(input_shape, name='images')
  x = _stem(inputs, wide(32), 2, 'block1_conv1')
  x = _stem(x, wide(64), 1, 'block1_conv2')
  for number, width in enumerate(_ENTRY, 2):
    widths = (wide(width), wide(width))
    x = _halving(x, widths, f'block{number}', first_relu=number > 2)
  last = len(_ENTRY) + 1 + _NB_MIDDLE
  for number in range(len(_ENTRY) + 2, last + 1):
    shortcut = x
    for part in (1, 2, 3):
      x = _separable(x, wide(_ENTRY[-1]), f'block{number}_sepconv{part}')
    x = L.Add(name=f'block{number}_add')([x, shortcut])
  x = _halving(x, (wide(728), wide(1024)), f'block{last + 1}')
  for part, width in enumerate((1536, 2048), 1):
    x = _separable(x, wide(width), f'block{last + 2}_sepconv{part}', before=False)
    x = L.ReLU(name=f'block{last + 2}_relu{part}')(x)
  x = L.GlobalAveragePooling2D(name='pool')(x)
  logits = L.Dense(nb_classes, kernel_initializer=INIT, name='logits')(x)
  return keras.Model(inputs, logits, name='xception')


def _stem(x, width: int, stride: int, name: str):  # noqa: ANN001
  x = L.Conv2D(width, 3, stride, use_bias=False, kernel_initializer=INIT, name=name)(x)
  return L.ReLU(name=f'{name}_relu')(batch_norm(x, f'{name}_bn'))


def _halving(x, widths: tuple[int, int], name: str, *, first_relu: bool = True):  # noqa: ANN001
  """Two separable convolutions and a maximum over 3x3 pixels, plus a projection with stride 2."""
  shortcut = L.Conv2D(
    widths[1],
    1,
    2,
    'same',
    use_bias=False,
    kernel_initializer=INIT,
    name=f'{name}_shortcut_conv',
  )(x)
  shortcut = batch_norm(shortcut, f'{name}_shortcut_bn')
  for part, width in enumerate(widths, 1):
    x = _separable(x, width, f'{name}_sepconv{part}', before=part > 1 or first_relu)
  x = L.MaxPooling2D(3, 2, 'same', name=f'{name}_pool')(x)
  return L.Add(name=f'{name}_add')([x, shortcut])


def _separable(x, width: int, name: str, *, before: bool = True):  # noqa: ANN001
  """ReLU, unless `before` is False, separable 3x3 convolution, BN."""
  if before:
    x = L.ReLU(name=f'{name}_relu')(x)
  x = L.SeparableConv2D(
    width,
    3,
    padding='same',
    use_bias=False,
    depthwise_initializer=INIT,
    pointwise_initializer=INIT,
    name=name,
  )(x)
  return batch_norm(x, f'{name}_bn')
