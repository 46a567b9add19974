"""Residual additions: which of their inputs is the shortcut, and which layers decide over a trunk."""

from __future__ import annotations

import dataclasses

import numpy as np

from secateurs.utils.graph import ChannelGraph, Group
from secateurs.utils.graph.flat.walk import Call, FlatModel
from secateurs.utils.graph.groups.members import PRODUCES
from secateurs.utils.training.layerwise.linear import is_addition


@dataclasses.dataclass(frozen=True)
class Block:
  """A residual addition.

  Attributes:
    addition: name of the layer that adds.
    branch: names of the layers that make channels on the longer way, in order.
    shortcut: the same on the shorter way; empty for an identity.
    opener: the layer that makes the shortcut's channels: its last one, or what feeds an identity.
  """

  addition: str
  branch: tuple[str, ...]
  shortcut: tuple[str, ...]
  opener: str


def residual_additions(graph: ChannelGraph) -> list[Block]:
  """The additions of two tensors that come from one, in order."""
  flat = graph.traced.flat
  makers = {n for n, t in graph.first_traces.items() if t.produced is not None}
  above = _ancestors(flat)
  found = []
  for call in flat.calls:
    if not is_addition(call.layer) or len(set(call.inputs)) != 2:
      continue
    ways = [above[number] for number in call.inputs]
    common = ways[0] & ways[1]
    sides = [tuple(_makers(flat, way - common, makers)) for way in ways]
    short = int(len(sides[1]) < len(sides[0]))
    opener = (sides[short] or _makers(flat, common, makers) or [''])[-1]
    if sides[1 - short] and opener:
      found.append(Block(call.name, sides[1 - short], sides[short], opener))
  return found


def deciders(graph: ChannelGraph) -> set[str]:
  """Layers that alone rank the channels of a trunk: one for each group that additions join.

  It is the projection of the first addition's shortcut. Where that is an identity (stage 1 of a CIFAR
  ResNet) it is the layer that opens the shortcut's path: the stem, or the projection of the stage
  before.
  """
  chosen: dict[int, str] = {}
  for block in residual_additions(graph):
    groups = {int(one) for one in graph.outputs(block.opener).group} - {-1}
    for group in groups & joined(graph):
      chosen.setdefault(group, block.opener)
  return set(chosen.values())


def joined(graph: ChannelGraph) -> set[int]:
  """Indices of the groups whose channels additions join."""
  return {group.index for group in graph.groups if is_trunk(graph, group)}


def is_trunk(graph: ChannelGraph, group: Group) -> bool:
  """Whether an addition of several tensors joins channels of a group."""
  roots = set(group.roots.tolist())
  return any(
    is_addition(trace.call.layer)
    and len(trace.call.inputs) > 1
    and not roots.isdisjoint(trace.outs[0].labels.tolist())
    for trace in graph.traced.traces
  )


def made_in(group: Group) -> list[str]:
  """Names of the layers that make a group's channels."""
  return group.layers(PRODUCES)


def _ancestors(flat: FlatModel) -> list[frozenset[int]]:
  """For each tensor the indices of the calls that it depends on."""
  above: list[frozenset[int]] = [frozenset()] * len(flat.shapes)
  for index, call in enumerate(flat.calls):
    mine = frozenset({index}).union(*(above[number] for number in call.inputs))
    for number in call.outputs:
      above[number] = mine
  return above


def _makers(flat: FlatModel, calls: frozenset[int], makers: set[str]) -> list[str]:
  ordered: list[Call] = [flat.calls[index] for index in sorted(calls)]
  return list(dict.fromkeys(call.name for call in ordered if call.name in makers))


def even(group: Group) -> bool:
  """Whether all elements of a group are alike in number of channels, in every layer."""
  counts = [np.bincount(member.elements, minlength=group.size) for member in group.members]
  return all((one == one[0]).all() for one in counts)
