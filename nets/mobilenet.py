"""MobileNet v1 and v2, as functional tf_keras models."""

from __future__ import annotations

import dataclasses
import functools

import tf_keras as keras

from secateurs.nets import applications
from secateurs.nets.layers import INIT, batch_norm, conv, depthwise, widened
from secateurs.nets.network import Network, width_suffix
from secateurs.utils.config import Config, option

L = keras.layers
# (filters, stride) of each depthwise-separable block (Howard et al. 2017, table 1).
_V1_BLOCKS = (
  *((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2)),
  *(((512, 1),) * 5),
  *((1024, 2), (1024, 1)),
)
# (expansion, filters, blocks, stride of the first) of each stage (Sandler et al. 2018, table 2).
_V2_STAGES = (
  *((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2)),
  *((6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)),
)
_STEM, _V2_HEAD, _DIVISOR = 32, 1280, 8
_BN_EPSILON = 1e-3  # As in TensorFlow's MobileNets: some depthwise channels have little variance.
_IMAGENET_HALVINGS = 5
_CIFAR_HALVINGS = {1: 4, 2: 3}


@dataclasses.dataclass(frozen=True)
class MobileNetConfig(Config):
  """MobileNet."""

  mobilenet_version: int = option(1, 'Version of MobileNet: 1 or 2.', low=1, high=2)
  mobilenet_depth_mult: float = option(
    1.0, 'Multiplier for the number of channels of all layers.', low=0.05, high=4.0
  )
  mobilenet_padding: str = option(
    'same',
    "Padding of strided layers: same (TensorFlow's padding) or symmetric (one pixel on each side, as "
    "most weights trained elsewhere and XNNPACK's sparse kernels need it).",
    choices=('same', 'symmetric'),
  )


def imagenet_network(config: MobileNetConfig) -> Network:
  """Returns the configured MobileNet for large images."""
  return _network(config, _IMAGENET_HALVINGS)


def cifar_network(config: MobileNetConfig) -> Network:
  """Returns the configured MobileNet for 32x32 images; its first strides are 1."""
  return _network(config, _CIFAR_HALVINGS[config.mobilenet_version])


def _network(config: MobileNetConfig, nb_halvings: int) -> Network:
  version, factor = config.mobilenet_version, config.mobilenet_depth_mult
  builder, translate = {
    1: (mobilenet_v1, applications.mobilenet_v1_weights),
    2: (mobilenet_v2, applications.mobilenet_v2_weights),
  }[version]
  build = functools.partial(
    builder,
    depth_mult=factor,
    symmetric=config.mobilenet_padding == 'symmetric',
    nb_halvings=nb_halvings,
  )
  return Network(f'mobilenet_v{version}{width_suffix(factor)}', build, translate)


def mobilenet_v1(
  input_shape: tuple[int, int, int] = (224, 224, 3),
  nb_classes: int = 1000,
  *,
  depth_mult: float = 1.0,
  symmetric: bool = False,
  nb_halvings: int = _IMAGENET_HALVINGS,
) -> keras.Model:
  """Builds MobileNet v1 (Howard et al. 2017, table 1); outputs are logits.

  ReLU6 as in tf_keras.applications. Deviation from it: no dropout, so that a resumed run computes the
  same numbers as one that was not interrupted.

  Args:
    input_shape: (height, width, channels).
    nb_classes: number of logits.
    depth_mult: multiplier for all numbers of channels, rounded down.
    symmetric: if True, strided layers are padded by one pixel on all sides, and the network satisfies
      tfmot's PruneForLatencyOnXNNPack; if False, as TensorFlow's SAME.
    nb_halvings: how often the image size is halved; with fewer than 5, the first strides become 1.
  """
  widen = functools.partial(widened, factor=depth_mult)
  strides = _strides((2, *(stride for _, stride in _V1_BLOCKS)), nb_halvings)
  inputs = L.Input(input_shape, name='images')
  x = _conv_bn_relu(inputs, widen(_STEM), 3, strides[0], 'stem', symmetric)
  for number, ((width, _), stride) in enumerate(zip(_V1_BLOCKS, strides[1:], strict=True), 1):
    x = _depthwise_bn_relu(x, stride, f'block{number}_depthwise', symmetric)
    x = _conv_bn_relu(x, widen(width), 1, 1, f'block{number}_pointwise', symmetric)
  return _classified(inputs, x, nb_classes, 'mobilenet_v1')


def mobilenet_v2(
  input_shape: tuple[int, int, int] = (224, 224, 3),
  nb_classes: int = 1000,
  *,
  depth_mult: float = 1.0,
  symmetric: bool = False,
  nb_halvings: int = _IMAGENET_HALVINGS,
  expansion: int = 6,
) -> keras.Model:
  """Builds MobileNet v2 (Sandler et al. 2018, table 2); outputs are logits.

  Args:
    input_shape: (height, width, channels).
    nb_classes: number of logits.
    depth_mult: multiplier for all numbers of channels, rounded to multiples of 8; the head never
      shrinks.
    symmetric: as for `mobilenet_v1`.
    nb_halvings: as for `mobilenet_v1`.
    expansion: factor by which every block except the first widens its input.
  """
  widen = functools.partial(_round_width, depth_mult)
  blocks = [
    (min(factor, expansion), widen(width), stride if number == 0 else 1)
    for factor, width, repeats, stride in _V2_STAGES
    for number in range(repeats)
  ]
  strides = _strides((2, *(stride for *_, stride in blocks)), nb_halvings)
  inputs = L.Input(input_shape, name='images')
  x = _conv_bn_relu(inputs, widen(_STEM), 3, strides[0], 'stem', symmetric)
  for number, ((factor, width, _), stride) in enumerate(zip(blocks, strides[1:], strict=True), 1):
    x = _inverted_residual(x, factor, width, stride, f'block{number}', symmetric)
  head = _round_width(max(depth_mult, 1.0), _V2_HEAD)
  x = _conv_bn_relu(x, head, 1, 1, 'head', symmetric)
  return _classified(inputs, x, nb_classes, 'mobilenet_v2')


def _inverted_residual(x, factor: int, width: int, stride: int, name: str, symmetric: bool):  # noqa: ANN001
  """Expand, convolve depthwise, project; added to the input where the shapes are equal."""
  shortcut = x
  if factor > 1:
    x = _conv_bn_relu(x, factor * x.shape[-1], 1, 1, f'{name}_expand', symmetric)
  x = _depthwise_bn_relu(x, stride, f'{name}_depthwise', symmetric)
  x = conv(x, width, 1, 1, f'{name}_project_conv')
  x = batch_norm(x, f'{name}_project_bn', _BN_EPSILON)
  if stride == 1 and shortcut.shape[-1] == width:
    x = L.Add(name=f'{name}_add')([shortcut, x])
  return x


def _conv_bn_relu(x, width: int, kernel: int, stride: int, name: str, symmetric: bool):  # noqa: ANN001
  x = conv(x, width, kernel, stride, f'{name}_conv', symmetric=symmetric)
  return L.ReLU(6.0, name=f'{name}_relu')(batch_norm(x, f'{name}_bn', _BN_EPSILON))


def _depthwise_bn_relu(x, stride: int, name: str, symmetric: bool):  # noqa: ANN001
  x = depthwise(x, stride, f'{name}_conv', symmetric=symmetric)
  return L.ReLU(6.0, name=f'{name}_relu')(batch_norm(x, f'{name}_bn', _BN_EPSILON))


def _classified(inputs, x, nb_classes: int, name: str) -> keras.Model:  # noqa: ANN001
  # keepdims: XNNPACK's sparse inference needs such a pooling at its end.
  x = L.GlobalAveragePooling2D(keepdims=True, name='pool')(x)
  x = L.Flatten(name='flatten')(x)
  logits = L.Dense(nb_classes, kernel_initializer=INIT, name='logits')(x)
  return keras.Model(inputs, logits, name=name)


def _strides(strides: tuple[int, ...], nb_halvings: int) -> list[int]:
  """Returns the strides, the first ones set to 1 until `nb_halvings` strides of 2 remain."""
  surplus, result = sum(stride == 2 for stride in strides) - nb_halvings, []
  for stride in strides:
    if stride == 2 and surplus > 0:
      surplus, stride = surplus - 1, 1
    result.append(stride)
  return result


def _round_width(factor: float, width: int) -> int:
  """Returns the multiple of 8 nearest to `factor * width`, but at least 0.9 times that."""
  wanted = width * factor
  rounded = max(_DIVISOR, int(wanted + _DIVISOR / 2) // _DIVISOR * _DIVISOR)
  return rounded + _DIVISOR if rounded < 0.9 * wanted else rounded
