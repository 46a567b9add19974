"""What a kernel takes in a .tflite file of few bits: by the operator that its layer becomes."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

import tensorflow as tf
import tf_keras as keras

from secateurs.learners.quant.bits import container
from secateurs.learners.quant.configs import FLOAT_BITS, UqlConfig
from secateurs.utils.buckets import buckets_of
from secateurs.utils.training.models.weights import layer_kernels

L = keras.layers
# Layers whose operators `utils.deploy.lowbits.writer` gives weights of few bits, except for subclasses.
_FEW_BITS = (
  L.Conv1D,
  L.Conv2D,
  L.DepthwiseConv1D,
  L.DepthwiseConv2D,
  L.SeparableConv1D,
  L.SeparableConv2D,
  L.Dense,
  L.EinsumDense,
  L.MultiHeadAttention,
  L.LSTM,
  L.GRU,
  L.SimpleRNN,
)
_TRANSPOSED = (L.Conv1DTranspose, L.Conv2DTranspose)
_NB_LISTED = 3


@dataclasses.dataclass(frozen=True)
class Container:
  """How a file holds a kernel.

  Attributes:
    few_bits: whether its bits choose the container; else that is the one of `others`.
    holds_4_bits: whether its operator reads weights of 4 bits.
    channels: how many scales it has.
  """

  few_bits: bool
  holds_4_bits: bool
  channels: int

  def bits(self, bits: int, config: UqlConfig) -> float:
    """Bits of each weight in the file, for so many bits of its grid."""
    if not self.few_bits:
      return 8 if config.container_bits < FLOAT_BITS else FLOAT_BITS
    # Several grids in one channel are none that the file has.
    return container(bits, config.symmetric, self.holds_4_bits and config.bucket_kind != 'split')


def larger_note(target: int, found: int | None) -> str | None:
  """A sentence where a file is larger than it was asked for, or was not made; both in bytes."""
  if found is None:
    return f'There is no quantised file, which --uql_target_bytes {target} was asked for.'
  if found <= target:
    return None
  return (
    f'The quantised file has {found} bytes, more than the {target} of --uql_target_bytes, since its '
    f'operators are held in another form than was expected: ask for {max(2 * target - found, 1)}.'
  )


def container_of(layer: keras.layers.Layer, kernel: tf.Variable) -> Container:
  """How the file holds a kernel of a layer."""
  name, shape = kernel.name.split(':')[0], tuple(kernel.shape)
  last = name.rsplit('/', 1)[-1]
  while isinstance(layer, L.Wrapper):  # TimeDistributed and Bidirectional.
    layer = layer.layer
  if not isinstance(layer, _FEW_BITS):
    return Container(few_bits=False, holds_4_bits=False, channels=max(shape))
  if isinstance(layer, _TRANSPOSED):
    return Container(few_bits=True, holds_4_bits=False, channels=shape[-2])
  if isinstance(layer, (L.EinsumDense, L.MultiHeadAttention)):
    return Container(few_bits=True, holds_4_bits=True, channels=math.prod(shape[1:]))
  rows = buckets_of(name, shape, 'channel', 1).nb_rows
  return Container(few_bits=True, holds_4_bits='depthwise' not in last, channels=rows)


def containers_of(model: keras.Model, kernels: Mapping[str, tf.Variable]) -> list[Container]:
  """How the file holds kernels of a model, in their order."""
  layers = {kernel.ref(): layer for layer, kernel in layer_kernels(model)}
  return [container_of(layers[kernel.ref()], kernel) for kernel in kernels.values()]


def file_bits(
  model: keras.Model, kernels: Mapping[str, tf.Variable], bits: Mapping[str, int], config: UqlConfig
) -> dict[str, float]:
  """Bits of each weight in the file, by kernel name, for those of the grids."""
  found = containers_of(model, kernels)
  return {name: one.bits(bits[name], config) for name, one in zip(kernels, found, strict=True)}


def wider_note(held: Mapping[str, float], bits: Mapping[str, int], config: UqlConfig) -> str | None:
  """A sentence on kernels that would take 4 bits, but whose operators have none; None without any.

  Args:
    held: from `file_bits`.
    bits: of the grids.
    config: of the run.
  """
  most = {name for name in held if container(bits[name], config.symmetric, holds_4_bits=True) == 4}
  wide = [name for name in held if name in most and held[name] > 4]
  if not wide or config.bucket_kind == 'split':
    return None
  listed = ', '.join(wide[:_NB_LISTED])
  more = f' and {len(wide) - _NB_LISTED} more' if len(wide) > _NB_LISTED else ''
  sizes = ' or '.join(f'{number:g}' for number in sorted({held[name] for name in wide}))
  return (
    f'TensorFlow Lite has no weights of 4 bits for the operators of {listed}{more}: the file holds '
    f'them in {sizes} bits.'
  )
