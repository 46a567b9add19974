"""The operators with kernels as matrix products, for what is fit to them."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from secateurs.utils.deploy.int8.opened import OpenFile
from secateurs.utils.deploy.int8.operators import KERNELS, Operator

_PADDINGS = ('SAME', 'VALID')
FITTED = ('CONV_2D', 'DEPTHWISE_CONV_2D', 'FULLY_CONNECTED')


@dataclasses.dataclass(frozen=True)
class Product:
  """One operator as groups of matrix products: outputs = patches @ weights, without the bias.

  A convolution is one group (of each group of channels one), a depthwise one a group for each channel.

  Attributes:
    kind: of the operator.
    shape: of the kernel in the file.
    groups: number of groups.
    strides, rates: (height, width).
    padding: SAME or VALID.
  """

  kind: str
  shape: tuple[int, ...]
  groups: int
  strides: tuple[int, int]
  rates: tuple[int, int]
  padding: str

  def patches(self, inputs: np.ndarray, most: int | None = None) -> np.ndarray:
    """What each output is a sum over: float32 [positions, groups, values] of real inputs [n, ...].

    Of all positions, or of evenly many of them that hold at most `most` values (but of one).
    """
    if self.kind == 'FULLY_CONNECTED':
      rows = np.reshape(inputs, (-1, 1, self.shape[1]))
      return rows[:: _stride(rows.size, most)].astype(np.float32)
    kernel, (_, *sizes, channels) = self.shape[1:3], inputs.shape
    axes = list(zip(sizes, kernel, self.strides, self.rates, strict=True))
    (rows, *above), (columns, *left) = (_reach(*axis, self.padding) for axis in axes)
    total = len(inputs) * len(rows) * len(columns) * math.prod(kernel) * channels
    chosen = np.arange(0, len(inputs) * len(rows) * len(columns), _stride(total, most))
    sample, row, column = np.unravel_index(chosen, (len(inputs), len(rows), len(columns)))
    padded = np.pad(inputs, ((0, 0), above, left, (0, 0)))
    down, right = (np.arange(size) * rate for size, rate in zip(kernel, self.rates, strict=True))
    found = padded[
      sample[:, None, None],
      rows[row][:, None, None] + down[:, None],
      columns[column][:, None, None] + right,
    ]
    split = found.reshape(len(chosen), -1, self.groups, channels // self.groups)
    return split.swapaxes(1, 2).reshape(len(chosen), self.groups, -1).astype(np.float32, copy=False)

  def weights(self, kernel: np.ndarray) -> np.ndarray:
    """The kernel of the file as [groups, values, outputs of a group]."""
    if self.kind == 'FULLY_CONNECTED':
      return kernel.T[None]
    if self.kind == 'DEPTHWISE_CONV_2D':
      height, width, made = self.shape[1:]
      split = kernel.reshape(height * width, self.groups, made // self.groups)
      return split.swapaxes(0, 1)
    split = kernel.reshape(self.groups, self.shape[0] // self.groups, -1)
    return split.swapaxes(1, 2)

  def kernel(self, weights: np.ndarray) -> np.ndarray:
    """The kernel as the file has it, from what `weights` gave."""
    if self.kind == 'FULLY_CONNECTED':
      return weights[0].T
    if self.kind == 'DEPTHWISE_CONV_2D':
      return weights.swapaxes(0, 1).reshape(self.shape)
    return weights.swapaxes(1, 2).reshape(self.shape)

  def per_output_shape(self) -> tuple[int]:
    """Number of output channels, as a shape."""
    return (self.shape[3] if self.kind == 'DEPTHWISE_CONV_2D' else self.shape[0],)

  def per_output(self, values: np.ndarray) -> np.ndarray:
    """Values of each output channel [outputs] as [groups, 1, outputs of a group]."""
    return np.reshape(values, (self.groups, 1, -1))


def _stride(size: int, most: int | None) -> int:
  """Every which position is taken so that values are no more than so many."""
  return 1 if most is None else max(-(-size // most), 1)


def _reach(
  size: int, kernel: int, stride: int, rate: int, padding: str
) -> tuple[np.ndarray, int, int]:
  """Where a kernel begins along one axis of padded maps, and the zeros before and after them."""
  length = (kernel - 1) * rate + 1
  number = -(-size // stride) if padding == 'SAME' else (size - length) // stride + 1
  missing = max((number - 1) * stride + length - size, 0) if padding == 'SAME' else 0
  return np.arange(number) * stride, missing // 2, missing - missing // 2


def product_of(file: OpenFile, op: Operator) -> Product | None:
  """An operator as a product; None for one that is not fitted.

  Its data must be real or integer maps [n, h, w, c], or rows.
  """
  if op.kind not in FITTED:
    return None
  slots = KERNELS[op.kind]
  shape, data = file.shape(op.inputs[slots.kernel]), file.shape(op.inputs[slots.data])
  if op.kind == 'FULLY_CONNECTED':
    return Product(op.kind, shape, 1, (1, 1), (1, 1), 'VALID') if len(shape) == 2 else None
  groups = data[-1] if op.kind == 'DEPTHWISE_CONV_2D' else data[-1] // shape[3]
  options = op.options
  strides = int(options.strideH), int(options.strideW)
  rates = int(options.dilationHFactor), int(options.dilationWFactor)
  return Product(op.kind, shape, groups, strides, rates, _PADDINGS[int(options.padding)])
