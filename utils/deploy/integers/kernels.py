"""The operators of an int8 network in whole numbers.

Each function takes the operator, the graph's tensors and the integers of its inputs, int64 with the
batch first, and gives those of its output. The formulas are those of `utils.deploy.integers.algebra`;
bias and sums are int32 there and fit int64 here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from secateurs.utils.deploy.integers.algebra import Multiplier, rounded_shift
from secateurs.utils.deploy.integers.tensors import Operator, Tensor
from secateurs.utils.registry import Registry

Kernel = Callable[[Operator, Sequence[Tensor], Sequence[np.ndarray]], np.ndarray]
KERNELS: Registry[Kernel] = Registry('operator')
_LOW, _HIGH = -128, 127
_NONE, _RELU, _RELU_N1_TO_1, _RELU6 = range(4)
_SAME = 0
_ADD_SHIFT = 20
_EXP_BITS = 20


def _of(*kinds: str) -> Callable[[Kernel], Kernel]:
  def add(kernel: Kernel) -> Kernel:
    for kind in kinds:
      KERNELS.add(kind, kernel)
    return kernel

  return add


def _ends(function: int, out: Tensor) -> tuple[int, int]:
  """The integers between which a fused ReLU leaves its output: zero is Z, exactly."""
  low, high = _LOW, _HIGH
  if function in (_RELU, _RELU6):
    low = max(low, out.zero)
  if function == _RELU6:
    high = min(high, out.zero + int(np.floor(6 / out.scale + 0.5)))
  if function == _RELU_N1_TO_1:
    step = int(np.floor(1 / out.scale + 0.5))
    low, high = max(low, out.zero - step), min(high, out.zero + step)
  return low, high


def _requantized(
  sums: np.ndarray, real: np.ndarray | float, out: Tensor, function: int = _NONE
) -> np.ndarray:
  """Z3 + M times sums, held to int8 and to a fused ReLU."""
  return np.clip(Multiplier.of(real)(sums) + out.zero, *_ends(function, out))


def _windows(
  values: np.ndarray, size: tuple[int, int], options: object, filling: int
) -> np.ndarray:
  """Views [n, rows, columns, channels, height, width] of padded maps."""
  strides = options.strideH, options.strideW
  dilation = getattr(options, 'dilationHFactor', 1), getattr(options, 'dilationWFactor', 1)
  pads = [(0, 0)]
  for axis in range(2):
    reach = (size[axis] - 1) * dilation[axis] + 1
    length = values.shape[1 + axis]
    missing = 0
    if options.padding == _SAME:
      missing = max((-(-length // strides[axis]) - 1) * strides[axis] + reach - length, 0)
    pads.append((missing // 2, missing - missing // 2))
  padded = np.pad(values, [*pads, (0, 0)], constant_values=filling)
  reach = [(size[i] - 1) * dilation[i] + 1 for i in range(2)]
  views = np.lib.stride_tricks.sliding_window_view(padded, reach, axis=(1, 2))
  return views[:, :: strides[0], :: strides[1], :, :: dilation[0], :: dilation[1]]


@_of('CONV_2D')
def _conv(op: Operator, tensors: Sequence[Tensor], ins: Sequence[np.ndarray]) -> np.ndarray:
  data, weights, out = tensors[op.inputs[0]], tensors[op.inputs[1]], tensors[op.outputs[0]]
  filters = ins[1]  # [outputs, height, width, inputs]
  windows = _windows(ins[0] - data.zero, filters.shape[1:3], op.options, 0)
  groups = windows.shape[3] // filters.shape[3]
  pairs = zip(np.split(windows, groups, axis=3), np.split(filters, groups), strict=True)
  sums = np.concatenate([_products(*pair) for pair in pairs], axis=-1) + _bias(op, ins, 2)
  real = data.scale * weights.scales / out.scale
  return _requantized(sums, real, out, op.options.fusedActivationFunction)


def _products(windows: np.ndarray, filters: np.ndarray) -> np.ndarray:
  """Sums of products, int64 [n, rows, columns, outputs], of a convolution or of one of its groups."""
  # Whole numbers far below 2^53 are exact in float64, whose products BLAS computes.
  flat = windows.reshape(*windows.shape[:3], -1).astype(np.float64)
  matrix = filters.transpose(3, 1, 2, 0).reshape(-1, len(filters)).astype(np.float64)
  return (flat @ matrix).astype(np.int64)


@_of('DEPTHWISE_CONV_2D')
def _depthwise(op: Operator, tensors: Sequence[Tensor], ins: Sequence[np.ndarray]) -> np.ndarray:
  data, weights, out = tensors[op.inputs[0]], tensors[op.inputs[1]], tensors[op.outputs[0]]
  filters = ins[1][0]  # [height, width, inputs * multiplier]
  windows = _windows(ins[0] - data.zero, filters.shape[:2], op.options, 0)
  times = filters.shape[-1] // windows.shape[3]
  by_input = filters.reshape(*filters.shape[:2], -1, times)
  sums = np.einsum('nrcihw,hwim->nrcim', windows, by_input, optimize=True)
  sums = sums.reshape(*sums.shape[:3], -1) + _bias(op, ins, 2)
  real = data.scale * weights.scales / out.scale
  return _requantized(sums, real, out, op.options.fusedActivationFunction)


@_of('FULLY_CONNECTED')
def _dense(op: Operator, tensors: Sequence[Tensor], ins: Sequence[np.ndarray]) -> np.ndarray:
  data, weights, out = tensors[op.inputs[0]], tensors[op.inputs[1]], tensors[op.outputs[0]]
  rows = (ins[0] - data.zero).reshape(-1, ins[1].shape[1])
  sums = rows @ (ins[1] - weights.zero).T + _bias(op, ins, 2)
  real = data.scale * weights.scales / out.scale
  return _requantized(sums, real, out, op.options.fusedActivationFunction)


def _bias(op: Operator, ins: Sequence[np.ndarray], place: int) -> np.ndarray | int:
  return ins[place] if len(op.inputs) > place and op.inputs[place] >= 0 else 0


@_of('ADD')
def _add(op: Operator, tensors: Sequence[Tensor], ins: Sequence[np.ndarray]) -> np.ndarray:
  """Both inputs are brought to one scale with 20 bits to spare, added, and brought to the output's."""
  out = tensors[op.outputs[0]]
  given = [tensors[number] for number in op.inputs]
  twice = 2 * max(one.scale for one in given)
  total = sum(
    Multiplier.of(one.scale / twice)((values - one.zero) << _ADD_SHIFT)
    for one, values in zip(given, ins, strict=True)
  )
  real = twice / ((1 << _ADD_SHIFT) * out.scale)
  return _requantized(total, real, out, op.options.fusedActivationFunction)


@_of('MEAN')
def _mean(op: Operator, tensors: Sequence[Tensor], ins: Sequence[np.ndarray]) -> np.ndarray:
  data, out = tensors[op.inputs[0]], tensors[op.outputs[0]]
  axes = tuple(int(axis) for axis in np.ravel(ins[1]))
  count = int(np.prod([ins[0].shape[axis] for axis in axes]))
  keep = bool(op.options.keepDims)
  sums = (ins[0] - data.zero).sum(axis=axes, keepdims=keep)
  # The division by the count goes into M.
  return _requantized(sums, data.scale / (out.scale * count), out)


@_of('AVERAGE_POOL_2D')
def _average(op: Operator, tensors: Sequence[Tensor], ins: Sequence[np.ndarray]) -> np.ndarray:
  options, out = op.options, tensors[op.outputs[0]]
  size = options.filterHeight, options.filterWidth
  sums = _windows(ins[0], size, options, 0).sum(axis=(-2, -1))
  counts = _windows(np.ones_like(ins[0]), size, options, 0).sum(axis=(-2, -1))
  halves = np.sign(sums) * ((np.abs(sums) + counts // 2) // counts)  # Padding does not count.
  return np.clip(halves, *_ends(options.fusedActivationFunction, out))


@_of('MAX_POOL_2D')
def _max(op: Operator, tensors: Sequence[Tensor], ins: Sequence[np.ndarray]) -> np.ndarray:
  options, out = op.options, tensors[op.outputs[0]]
  size = options.filterHeight, options.filterWidth
  greatest = _windows(ins[0], size, options, _LOW).max(axis=(-2, -1))
  return np.clip(greatest, *_ends(options.fusedActivationFunction, out))


@_of('PAD')
def _pad(op: Operator, tensors: Sequence[Tensor], ins: Sequence[np.ndarray]) -> np.ndarray:
  """Zero is Z, exactly, so that padding costs nothing."""
  return np.pad(ins[0], ins[1].tolist(), constant_values=tensors[op.inputs[0]].zero)


@_of('RESHAPE')
def _reshape(op: Operator, tensors: Sequence[Tensor], ins: Sequence[np.ndarray]) -> np.ndarray:
  return ins[0].reshape(len(ins[0]), *tensors[op.outputs[0]].shape[1:])


@_of('QUANTIZE', 'RELU', 'RELU6')
def _rescale(op: Operator, tensors: Sequence[Tensor], ins: Sequence[np.ndarray]) -> np.ndarray:
  data, out = tensors[op.inputs[0]], tensors[op.outputs[0]]
  function = {'RELU': _RELU, 'RELU6': _RELU6}.get(op.kind, _NONE)
  return _requantized(ins[0] - data.zero, data.scale / out.scale, out, function)


@_of('SOFTMAX')
def _softmax(op: Operator, tensors: Sequence[Tensor], ins: Sequence[np.ndarray]) -> np.ndarray:
  """Exponentials from a table of 256 whole numbers, one for each distance from the greatest logit."""
  data, out = tensors[op.inputs[0]], tensors[op.outputs[0]]
  distances = np.arange(256) * data.scale * op.options.beta
  table = np.rint(np.exp(-distances) * (1 << _EXP_BITS)).astype(np.int64)
  powers = table[ins[0].max(axis=-1, keepdims=True) - ins[0]]
  shares = (powers << _EXP_BITS) // powers.sum(axis=-1, keepdims=True)
  return np.clip(rounded_shift(shares, _EXP_BITS - 8) + out.zero, _LOW, _HIGH)
