"""The channels of a .tflite file that can be scaled together, with what makes and what takes them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from secateurs.utils.deploy.int8.opened import OpenFile
from secateurs.utils.deploy.int8.operators import KERNELS, NONE, RELU, RELU6, Operator

_THROUGH = (
  'RELU',
  'LEAKY_RELU',
  'MAX_POOL_2D',
  'AVERAGE_POOL_2D',
  'PAD',
  'MEAN',
  'RESIZE_BILINEAR',
  'RESIZE_NEAREST_NEIGHBOR',
  'RESHAPE',
)
"""Operators of one input that a positive factor of a channel passes."""
_JOINING = ('ADD', 'SUB', 'MAXIMUM', 'MINIMUM')


@dataclasses.dataclass(frozen=True)
class Space:
  """Channels that are scaled alike.

  Attributes:
    width: number of them.
    makers: numbers of the operators that make them.
    takers: numbers of the operators with kernels that take them.
    tensors: numbers of the maps that hold them; a dense layer's rows may hold each several times.
  """

  width: int
  makers: tuple[int, ...]
  takers: tuple[int, ...]
  tensors: tuple[int, ...]


def spaces_of(file: OpenFile, most: Callable[[int], float]) -> list[Space]:
  """The spaces whose channels can be scaled, in the order of their first makers.

  Args:
    file: a float file.
    most: the greatest value of a tensor by its number, which says whether a ReLU6 is a ReLU.
  """
  parent: dict[int, int] = {}
  fixed: set[int] = set()

  def root(number: int) -> int:
    while parent.setdefault(number, number) != number:
      number = parent[number]
    return number

  def join(first: int, other: int) -> None:
    one, two = root(first), root(other)
    parent[two] = one
    if two in fixed:
      fixed.add(one)

  def fix(*numbers: int) -> None:
    fixed.update(root(number) for number in numbers if number >= 0)

  makers, takers = [], []
  fix(*file.inputs, *file.outputs)
  for op in file.operators:
    data = [one for one in op.inputs if one >= 0 and not file.is_constant(one)]
    if op.kind in KERNELS and _is_plain(file, op):
      slots = KERNELS[op.kind]
      takers.append((op, op.inputs[slots.data]))
      makers.append((op, op.outputs[0]))
      if not _is_homogeneous(op, most):
        fix(op.outputs[0])
    elif op.kind in _THROUGH and len(data) == 1 and _passes(file, op):
      join(data[0], op.outputs[0])
    elif op.kind in _JOINING and len(data) == 2 and _is_joined(file, op):
      join(data[0], data[1])
      join(data[0], op.outputs[0])
    else:
      fix(*data, *op.outputs)
  found = []
  for start in dict.fromkeys(root(number) for _, number in makers):
    if start in {root(number) for number in fixed}:
      continue
    made = [op for op, number in makers if root(number) == start]
    taken = [op for op, number in takers if root(number) == start]
    width = file.shape(made[0].outputs[0])[-1]
    if not taken or not all(_fits(file, op, width) for op in taken):
      continue
    if any(file.shape(op.outputs[0])[-1] != width for op in made):
      continue
    maps = tuple(op.outputs[0] for op in made)
    found.append(
      Space(width, tuple(op.number for op in made), tuple(op.number for op in taken), maps)
    )
  return found


def _is_plain(file: OpenFile, op: Operator) -> bool:
  """Whether an operator's kernel is a constant that no other operator uses, and so is its bias."""
  slots = KERNELS[op.kind]
  if not file.is_constant(op.inputs[slots.kernel]) or file.is_constant(op.inputs[slots.data]):
    return False
  bias = op.inputs[slots.bias] if len(op.inputs) > slots.bias else -1
  return bias < 0 or file.is_constant(bias)


def _is_homogeneous(op: Operator, most: Callable[[int], float]) -> bool:
  """Whether f(s x) = s f(x) for the activation at an operator's end, as far as values reach."""
  if op.fused == RELU6:
    return most(op.outputs[0]) < 6
  return op.fused in (NONE, RELU)


def _passes(file: OpenFile, op: Operator) -> bool:
  """Whether an operator keeps the channels apart, as the last axis or repeated along it."""
  if op.fused not in (NONE, RELU):
    return False
  before, after = file.shape(op.inputs[0]), file.shape(op.outputs[0])
  if op.kind == 'RESHAPE':  # Maps to rows.
    return len(after) == 2 and after[-1] % before[-1] == 0
  if op.kind == 'MEAN':
    axes = file.constant(op.inputs[1])
    return axes is not None and (len(before) - 1) not in {
      int(one) % len(before) for one in axes.flat
    }
  return before[-1] == after[-1]


def _is_joined(file: OpenFile, op: Operator) -> bool:
  first, other = (file.shape(number) for number in op.inputs[:2])
  return op.fused in (NONE, RELU) and first == other


def _fits(file: OpenFile, op: Operator, width: int) -> bool:
  """Whether an operator takes each channel as a whole."""
  slots = KERNELS[op.kind]
  kernel = file.shape(op.inputs[slots.kernel])
  if slots.takes is None:
    return kernel[slots.makes] % width == 0
  if op.kind == 'FULLY_CONNECTED':
    return kernel[slots.takes] % width == 0
  return kernel[slots.takes] == width
