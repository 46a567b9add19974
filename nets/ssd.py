"""Single-shot detectors (Liu et al. 2016), as functional tf_keras models.

A detector gives one tensor, [n, default boxes, 4 + 1 + classes]: offsets of the boxes, and logits of
the background and of the classes. Default boxes follow the maps from the largest to the smallest.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping

import numpy as np
import tf_keras as keras

from secateurs.nets import applications
from secateurs.nets.layers import INIT, batch_norm, conv, depthwise, widened
from secateurs.nets.mobilenet import mobilenet_v2
from secateurs.nets.resnet import imagenet_resnet
from secateurs.nets.ssd_vgg import vgg16_maps
from secateurs.utils.config import Config, option
from secateurs.utils.detection.anchors import (
  SMALL_96,
  SSD300_COCO,
  SSD300_VOC,
  SSDLITE_300,
  Anchors,
)
from secateurs.utils.errors import UserError

L = keras.layers
Shape = tuple[int, int, int]
Weights = Mapping[str, np.ndarray]
_RELU6 = 6.0


@dataclasses.dataclass(frozen=True)
class SmallSsdConfig(Config):
  """Single-shot detector for small images."""

  ssd_width_mult: float = option(
    1.0, 'Multiplier for the number of channels of all layers but the heads.', low=0.1, high=4.0
  )


@dataclasses.dataclass(frozen=True)
class SsdConfig(Config):
  """Single-shot detector for images of 300x300."""

  ssd_backbone: str = option(
    'resnet50',
    'Backbone: resnet50 (to conv4), vgg16 (with L2 normalisation) or mobilenet_v2 (SSDLite).',
    choices=('resnet50', 'vgg16', 'mobilenet_v2'),
  )
  ssd_backbone_path: str | None = option(
    None,
    'Weights of a classifier with that backbone, for what the two have in common; default: random.',
  )
  ssd_width_mult: float = option(
    1.0, 'Multiplier for the number of channels of the backbone and the layers after it.', low=0.05
  )


@dataclasses.dataclass(frozen=True)
class Detector:
  """A detector of a family.

  Attributes:
    name: such as `ssd300_resnet50`.
    build: builds the model from the image's shape and the number of classes.
    anchors: its default boxes.
    own_weights: names of a classifier's weights in the backbone.
  """

  name: str
  build: Callable[[Shape, int], keras.Model]
  anchors: Anchors
  own_weights: Callable[[Weights], Weights] = dict


def small_detector(config: SmallSsdConfig, size: int) -> Detector:
  """The detector for small images: 96x96, or other sizes with the same cells in proportion.

  Raises:
    UserError: the size is no multiple of 32.
  """
  if size % 32:
    raise UserError(
      f'--scene_size is {size}, but the small detector takes multiples of 32: give 96, for example.'
    )
  if size < 96:
    raise UserError(
      f'--scene_size is {size}, but the small detector takes at least 96: leave the flag out.'
    )
  grids = (size // 8, size // 16, size // 32, size // 32 - 2)
  sizes = tuple(side * size / SMALL_96.image_size for side in SMALL_96.sizes)
  anchors = Anchors(size, grids, sizes, SMALL_96.ratios)
  factor = config.ssd_width_mult
  build = functools.partial(small_ssd, anchors, width_mult=factor)
  suffix = '' if factor == 1 else f'_{factor:g}'
  return Detector(f'ssd_small{suffix}', build, anchors)


def large_detector(config: SsdConfig, dataset: str) -> Detector:
  """The configured detector for images of 300x300, with the default boxes of VOC or COCO."""
  anchors = SSD300_COCO if dataset == 'coco' else SSD300_VOC
  name, factor = config.ssd_backbone, config.ssd_width_mult
  suffix = '' if factor == 1 else f'_{factor:g}'
  if name == 'mobilenet_v2':
    build = functools.partial(ssdlite_mobilenet_v2, width_mult=factor)
    translate = applications.mobilenet_v2_weights
    return Detector(f'ssdlite_mobilenet_v2{suffix}', build, SSDLITE_300, translate)
  if name == 'vgg16':
    build = functools.partial(ssd300_vgg16, anchors, width_mult=factor)
    translate = functools.partial(applications.vgg_weights, normed=False)
    return Detector(f'ssd300_vgg16{suffix}', build, anchors, translate)
  build = functools.partial(ssd300_resnet50, anchors, width_mult=factor)
  return Detector(f'ssd300_resnet50{suffix}', build, anchors, applications.resnet_weights)


def small_ssd(
  anchors: Anchors, input_shape: Shape, nb_classes: int, *, width_mult: float = 1.0
) -> keras.Model:
  """A detector of half a million parameters for 96x96: maps of 12, 6, 3 and 1 cells a side."""
  widen = functools.partial(widened, factor=width_mult)
  inputs = L.Input(input_shape, name='images')
  x = _conv_relu(inputs, widen(16), 3, 2, 'stem')
  x = _conv_relu(x, widen(32), 3, 2, 'stage1_conv1')
  x = _conv_relu(x, widen(32), 3, 1, 'stage1_conv2')
  x = _conv_relu(x, widen(64), 3, 2, 'stage2_conv1')
  first = x = _conv_relu(x, widen(64), 3, 1, 'stage2_conv2')
  x = _conv_relu(x, widen(96), 3, 2, 'stage3_conv1')
  second = x = _conv_relu(x, widen(96), 3, 1, 'stage3_conv2')
  third = x = _extra(x, widen(48), widen(96), 2, 'extra1')
  fourth = _extra(x, widen(48), widen(96), 0, 'extra2')
  return detector(inputs, [first, second, third, fourth], anchors, nb_classes, 'ssd_small')


def ssd300_resnet50(
  anchors: Anchors, input_shape: Shape, nb_classes: int, *, width_mult: float = 1.0
) -> keras.Model:
  """SSD300 on ResNet-50 v1.5 up to its third stage of four (conv4_x), whose stride is removed.

  As published by NVIDIA for COCO: five blocks of a 1x1 and a 3x3 convolution with BN follow.
  """
  body = imagenet_resnet(50, input_shape, 1, width_mult=width_mult, strides=(1, 2, 1, 2))
  x = body.get_layer('stage3_block6_relu3').output
  maps, widen = [x], functools.partial(widened, factor=width_mult)
  layers = ((256, 512, 2), (256, 512, 2), (128, 256, 2), (128, 256, 0), (128, 256, 0))
  for number, (middle, width, stride) in enumerate(layers, 1):
    x = _extra(x, widen(middle), widen(width), stride, f'extra{number}')
    maps.append(x)
  return detector(body.inputs, maps, anchors, nb_classes, 'ssd300_resnet50')


def ssd300_vgg16(
  anchors: Anchors, input_shape: Shape, nb_classes: int, *, width_mult: float = 1.0
) -> keras.Model:
  """SSD300 on VGG-16 (Liu et al. 2016, figure 2), with L2 normalisation of conv4_3; no BN."""
  inputs = L.Input(input_shape, name='images')
  maps = vgg16_maps(inputs, width_mult)
  return detector(inputs, maps, anchors, nb_classes, 'ssd300_vgg16')


def ssdlite_mobilenet_v2(
  input_shape: Shape, nb_classes: int, *, width_mult: float = 1.0
) -> keras.Model:
  """SSDLite on MobileNet v2 (Sandler et al. 2018, section 6.2): depthwise and 1x1 convolutions."""
  body = mobilenet_v2(input_shape, 1, depth_mult=width_mult)
  x = body.get_layer('head_relu').output
  maps, widen = (
    [body.get_layer('block14_expand_relu').output, x],
    functools.partial(widened, factor=width_mult),
  )
  for number, (middle, width) in enumerate(((256, 512), (128, 256), (128, 256), (64, 128)), 1):
    name = f'extra{number}'
    x = _conv_relu(x, widen(middle), 1, 1, f'{name}_conv1', _RELU6)
    x = batch_norm(depthwise(x, 2, f'{name}_depthwise'), f'{name}_depthwise_bn')
    x = L.ReLU(_RELU6, name=f'{name}_depthwise_relu')(x)
    x = _conv_relu(x, widen(width), 1, 1, f'{name}_conv2', _RELU6)
    maps.append(x)
  return detector(body.inputs, maps, SSDLITE_300, nb_classes, 'ssdlite_mobilenet_v2', light=True)


def detector(
  inputs,  # noqa: ANN001
  maps: list,
  anchors: Anchors,
  nb_classes: int,
  name: str,
  *,
  light: bool = False,
) -> keras.Model:
  """Ends a network in its heads: a 3x3 convolution for offsets and one for logits on each map.

  Args:
    inputs: Keras tensor of the images, or a list of it.
    maps: feature maps, from the largest to the smallest.
    anchors: the default boxes, whose grids must be those of the maps.
    nb_classes: number of classes without the background.
    name: of the model.
    light: whether heads are depthwise 3x3 and 1x1 convolutions.

  Raises:
    ValueError: a map has another size than its default boxes.
  """
  offsets, logits = [], []
  for number, (x, grid, each) in enumerate(
    zip(maps, anchors.grids, anchors.per_cell, strict=True), 1
  ):
    if tuple(x.shape[1:3]) != (grid, grid):
      raise ValueError(
        f'Map {number} is {x.shape[1]}x{x.shape[2]}, but {grid}x{grid} was expected.'
      )
    for kind, size, parts in (('boxes', 4, offsets), ('classes', 1 + nb_classes, logits)):
      head = f'{kind}{number}'
      y = _light_head(x, each * size, head) if light else _head(x, each * size, 3, head)
      parts.append(L.Reshape((grid * grid * each, size), name=f'{head}_rows')(y))
  joined = [
    L.Concatenate(1, name=f'{kind}_joined')(parts)
    for kind, parts in (('boxes', offsets), ('classes', logits))
  ]
  return keras.Model(inputs, L.Concatenate(-1, name='detections')(joined), name=name)


def _head(x, width: int, kernel: int, name: str):  # noqa: ANN001
  return L.Conv2D(width, kernel, padding='same', kernel_initializer='glorot_uniform', name=name)(x)


def _light_head(x, width: int, name: str):  # noqa: ANN001
  x = batch_norm(depthwise(x, 1, f'{name}_depthwise'), f'{name}_depthwise_bn')
  return _head(L.ReLU(_RELU6, name=f'{name}_depthwise_relu')(x), width, 1, name)


def _conv_relu(x, width: int, kernel: int, stride: int, name: str, most: float | None = None):  # noqa: ANN001
  x = conv(x, width, kernel, stride, name)
  return L.ReLU(most, name=f'{name}_relu')(batch_norm(x, f'{name}_bn'))


def _extra(x, middle: int, width: int, stride: int, name: str):  # noqa: ANN001
  """1x1 and 3x3 convolutions that halve the map, or (stride 0) take one cell off each side."""
  x = _conv_relu(x, middle, 1, 1, f'{name}_conv1')
  if stride:
    return _conv_relu(x, width, 3, stride, f'{name}_conv2')
  x = L.Conv2D(width, 3, use_bias=False, kernel_initializer=INIT, name=f'{name}_conv2')(x)
  return L.ReLU(name=f'{name}_conv2_relu')(batch_norm(x, f'{name}_conv2_bn'))
