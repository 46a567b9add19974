"""DenseNet for small images, as a functional tf_keras model."""

from __future__ import annotations

import dataclasses
import functools

import tf_keras as keras

from secateurs.nets.layers import INIT, batch_norm, conv
from secateurs.nets.network import Network
from secateurs.utils.config import Config, option
from secateurs.utils.errors import UserError

L = keras.layers
_NB_BLOCKS = 3
_STEM = 16


@dataclasses.dataclass(frozen=True)
class DenseNetConfig(Config):
  """DenseNet for small images."""

  densenet_size: int = option(40, 'Depth of the DenseNet: 4 more than a multiple of 3.', low=7)
  densenet_growth: int = option(12, 'Channels that each layer adds.', low=1)


def cifar_network(config: DenseNetConfig) -> Network:
  """Returns the configured DenseNet for 32x32 images."""
  size, growth = config.densenet_size, config.densenet_growth
  build = functools.partial(cifar_densenet, size, growth=growth)
  return Network(f'densenet{size}_k{growth}', build)


def cifar_densenet(
  size: int = 40,
  input_shape: tuple[int, int, int] = (32, 32, 3),
  nb_classes: int = 10,
  *,
  growth: int = 12,
) -> keras.Model:
  """Builds the DenseNet of Huang et al. 2017 (arXiv:1608.06993) for CIFAR; outputs are logits.

  A convolution of 16 channels; three blocks of (size - 4) / 3 layers, BN-ReLU-conv3x3, each of which
  reads what all before it in its block gave; between blocks BN-ReLU-conv1x1 of the same width and a
  mean over 2x2 pixels. No bottlenecks and no compression. Deviation: no dropout.

  Args:
    size: depth; size - 4 is a multiple of 3.
    input_shape: (height, width, channels).
    nb_classes: number of logits.
    growth: channels that each layer adds.

  Raises:
    UserError: there is no such depth.
  """
  layers, rest = divmod(size - 4, _NB_BLOCKS)
  if rest or layers < 1:
    raise UserError(
      f'--densenet_size takes a depth of 4 more than a multiple of 3, such as 40, but {size} was given.'
    )
  inputs = L.Input(input_shape, name='images')
  x = conv(inputs, _STEM, 3, 1, 'stem_conv')
  for block in range(1, _NB_BLOCKS + 1):
    for number in range(1, layers + 1):
      name = f'block{block}_layer{number}'
      new = conv(_active(x, name), growth, 3, 1, f'{name}_conv')
      x = L.Concatenate(name=f'{name}_concat')([x, new])
    if block < _NB_BLOCKS:
      name = f'transition{block}'
      x = conv(_active(x, name), x.shape[-1], 1, 1, f'{name}_conv')
      x = L.AveragePooling2D(2, name=f'{name}_pool')(x)
  x = L.GlobalAveragePooling2D(name='pool')(_active(x, 'head'))
  logits = L.Dense(nb_classes, kernel_initializer=INIT, name='logits')(x)
  return keras.Model(inputs, logits, name=f'densenet{size}')


def _active(x, name: str):  # noqa: ANN001
  return L.ReLU(name=f'{name}_relu')(batch_norm(x, f'{name}_bn'))
