"""How TensorFlow Lite's operators treat ranges of 8 bits."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

# What only moves values, or takes the greatest: the range stays.
MOVING = frozenset(
  ('Reshape', 'Transpose', 'Squeeze', 'ExpandDims', 'StridedSlice', 'Slice', 'GatherV2', 'GatherNd')
  + ('Pad', 'MirrorPad', 'MaxPool', 'Max', 'Min', 'Split', 'SplitV', 'Unpack', 'Tile')
  + ('BroadcastTo', 'ResizeNearestNeighbor', 'SpaceToBatchND', 'BatchToSpaceND', 'SpaceToDepth')
  + ('DepthToSpace', 'StopGradient')
)
# Rounded once more, in the steps of what goes in: mixtures of values, and ReverseV2, whose result the
# converter of TensorFlow Lite 2.21 else gives the range of what it is concatenated with.
MIXING = frozenset(('AvgPool', 'ResizeBilinear', 'ReverseV2'))
# Ranges that TensorFlow Lite fixes: what an integer from -128 to 127 means there.
FIXED: Mapping[str, tuple[float, float]] = {
  'Softmax': (0.0, 255 / 256),
  'Sigmoid': (0.0, 255 / 256),
  'Tanh': (-1.0, 127 / 128),
  'LogSoftmax': (-255 / 16, 0.0),
}
PRELU = 'PReLU'
"""The operator whose slopes are a constant operand."""
SUMS = ('AddV2', 'Add', 'Sub', 'Mul')
# Operations whose constant operand is an integer tensor as well.
WITH_CONSTANTS = frozenset(
  (*SUMS, 'Maximum', 'Minimum', 'ConcatV2', 'Pack', 'SelectV2', 'BatchMatMulV2', 'Einsum')
  + ('SquaredDifference', 'GatherV2', 'MatMul', 'RealDiv')
)
# Grow without bounds where rounding makes their inputs zero, which must not widen their ranges.
UNBOUNDED = ('Rsqrt', 'Reciprocal', 'Log', 'RealDiv', 'DivNoNan')
# Between a convolution and its bias; the channels stay where they are.
BETWEEN = ('Squeeze', 'ExpandDims', 'Reshape', 'BatchToSpaceND')


@dataclasses.dataclass(frozen=True)
class Rule:
  """How a tensor is rounded.

  Attributes:
    name: of its range of moving averages; None where it has the range of another one.
    fixed: the range, where TensorFlow Lite fixes it.
    like: number of the tensor whose range it has.
    moves: whether training moves the range.
  """

  name: str | None = None
  fixed: tuple[float, float] | None = None
  like: int | None = None
  moves: bool = True
