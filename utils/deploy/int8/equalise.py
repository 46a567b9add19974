"""Cross-layer equalisation: channels of one size, with equal outputs (Nagel et al. 2019).

"Data-Free Quantization Through Weight Equalization and Bias Correction" (arXiv:1906.04721), section
4.1. A channel can be divided by any s > 0 where it is made and multiplied by s where it is read, if
only ReLUs, poolings and additions of such channels lie between. With r1 its range where it is made, r2
that of the weights that read it,

  s = sqrt(r1 r2) / r2,

again and again until s is 1. As published r1 is the range of the weights that make the channel
('weights'), which is what kernels with one step need. TensorFlow Lite's kernels have a step for each
output channel, its maps one for all channels: so r1 may be the range of the channel itself
('activations'), and r2 is 1 where a depthwise layer reads it.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from secateurs.utils import nested
from secateurs.utils.deploy.int8.opened import OpenFile
from secateurs.utils.deploy.int8.operators import KERNELS, RELU, RELU6, Operator
from secateurs.utils.deploy.int8.running import Runner
from secateurs.utils.deploy.int8.spaces import Space, spaces_of

BYS = ('activations', 'weights')
_NB_IMAGES, _MOST_SWEEPS, _SETTLED = 16, 20, 0.01
_MOST = 100.0  # The largest factor, and the inverse of the least.


@dataclasses.dataclass(frozen=True)
class Equalised:
  """A float file with channels of one size.

  Attributes:
    content: of the file.
    nb_channels: how many were scaled.
    nb_relu6: how many operators compute ReLU in place of ReLU6, which none of the images reaches 6 of.
  """

  content: bytes
  nb_channels: int
  nb_relu6: int


def equalised(content: bytes, images: Any, by: str) -> Equalised:
  """Scales the channels of a float file; its outputs stay what they were, except for float rounding.

  Args:
    content: of the file.
    images: inputs [n, ...], which say what is reached, of which the first 16 are run.
    by: activations or weights, see above.
  """
  file = OpenFile(content)
  runner = Runner(content, nested.rows(images, slice(_NB_IMAGES)))
  spaces = spaces_of(file, lambda number: float(np.max(runner.tensor(file.name(number)))))
  ranges = {}
  if by == 'activations':
    for space in spaces:
      found = [np.abs(runner.tensor(file.name(number))) for number in space.tensors]
      ranges[space] = np.max([one.reshape(-1, space.width).max(axis=0) for one in found], axis=0)
  factors = {space: np.ones(space.width) for space in spaces}
  for _ in range(_MOST_SWEEPS):
    moved = 0.0
    for space in spaces:
      made = ranges[space] if by == 'activations' else _made(file, space)
      scale = scales(made, _taken(file, space, by))
      scale = np.clip(factors[space] * scale, 1 / _MOST, _MOST) / factors[space]
      factors[space] *= scale
      _apply(file, space, scale)
      if by == 'activations':
        ranges[space] = made / scale
      moved = max(moved, float(np.abs(scale - 1).max()))
    if moved < _SETTLED:
      break
  six = [op for space in spaces for op in space.makers if file.operators[op].fused == RELU6]
  for number in six:
    file.set_fused(file.operators[number], RELU)
  nb_channels = sum(int(np.sum(np.abs(one - 1) > _SETTLED)) for one in factors.values())
  return Equalised(file.content(), nb_channels, len(six))


def scales(made: np.ndarray, taken: np.ndarray) -> np.ndarray:
  """s of each channel, with a geometric mean of 1; 1 where a range is zero.

  Args:
    made: r1, range of each channel where it is made, float [channels].
    taken: r2, range of the weights that take it.
  """
  alive = (made > 0) & (taken > 0)
  found = np.ones(len(made))
  found[alive] = np.sqrt(made[alive] / taken[alive])
  if alive.any():
    found[alive] /= np.exp(np.mean(np.log(found[alive])))
  return found


def _made(file: OpenFile, space: Space) -> np.ndarray:
  return np.max([_range(*_kernel(file, number, True), space) for number in space.makers], axis=0)


def _taken(file: OpenFile, space: Space, by: str) -> np.ndarray:
  found = []
  for number in space.takers:
    op = file.operators[number]
    if by == 'activations' and KERNELS[op.kind].takes is None:
      found.append(np.zeros(space.width))  # Each of its kernels has its own step.
    else:
      found.append(_range(*_kernel(file, number, False), space))
  most = np.max(found, axis=0)
  return most if most.any() else np.ones(space.width)


def _kernel(file: OpenFile, number: int, makes: bool) -> tuple[np.ndarray, int]:
  """An operator's kernel and the axis of the channels that it makes, or takes."""
  op = file.operators[number]
  slots = KERNELS[op.kind]
  axis = slots.makes if makes or slots.takes is None else slots.takes
  return file.constant(op.inputs[slots.kernel]), axis


def _range(kernel: np.ndarray, axis: int, space: Space) -> np.ndarray:
  rows = np.abs(np.moveaxis(kernel, axis, 0)).reshape(kernel.shape[axis], -1).max(axis=1)
  if len(rows) == space.width:
    return rows
  if kernel.ndim == 4:  # A depthwise layer makes several channels of one.
    return rows.reshape(space.width, -1).max(axis=1)
  return rows.reshape(-1, space.width).max(axis=0)  # A dense layer reads all places of a map.


def _apply(file: OpenFile, space: Space, scale: np.ndarray) -> None:
  for number in space.makers:
    kernel, axis = _kernel(file, number, True)
    op: Operator = file.operators[number]
    slots = KERNELS[op.kind]
    file.set_input(op, slots.kernel, _times(kernel, axis, 1 / scale))
    op = file.operators[number]
    if len(op.inputs) > slots.bias and op.inputs[slots.bias] >= 0:
      bias = file.constant(op.inputs[slots.bias])
      file.set_input(op, slots.bias, _times(bias, 0, 1 / scale))
  for number in space.takers:
    kernel, axis = _kernel(file, number, False)
    repeats = kernel.shape[axis] // space.width
    many = np.repeat(scale, repeats) if kernel.ndim == 4 else np.tile(scale, repeats)
    op = file.operators[number]
    file.set_input(op, KERNELS[op.kind].kernel, _times(kernel, axis, many))


def _times(values: np.ndarray, axis: int, factors: np.ndarray) -> np.ndarray:
  shape = [1] * values.ndim
  shape[axis] = -1
  return (values * factors.reshape(shape)).astype(np.float32)
