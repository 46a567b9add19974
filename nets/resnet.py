"""Residual networks for 32x32 images, as functional tf_keras models."""

from __future__ import annotations

import dataclasses

import tf_keras as keras

from secateurs.utils.config import Config, option
from secateurs.utils.errors import UserError

L = keras.layers
CIFAR_SIZES = (20, 32, 44, 56, 110)
_WIDTHS = (16, 32, 64)
_BN_EPSILON = 1e-5
_INIT = 'he_normal'


@dataclasses.dataclass(frozen=True)
class ResNetConfig(Config):
  """Which residual network."""

  resnet_size: int = option(20, f'Layers of the ResNet: {", ".join(map(str, CIFAR_SIZES))}.')


def cifar_resnet(
  size: int = 20, input_shape: tuple[int, int, int] = (32, 32, 3), nb_classes: int = 10
) -> keras.Model:
  """Builds the ResNet of He et al. 2016 for CIFAR-10 (section 4.2); outputs are logits.

  Three stages of (size - 2) / 6 basic blocks with 16, 32 and 64 channels. A conv with stride 2 gets
  symmetric padding of one pixel, so that weights trained elsewhere carry over. Deviation from the
  paper: where the shape changes, the shortcut is a 1x1 projection with BN (the paper's option B), not
  zero padding (option A).

  Raises:
    UserError: size is none of 20, 32, 44, 56, 110.
  """
  if size not in CIFAR_SIZES:
    raise UserError(
      f'--resnet_size takes one of {", ".join(map(str, CIFAR_SIZES))} for 32x32 images, but {size} '
      'was given.'
    )
  inputs = L.Input(input_shape, name='images')
  x = _conv(inputs, _WIDTHS[0], 3, 1, 'stem_conv')
  x = L.ReLU(name='stem_relu')(_bn(x, 'stem_bn'))
  for stage, width in enumerate(_WIDTHS, 1):
    for block in range(1, (size - 2) // 6 + 1):
      stride = 2 if stage > 1 and block == 1 else 1
      x = _basic_block(x, width, stride, f'stage{stage}_block{block}')
  x = L.GlobalAveragePooling2D(name='pool')(x)
  logits = L.Dense(nb_classes, kernel_initializer=_INIT, name='logits')(x)
  return keras.Model(inputs, logits, name=f'resnet{size}')


def _basic_block(x, width: int, stride: int, name: str):  # noqa: ANN001
  """conv-BN-ReLU-conv-BN beside a shortcut, added, ReLU (He et al. 2016, figure 2)."""
  shortcut = x
  if stride != 1 or x.shape[-1] != width:
    shortcut = _conv(x, width, 1, stride, f'{name}_shortcut_conv')
    shortcut = _bn(shortcut, f'{name}_shortcut_bn')
  x = _conv(x, width, 3, stride, f'{name}_conv1')
  x = L.ReLU(name=f'{name}_relu1')(_bn(x, f'{name}_bn1'))
  x = _conv(x, width, 3, 1, f'{name}_conv2')
  x = L.Add(name=f'{name}_add')([_bn(x, f'{name}_bn2'), shortcut])
  return L.ReLU(name=f'{name}_relu2')(x)


def _conv(x, width: int, kernel: int, stride: int, name: str):  # noqa: ANN001
  padding = 'same'
  if stride > 1 and kernel > 1:
    x = L.ZeroPadding2D(kernel // 2, name=f'{name}_pad')(x)
    padding = 'valid'
  return L.Conv2D(
    width, kernel, stride, padding, use_bias=False, kernel_initializer=_INIT, name=name
  )(x)


def _bn(x, name: str):  # noqa: ANN001
  return L.BatchNormalization(epsilon=_BN_EPSILON, momentum=0.9, name=name)(x)
