"""Products with kernels: what is folded into them, and their grids.

A normalisation, a factor or an offset for each channel that follows a convolution or a dense layer is
part of it in the file:

  y = act(s (W x) + b) = act((s W) x + b)

so that s W is what is rounded: symmetrically, with a step for each output channel.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from secateurs.utils.training.int8.program import AFFINE, CONTRACT, Program, Step, run_step
from secateurs.utils.training.models.uniform_grids import integer_range, rounded_tensor

KERNELS = ('Conv2D', 'Conv3D', 'DepthwiseConv2dNative', 'Conv2DBackpropInput', CONTRACT, AFFINE)
"""Operations whose second input is a kernel."""

ACTIVATIONS = ('Relu', 'Relu6')
"""What an operator of TensorFlow Lite computes at its end."""

_BITS = 8
_LEAST_STEP = 1e-12
_LEAST_RANGE = 1e-6
_ADDITIONS = ('BiasAdd', 'AddV2', 'Add', 'Sub')


def is_product(step: Step) -> bool:
  """Whether a step has a kernel, and its channels last, as all integer files have them."""
  return step.kind in KERNELS and step.attrs.get('data_format') not in (b'NCHW', b'NCDHW')


@dataclasses.dataclass
class Linear:
  """A product with all that is part of its operator.

  Attributes:
    step: the product.
    channels: sizes of the axes of its result that the kernel makes, the last ones.
    absorbed: steps that are folded into it, in order.
    activation: the kind of its activation, if there is one.
  """

  step: Step
  channels: tuple[int, ...]
  absorbed: list[Step] = dataclasses.field(default_factory=list)
  activation: str | None = None

  @property
  def width(self) -> int:
    """Number of output channels."""
    return math.prod(self.channels)

  def takes(self, reader: Step, number: int, program: Program) -> bool:
    """Whether a step that alone reads its result, by that number, is folded into it."""
    if reader.kind == AFFINE:
      return reader.inputs[0] == number and len(self.channels) == 1
    if reader.kind not in (*_ADDITIONS, 'Mul') or len(reader.inputs) != 2:
      return False
    if reader.kind == 'Sub' and reader.inputs[0] != number:
      return False
    other = reader.inputs[reader.inputs[0] == number]
    if other in program.dynamic:
      return False
    shape, rank = program.shapes[other], len(program.shapes[number])
    if math.prod(shape) == 1:
      return len(shape) <= rank
    last = shape[-len(self.channels) :]
    first = shape[: -len(self.channels)]
    return last == self.channels and set(first) <= {1} and len(shape) <= rank

  def folded(self, values: Mapping[int, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor | None]:
    """The kernel [rows, width] that is rounded, and the bias [width]."""
    kernel = values[self.step.inputs[1]]
    scale: tf.Tensor | None = None
    offset: tf.Tensor | None = None
    if self.step.kind == AFFINE:
      offset = values[self.step.inputs[2]]
    for step in self.absorbed:
      if step.kind == AFFINE:
        factor, addend = (values[number] for number in step.inputs[1:])
      elif step.kind == 'Mul':
        factor, addend = self._operand(step, values), None
      else:
        factor, addend = None, self._operand(step, values)
        addend = -addend if step.kind == 'Sub' else addend
      if factor is not None:
        factor = tf.broadcast_to(tf.reshape(factor, [-1]), [self.width])
        scale = factor if scale is None else scale * factor
        offset = None if offset is None else offset * factor
      if addend is not None:
        addend = tf.broadcast_to(tf.reshape(addend, [-1]), [self.width])
        offset = addend if offset is None else offset + addend
    rows = self._rows(kernel)
    return rows if scale is None else rows * scale, offset

  def _operand(self, step: Step, values: Mapping[int, tf.Tensor]) -> tf.Tensor:
    return next(values[number] for number in step.inputs[::-1] if number in values)

  def _rows(self, kernel: tf.Tensor) -> tf.Tensor:
    if self.step.kind == 'Conv2DBackpropInput':
      kernel = tf.transpose(kernel, [0, 1, 3, 2])
    return tf.reshape(kernel, [-1, self.width])

  def run(
    self, operands: Sequence[tf.Tensor], kernel: tf.Tensor, offset: tf.Tensor | None, shape: tuple
  ) -> tf.Tensor:
    """The result.

    Args:
      operands: what goes into the step, except for the kernel, which is not read.
      kernel: [rows, width], rounded.
      offset: [width], or None.
      shape: of the kernel as the step has it.
    """
    kind = self.step.kind
    if kind == AFFINE:
      return self._by_channel(operands[0], kernel, offset)
    if kind == CONTRACT:
      return self._contracted(operands[0], kernel, offset)
    if kind == 'Conv2DBackpropInput':
      kernel = tf.reshape(kernel, [shape[0], shape[1], shape[3], shape[2]])
      kernel = tf.transpose(kernel, [0, 1, 3, 2])
    else:
      kernel = tf.reshape(kernel, shape)
    (y,) = run_step(self.step, [operands[0], kernel, *operands[2:]])
    return self._ended(y, offset)

  def _ended(self, y: tf.Tensor, offset: tf.Tensor | None) -> tf.Tensor:
    y = y if offset is None else tf.nn.bias_add(y, offset)
    return y if self.activation is None else getattr(tf.raw_ops, self.activation)(features=y)

  def _by_channel(self, x: tf.Tensor, kernel: tf.Tensor, offset: tf.Tensor | None) -> tf.Tensor:
    """As a depthwise convolution, the one operator with a factor and an offset for each channel."""
    shape = open_shape(x)
    maps = x if len(shape) == 4 else tf.reshape(x, [shape[0], 1, _joined(shape[1:-1]), shape[-1]])
    kernel = tf.reshape(kernel, [1, 1, shape[-1], 1])
    y = tf.nn.depthwise_conv2d(maps, kernel, [1, 1, 1, 1], 'VALID')
    y = self._ended(y, offset)
    return y if len(shape) == 4 else tf.reshape(y, shape)

  def _contracted(self, x: tf.Tensor, kernel: tf.Tensor, offset: tf.Tensor | None) -> tf.Tensor:
    shape = open_shape(x)
    first = shape[: -self.step.attrs['n']]
    flat = x if len(shape) == 2 and len(first) == 1 else tf.reshape(x, [-1, kernel.shape[0]])
    y = self._ended(tf.matmul(flat, kernel), offset)
    whole = [*first, *self.channels]
    return y if len(whole) == 2 else tf.reshape(y, whole)


def rounded_kernel(rows: tf.Tensor) -> tf.Tensor:
  """A kernel [rows, width] on its grids; gradients pass straight through."""
  most = integer_range(_BITS, symmetric=True)[1]
  exact = tf.stop_gradient(rows)
  steps = tf.maximum(tf.reduce_max(tf.abs(exact), axis=0, keepdims=True) / most, _LEAST_STEP)
  found = rounded_tensor(exact, steps, 0.0, (-most, most))
  return rows + tf.stop_gradient(found - exact)


def rounded_offset(offset: tf.Tensor, kernel: tf.Tensor, step: tf.Tensor) -> tf.Tensor:
  """A bias [width] as the file's whole numbers, in steps of input times kernel.

  Args:
    offset: exact; gradients pass straight through.
    kernel: [rows, width] on its grids.
    step: of the input's range.
  """
  most = integer_range(_BITS, symmetric=True)[1]
  steps = tf.maximum(tf.reduce_max(tf.abs(kernel), axis=0) / most * step, _LEAST_STEP)
  return offset + tf.stop_gradient(tf.round(offset / steps) * steps - offset)


def rounded_constant(value: tf.Tensor) -> tf.Tensor:
  """A constant operand on the 8-bit grid of its range."""
  low = tf.minimum(tf.reduce_min(value), 0.0)
  high = tf.maximum(tf.reduce_max(value), 0.0)
  low, high = tf.stop_gradient(low), tf.stop_gradient(tf.maximum(high, low + _LEAST_RANGE))
  return tf.quantization.fake_quant_with_min_max_vars(value, low, high)


def channels_of(step: Step, program: Program) -> tuple[int, ...]:
  """Sizes of the last axes of a product's result, those that its kernel makes."""
  shape = program.shapes[step.inputs[1]]
  if step.kind == CONTRACT:
    return shape[step.attrs['n'] :]
  if step.kind == 'Conv2DBackpropInput':
    return (shape[2],)
  if step.kind == 'DepthwiseConv2dNative':
    return (shape[2] * shape[3],)
  return (shape[-1],)


def open_shape(x: tf.Tensor) -> list[Any]:
  """A shape for tf.reshape that leaves the batch open, with open sizes of other axes as tensors."""
  sizes = list(x.shape)
  if None not in sizes[1:]:
    return [-1, *sizes[1:]]
  known = tf.shape(x)
  return [known[axis] if size is None else size for axis, size in enumerate(sizes)]


def _joined(sizes: list[Any]) -> Any:
  found: Any = 1
  for size in sizes:
    found = found * size
  return found
