"""VGG-16 for CIFAR-10 and ILSVRC-12, VGG-19 for CIFAR-10, as functional tf_keras models."""

from __future__ import annotations

import dataclasses
import functools

import tf_keras as keras

from secateurs.nets import applications
from secateurs.nets.layers import INIT, batch_norm, widened
from secateurs.nets.network import Network, width_suffix
from secateurs.utils.config import Config, option

L = keras.layers
_STAGES = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
_CIFAR_HIDDEN, _IMAGENET_HIDDEN = (512,), (4096, 4096)


_SLIMMING_STAGES = ((64, 2), (128, 2), (256, 4), (512, 4), (512, 4))


@dataclasses.dataclass(frozen=True)
class VggConfig(Config):
  """VGG network."""

  vgg_batch_norm: bool = option(True, 'Add batch normalisation after every convolution.')
  vgg_width_mult: float = option(
    1.0, 'Multiplier for the number of channels of all layers.', low=0.01, high=4.0
  )


@dataclasses.dataclass(frozen=True)
class CifarVggConfig(VggConfig):
  """VGG network for small images."""

  vgg_size: int = option(
    16,
    'Layers: 16, with a hidden layer (Li et al. 2017), or 19, without one (Liu et al. 2017).',
    choices=(16, 19),
  )


def cifar_network(config: CifarVggConfig) -> Network:
  """Returns VGG-16 with one hidden layer of 512 units, or VGG-19 without one."""
  if config.vgg_size == 16:
    return _network(config, _CIFAR_HIDDEN)
  normed, factor = config.vgg_batch_norm, config.vgg_width_mult
  name = 'vgg19' if normed else 'vgg19_plain'
  build = functools.partial(cifar_vgg19, normed=normed, width_mult=factor)
  return Network(f'{name}{width_suffix(factor)}', build)


def imagenet_network(config: VggConfig) -> Network:
  """Returns VGG-16 with two hidden layers of 4096 units."""
  return _network(config, _IMAGENET_HIDDEN)


def _network(config: VggConfig, hidden: tuple[int, ...]) -> Network:
  normed, factor = config.vgg_batch_norm, config.vgg_width_mult
  build = functools.partial(vgg16, hidden=hidden, normed=normed, width_mult=factor)
  translate = functools.partial(applications.vgg_weights, normed=normed)
  name = 'vgg16' if normed else 'vgg16_plain'
  return Network(f'{name}{width_suffix(factor)}', build, translate)


def vgg16(
  input_shape: tuple[int, int, int] = (224, 224, 3),
  nb_classes: int = 1000,
  *,
  hidden: tuple[int, ...] = _IMAGENET_HIDDEN,
  normed: bool = True,
  width_mult: float = 1.0,
) -> keras.Model:
  """Builds VGG-16 (Simonyan & Zisserman 2015, table 1, column D); outputs are logits.

  Deviations: batch normalisation after the convolutions; no dropout, so that a resumed run computes the
  same numbers as one that was not interrupted. With `hidden=(512,)` and 32x32 images it is the network
  that Li et al. 2017 prune on CIFAR-10.

  Args:
    input_shape: (height, width, channels); sides of at least 32.
    nb_classes: number of logits.
    hidden: units of the hidden dense layers.
    normed: if True, convolutions have batch normalisation; if False, a bias.
    width_mult: multiplier for all widths except the last, rounded down.
  """
  inputs = x = L.Input(input_shape, name='images')
  for stage, (width, repeats) in enumerate(_STAGES, 1):
    for number in range(1, repeats + 1):
      x = _conv_relu(x, widened(width, width_mult), f'{stage}_{number}', normed)
    x = L.MaxPooling2D(2, name=f'pool{stage}')(x)
  x = L.Flatten(name='flatten')(x)
  for number, units in enumerate(hidden, len(_STAGES) + 1):
    units = widened(units, width_mult)
    x = L.Dense(units, kernel_initializer=INIT, name=f'fc{number}')(x)
    x = L.ReLU(name=f'relu{number}')(x)
  logits = L.Dense(nb_classes, kernel_initializer=INIT, name='logits')(x)
  return keras.Model(inputs, logits, name='vgg16')


def cifar_vgg19(
  input_shape: tuple[int, int, int] = (32, 32, 3),
  nb_classes: int = 10,
  *,
  normed: bool = True,
  width_mult: float = 1.0,
) -> keras.Model:
  """Builds the VGG-19 of Liu et al. 2017 (Network Slimming) for 32x32 images; outputs are logits.

  The sixteen convolutions of column E, a maximum over 2x2 pixels after each stage but the last, a mean
  over 2x2 pixels after that, and one dense layer.

  Args:
    input_shape: (height, width, channels); sides of at least 32.
    nb_classes: number of logits.
    normed: if True, convolutions have batch normalisation; if False, a bias.
    width_mult: multiplier for the numbers of channels, rounded down.
  """
  inputs = x = L.Input(input_shape, name='images')
  for stage, (width, repeats) in enumerate(_SLIMMING_STAGES, 1):
    for number in range(1, repeats + 1):
      x = _conv_relu(x, widened(width, width_mult), f'{stage}_{number}', normed)
    pool = L.AveragePooling2D if stage == len(_SLIMMING_STAGES) else L.MaxPooling2D
    x = pool(2, name=f'pool{stage}')(x)
  logits = L.Dense(nb_classes, kernel_initializer=INIT, name='logits')(L.Flatten(name='flatten')(x))
  return keras.Model(inputs, logits, name='vgg19')


def _conv_relu(x, width: int, number: str, normed: bool):  # noqa: ANN001
  x = L.Conv2D(
    width,
    3,
    padding='same',
    use_bias=not normed,
    kernel_initializer=INIT,
    name=f'conv{number}',
  )(x)
  if normed:
    x = batch_norm(x, f'bn{number}')
  return L.ReLU(name=f'relu{number}')(x)
