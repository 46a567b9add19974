"""Whole residual blocks as one choice: their branches, and how a network does without them."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence

import tensorflow as tf
import tf_keras as keras

from secateurs.learners.channels.cuts.units import Unit
from secateurs.learners.pressure.owners import layers_of
from secateurs.utils.graph import ChannelGraph, residual_blocks
from secateurs.utils.graph.flat.walk import FlatModel
from secateurs.utils.training.engine.masks import Masks


@dataclasses.dataclass(frozen=True)
class Branch:
  """The branch of a residual block whose shortcut is the identity.

  Attributes:
    block: name of the addition that ends the block.
    layers: names of the branch's layers that have weights, in order.
    units: names of the units whose channels only the branch has.
    last: names of the layers that shift the branch's output: what follows its last kernel, and the
      layer of this kernel if it has a bias.
  """

  block: str
  layers: tuple[str, ...]
  units: tuple[str, ...]
  last: tuple[str, ...]


def find_branches(graph: ChannelGraph, units: Sequence[Unit]) -> list[Branch]:
  """The branches that can go as a whole, in order: those whose inner channels are units.

  Args:
    graph: the network's channel graph.
    units: what may be cut.
  """
  flat = graph.traced.flat
  grouped = {unit.key: unit.name for unit in units if isinstance(unit.key, int)}
  found = []
  for block in residual_blocks(graph.model):
    names = _branch_layers(flat, block)
    inner = []
    for group in graph.groups:
      members = {member.layer for member in group.members}
      if group.index in grouped and group.free.all() and members <= set(names):
        inner.append(grouped[group.index])
    kernels = [n for n in names if hasattr(flat.layers()[n], 'kernel')]
    if inner and kernels:
      biased = getattr(flat.layers()[kernels[-1]], 'bias', None) is not None
      last = tuple(names[names.index(kernels[-1]) + (not biased) :])
      found.append(Branch(block, tuple(names), tuple(inner), last))
  return found


def _branch_layers(flat: FlatModel, block: str) -> list[str]:
  """Layers with weights on the longer way into an addition, since both ways parted, in order."""
  (call,) = flat.calls_by_layer()[block]
  above: list[frozenset[int]] = [frozenset()] * len(flat.shapes)
  for index, one in enumerate(flat.calls):
    mine = frozenset({index}).union(*(above[number] for number in one.inputs))
    for number in one.outputs:
      above[number] = mine
  ways = sorted((above[number] for number in call.inputs), key=len)
  only = [flat.calls[index] for index in sorted(ways[1] - ways[0])]
  return [one.name for one in only if one.layer.weights]


class BlockMasks(Masks):
  """Masks that make branches emit exact zeros: what shifts the outputs after their last kernel."""

  def __init__(self, model: keras.Model, branches: Sequence[Branch], gone: Collection[str]) -> None:
    """Masks the branches of the blocks `gone`, whose kernels are masked by their channels."""
    layers = layers_of(model)
    shifts = [
      variable
      for branch in branches
      if branch.block in gone
      for name in branch.last
      for variable in layers[name].weights  # Those of frozen layers, too.
      if variable.trainable and variable is not getattr(layers[name], 'kernel', None)
    ]
    super().__init__(shifts, [tf.zeros_like(variable) for variable in shifts])
    self.apply()
