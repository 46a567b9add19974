"""Which rule serves which operation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from secateurs.utils.errors import UserError
from secateurs.utils.graph.flat.walk import Call
from secateurs.utils.graph.rules.base import Cut, Instead, Rule, Sides, Trace, View
from secateurs.utils.graph.rules.channels import Channels
from secateurs.utils.graph.rules.constants import Constant
from secateurs.utils.graph.rules.operations import (
  elementwise,
  joining,
  picking,
  reordering,
  shaping,
  sums,
)

_REDUCTIONS = 'all any euclidean_norm logsumexp max mean min prod std sum variance'
_SPATIAL = [
  'image.resize',
  'image.resize_bilinear',
  'image.resize_nearest_neighbor',
  'image.resize_with_pad',
  'image.central_crop',
  'image.crop_to_bounding_box',
  'image.pad_to_bounding_box',
  'image.resize_with_crop_or_pad',
  'nn.avg_pool',
  'nn.avg_pool1d',
  'nn.avg_pool2d',
  'nn.avg_pool3d',
  'nn.max_pool',
  'nn.max_pool1d',
  'nn.max_pool2d',
  'nn.max_pool3d',
]

_RULES: dict[str, Rule] = {
  **dict.fromkeys(elementwise.SYMBOLS, elementwise.Elementwise()),
  **{
    f'math.reduce_{name}': sums.Reduction(name in ('sum', 'euclidean_norm'))
    for name in _REDUCTIONS.split()
  },
  **dict.fromkeys(('norm', 'linalg.norm'), sums.Reduction(sums=True)),
  'nn.moments': sums.Reduction(),
  **dict.fromkeys(('linalg.matmul', 'einsum', 'linalg.einsum', 'matmul'), sums.Contraction()),
  **dict.fromkeys(_SPATIAL, shaping.Spatial()),
  'nn.softmax': elementwise.Along(-1, 'normalises over'),
  'nn.log_softmax': elementwise.Along(-1, 'normalises over'),
  'math.softmax': elementwise.Along(-1, 'normalises over'),
  'math.l2_normalize': elementwise.Along(None, 'normalises over', sums=True),
  'math.cumsum': elementwise.Along(0, 'sums over'),
  'math.cumprod': elementwise.Along(0, 'multiplies over'),
  'math.cumulative_logsumexp': elementwise.Along(0, 'sums over'),
  'sort': elementwise.Along(-1, 'sorts'),
  'nn.dropout': elementwise.Dropout(),
  'nn.crelu': elementwise.Crelu(),
  'shape': elementwise.ShapeOf(),
  'reshape': shaping.Reshape(),
  'transpose': shaping.Transpose(),
  'linalg.matrix_transpose': shaping.Transpose(),
  'expand_dims': shaping.ExpandOrSqueeze(),
  'squeeze': shaping.ExpandOrSqueeze(),
  'concat': joining.Concat(),
  'stack': joining.Stack(),
  'unstack': joining.Unstack(),
  'split': joining.Split(),
  'gather': picking.Gather(),
  '__operators__.getitem': picking.Slice(),
  'slice': picking.Window(),
  'strided_slice': picking.Window(),
  'reverse': reordering.Reverse(),
  'image.flip_left_right': reordering.Reverse([2]),
  'image.flip_up_down': reordering.Reverse([1]),
  'roll': reordering.Roll(),
  'tile': joining.Tile(),
  'repeat': joining.Repeat(),
  'broadcast_to': shaping.BroadcastTo(),
  'ensure_shape': shaping.BroadcastTo(),
  'nn.depth_to_space': shaping.DepthToSpace(),
  'nn.space_to_depth': shaping.SpaceToDepth(),
  'space_to_depth': shaping.SpaceToDepth(),
  'depth_to_space': shaping.DepthToSpace(),
  'image.extract_patches': shaping.SpaceToDepth(),
  'pad': joining.Pad(),
}
_UNKNOWN = Rule()
# Operations that may see a tensor's shape: they say themselves which numbers they use.
_READS_SIZES = ('__operators__.getitem',)


def _rule(call: Call) -> Rule:
  """The rule of the operation, or the one that protects everything.

  Public names carry the API version in front where it matters (`compat.v1.transpose`).
  """
  return _RULES.get(symbol_of(call), _UNKNOWN)


def symbol_of(call: Call) -> str:
  """The operation's public name without API version."""
  symbol = call.layer.symbol or ''
  for prefix in ('compat.v1.', 'compat.v2.'):
    symbol = symbol.removeprefix(prefix)
  return symbol


def register_operation(symbol: str, rule: Rule) -> None:
  """Adds the rule of an operation.

  Raises:
    UserError: if it has one.
  """
  if symbol in _RULES:
    raise UserError(f'Operation {symbol!r} has a rule already.')
  _RULES[symbol] = rule


class OpRule(Rule):
  """Chooses the rule of an operation by its public TensorFlow name."""

  def trace(self, view: View) -> list[Channels]:
    """Asks the operation's rule; unknown operations protect."""
    if symbol_of(view.call) not in _READS_SIZES:
      view.protect_sizes()
    return _rule(view.call).trace(view)

  def rewrite(self, cut: Cut) -> tuple[tuple, dict[str, Any]]:
    """Asks the operation's rule."""
    return _rule(cut.trace.call).rewrite(cut)

  def instead(self, cut: Cut) -> Instead | None:
    """Asks the operation's rule."""
    return _rule(cut.trace.call).instead(cut)

  def summed(self, trace: Trace) -> list[int]:
    """Asks the operation's rule."""
    return _rule(trace.call).summed(trace)

  def products(
    self, call: Call, in_shapes: Sequence[tuple], out_shapes: Sequence[tuple]
  ) -> list[Sides]:
    """Asks the operation's rule."""
    return _rule(call).products(call, in_shapes, out_shapes)

  def constant(self, trace: Trace, ins: list[Constant]) -> list[Constant]:
    """Asks the operation's rule."""
    return _rule(trace.call).constant(trace, ins)
