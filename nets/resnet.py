"""Residual networks, as functional tf_keras models."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import tensorflow as tf
import tf_keras as keras

from secateurs.nets import applications
from secateurs.nets.layers import INIT, batch_norm, conv, widened
from secateurs.nets.network import Network, width_suffix
from secateurs.utils.config import Config, option
from secateurs.utils.errors import UserError

L = keras.layers
CIFAR_SIZES = (20, 32, 44, 56, 110)
PREACTIVATION_SIZES = (164,)
_ALL_CIFAR_SIZES = (*CIFAR_SIZES, *PREACTIVATION_SIZES)
IMAGENET_BLOCKS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}
_CIFAR_WIDTHS = (16, 32, 64)
SHORTCUTS = ('projection', 'zero')
_IMAGENET_WIDTHS = (64, 128, 256, 512)
_BOTTLENECK_SIZES = (50, 101)
_EXPANSION = 4


@dataclasses.dataclass(frozen=True)
class ResNetConfig(Config):
  """Residual network for small images."""

  resnet_size: int = option(
    20, f'Depth of the ResNet: {", ".join(map(str, _ALL_CIFAR_SIZES))} (164: pre-activation).'
  )
  resnet_shortcut: str = option(
    'projection',
    'Shortcut where the shape changes: projection = a 1x1 convolution (option B of the paper), zero = '
    'every second pixel and channels of zeros, without weights (option A).',
    choices=SHORTCUTS,
  )


@dataclasses.dataclass(frozen=True)
class ImagenetResNetConfig(Config):
  """Residual network for ILSVRC-12."""

  resnet_size: int = option(50, f'Depth of the ResNet: {", ".join(map(str, IMAGENET_BLOCKS))}.')
  resnet_version: str = option(
    '1.5',
    'Position of the stride in bottlenecks: 1.5 = the 3x3 convolution, 1 = the 1x1 before it.',
    choices=('1', '1.5'),
  )
  resnet_width_mult: float = option(
    1.0, 'Multiplier for the number of channels of all layers.', low=0.01, high=4.0
  )


def cifar_network(config: ResNetConfig) -> Network:
  """Returns the configured ResNet for 32x32 images.

  Raises:
    UserError: a shortcut without weights was asked for where the network has none.
  """
  size, shortcut = config.resnet_size, config.resnet_shortcut
  suffix = '' if shortcut == 'projection' else '_zero'
  if size in PREACTIVATION_SIZES:
    if shortcut == 'zero':
      raise UserError(
        f'--resnet_shortcut zero was given with --resnet_size {size}, whose shortcuts are projections: '
        'leave it out, or take another size.'
      )
    return Network(f'resnet{size}', functools.partial(preactivation_resnet, size))
  build = functools.partial(cifar_resnet, size, shortcut=shortcut)
  return Network(f'resnet{size}{suffix}', build)


def imagenet_network(config: ImagenetResNetConfig) -> Network:
  """Returns the configured ResNet for large images."""
  size, version, factor = config.resnet_size, config.resnet_version, config.resnet_width_mult
  build = functools.partial(imagenet_resnet, size, version=version, width_mult=factor)
  suffix = '' if version == '1.5' or size not in _BOTTLENECK_SIZES else '_v1'
  return Network(f'resnet{size}{suffix}{width_suffix(factor)}', build, applications.resnet_weights)


def cifar_resnet(
  size: int = 20,
  input_shape: tuple[int, int, int] = (32, 32, 3),
  nb_classes: int = 10,
  *,
  shortcut: str = 'projection',
) -> keras.Model:
  """Builds the ResNet of He et al. 2016 for CIFAR-10 (section 4.2); outputs are logits.

  Three stages of (size - 2) / 6 basic blocks with 16, 32 and 64 channels. A convolution with stride 2
  has symmetric padding of one pixel, so that weights trained elsewhere fit. Where the shape changes,
  the shortcut is a 1x1 projection with BN (option B of the paper), or, with `shortcut='zero'`, every
  second pixel with as many channels of zeros on either side (option A, which the paper uses here).

  Raises:
    UserError: size is not one of 20, 32, 44, 56, 110.
  """
  if size not in CIFAR_SIZES:
    raise UserError(
      f'--resnet_size takes one of {", ".join(map(str, _ALL_CIFAR_SIZES))} for 32x32 images, but '
      f'{size} was given.'
    )
  join = _padded_shortcut if shortcut == 'zero' else _shortcut
  inputs = L.Input(input_shape, name='images')
  x = conv(inputs, _CIFAR_WIDTHS[0], 3, 1, 'stem_conv')
  x = L.ReLU(name='stem_relu')(batch_norm(x, 'stem_bn'))
  for stage, width in enumerate(_CIFAR_WIDTHS, 1):
    for block in range(1, (size - 2) // 6 + 1):
      stride = 2 if stage > 1 and block == 1 else 1
      x = _basic_block(x, width, stride, f'stage{stage}_block{block}', join)
  return _classified(inputs, x, nb_classes, f'resnet{size}')


def preactivation_resnet(
  size: int = 164, input_shape: tuple[int, int, int] = (32, 32, 3), nb_classes: int = 10
) -> keras.Model:
  """Builds the pre-activation ResNet of He et al. 2016b (arXiv:1603.05027); outputs are logits.

  Three stages of (size - 2) / 9 bottlenecks, 16, 32 and 64 channels wide with four times as many
  outputs: BN, ReLU and convolution three times, and nothing after the addition. Where the shape
  changes, the shortcut is a 1x1 convolution of the block's input, as Liu et al. 2017 prune it.

  Raises:
    UserError: size is not 164.
  """
  if size not in PREACTIVATION_SIZES:
    raise UserError(f'A pre-activation ResNet of {size} layers was asked for, expected 164.')
  inputs = L.Input(input_shape, name='images')
  x = conv(inputs, _CIFAR_WIDTHS[0], 3, 1, 'stem_conv')
  for stage, width in enumerate(_CIFAR_WIDTHS, 1):
    for block in range(1, (size - 2) // 9 + 1):
      stride = 2 if stage > 1 and block == 1 else 1
      x = _preactivation_block(x, width, stride, f'stage{stage}_block{block}')
  x = L.ReLU(name='head_relu')(batch_norm(x, 'head_bn'))
  return _classified(inputs, x, nb_classes, f'resnet{size}')


def imagenet_resnet(
  size: int = 50,
  input_shape: tuple[int, int, int] = (224, 224, 3),
  nb_classes: int = 1000,
  *,
  version: str = '1.5',
  width_mult: float = 1.0,
  strides: tuple[int, ...] = (1, 2, 2, 2),
) -> keras.Model:
  """Builds the ResNet of He et al. 2016 for ImageNet (table 1); outputs are logits.

  Four stages with 64 to 512 channels: basic blocks for 18 and 34 layers, bottlenecks with four times
  as many output channels for 50 and 101. The padding is symmetric throughout.

  Args:
    size: 18, 34, 50 or 101.
    input_shape: (height, width, channels); the last feature map has 1/32 of the size, rounded up.
    nb_classes: number of logits.
    version: `1` puts a bottleneck's stride into its first 1x1 convolution, as the paper and
      tf_keras.applications do; `1.5` into its 3x3 convolution, as most later training code does.
    width_mult: multiplier for all numbers of channels, rounded down.
    strides: of the first block of each stage.

  Raises:
    UserError: size is not one of 18, 34, 50, 101.
  """
  if size not in IMAGENET_BLOCKS:
    raise UserError(
      f'--resnet_size takes one of {", ".join(map(str, IMAGENET_BLOCKS))} for ILSVRC-12, but {size} '
      'was given.'
    )
  block_of = _basic_block
  if size in _BOTTLENECK_SIZES:
    block_of = functools.partial(_bottleneck, version=version)
  inputs = L.Input(input_shape, name='images')
  widths = [widened(width, width_mult) for width in _IMAGENET_WIDTHS]
  x = conv(inputs, widths[0], 7, 2, 'stem_conv')
  x = L.ReLU(name='stem_relu')(batch_norm(x, 'stem_bn'))
  x = L.ZeroPadding2D(1, name='stem_pool_pad')(x)  # After a ReLU, zero works like -inf.
  x = L.MaxPooling2D(3, 2, name='stem_pool')(x)
  for stage, width in enumerate(widths, 1):
    for block in range(1, IMAGENET_BLOCKS[size][stage - 1] + 1):
      stride = strides[stage - 1] if block == 1 else 1
      x = block_of(x, width, stride, f'stage{stage}_block{block}')
  return _classified(inputs, x, nb_classes, f'resnet{size}')


def _basic_block(x, width: int, stride: int, name: str, join: Callable | None = None):  # noqa: ANN001
  """conv-BN-ReLU-conv-BN, plus a shortcut, then ReLU (He et al. 2016, figure 2)."""
  shortcut = (join or _shortcut)(x, width, stride, name)
  x = conv(x, width, 3, stride, f'{name}_conv1')
  x = L.ReLU(name=f'{name}_relu1')(batch_norm(x, f'{name}_bn1'))
  x = conv(x, width, 3, 1, f'{name}_conv2')
  x = L.Add(name=f'{name}_add')([batch_norm(x, f'{name}_bn2'), shortcut])
  return L.ReLU(name=f'{name}_relu2')(x)


def _bottleneck(x, width: int, stride: int, name: str, *, version: str):  # noqa: ANN001
  """1x1, 3x3 and 1x1 conv, each with BN, plus a shortcut (He et al. 2016, figure 5)."""
  strides = (stride, 1) if version == '1' else (1, stride)
  shortcut = _shortcut(x, _EXPANSION * width, stride, name)
  for number, (kernel, step) in enumerate(zip((1, 3), strides, strict=True), 1):
    x = conv(x, width, kernel, step, f'{name}_conv{number}')
    x = L.ReLU(name=f'{name}_relu{number}')(batch_norm(x, f'{name}_bn{number}'))
  x = conv(x, _EXPANSION * width, 1, 1, f'{name}_conv3')
  x = L.Add(name=f'{name}_add')([batch_norm(x, f'{name}_bn3'), shortcut])
  return L.ReLU(name=f'{name}_relu3')(x)


def _preactivation_block(x, width: int, stride: int, name: str):  # noqa: ANN001
  """BN-ReLU-conv three times: 1x1, 3x3, 1x1; plus a shortcut (He et al. 2016b, figure 4e)."""
  shortcut, outs = x, _EXPANSION * width
  if stride > 1 or x.shape[-1] != outs:
    shortcut = conv(x, outs, 1, stride, f'{name}_shortcut_conv')
  for number, (channels, kernel, step) in enumerate(
    ((width, 1, 1), (width, 3, stride), (outs, 1, 1)), 1
  ):
    x = L.ReLU(name=f'{name}_relu{number}')(batch_norm(x, f'{name}_bn{number}'))
    x = conv(x, channels, kernel, step, f'{name}_conv{number}')
  return L.Add(name=f'{name}_add')([x, shortcut])


def _padded_shortcut(x, width: int, stride: int, name: str):  # noqa: ANN001
  """The block's input; where the shape changes, every second pixel, and zeros for new channels."""
  missing = width - x.shape[-1]
  if stride > 1:
    x = L.MaxPooling2D(1, stride, name=f'{name}_shortcut_pool')(x)
  if not missing:
    return x
  sides = [missing // 2, missing - missing // 2]
  return tf.pad(x, [[0, 0], [0, 0], [0, 0], sides], name=f'{name}_shortcut_pad')


def _shortcut(x, width: int, stride: int, name: str):  # noqa: ANN001
  """Returns the block's input, projected where the shape changes."""
  if stride == 1 and x.shape[-1] == width:
    return x
  x = conv(x, width, 1, stride, f'{name}_shortcut_conv')
  return batch_norm(x, f'{name}_shortcut_bn')


def _classified(inputs, x, nb_classes: int, name: str) -> keras.Model:  # noqa: ANN001
  x = L.GlobalAveragePooling2D(name='pool')(x)
  logits = L.Dense(nb_classes, kernel_initializer=INIT, name='logits')(x)
  return keras.Model(inputs, logits, name=name)
