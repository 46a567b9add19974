"""What stays of a model: the plan that slicing carries out.

A plan settles everything before a layer is built: which elements stay, which rows a consumer drops
on its own, what is rounded up, which silent channels must stay, and what is added to a bias.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from secateurs.utils.graph.groups.channel_graph import ChannelGraph
from secateurs.utils.graph.groups.members import Group
from secateurs.utils.graph.rules.base import Cut, Trace

# A group, its index, a layer's name (its output), or (name, 'input' | 'output').
KeepKey = Group | int | str | tuple[str, str]
Keep = Mapping[KeepKey, Any]


@dataclasses.dataclass(frozen=True)
class HeldBack:
  """A channel that was to go and stays.

  Attributes:
    group: index of its group.
    element: number of the element in the group.
    reason: why it stays.
  """

  group: int
  element: int
  reason: str


@dataclasses.dataclass
class Plan:
  """What stays of a model.

  Attributes:
    graph: the model's channel graph.
    alive: bool array [atoms], by graph-wide element number.
    rows: layer name -> bool array over its input channels, for layers that drop inputs which
      other layers still need; these get a ChannelSelection. Normalisation that serves such a layer
      alone is cut with it, and the selection stands before it.
    held_back: channels that stay against the wish.
    added_bias: layer name -> float array [filters], constants folded into the bias.
  """

  graph: ChannelGraph
  alive: np.ndarray
  rows: dict[str, np.ndarray]
  held_back: list[HeldBack] = dataclasses.field(default_factory=list)
  added_bias: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)

  def cut(self, trace: Trace) -> Cut:
    """What stays of one call."""
    ins = [self.alive[channels.labels] for channels in trace.ins]
    outs = [self.alive[channels.labels] for channels in trace.outs]
    name = trace.call.name
    if name in self.rows:
      ins[0] = ins[0] & self.rows[name]
    reader = self.graph.own_chains.get(name) if self.rows else None
    if reader in self.rows:
      ins[0], outs[0] = ins[0] & self.rows[reader], outs[0] & self.rows[reader]
    return Cut(trace, ins, outs, {part: self.alive[one] for part, one in trace.inside.items()})

  def kept(self, group: Group) -> np.ndarray:
    """Bool array [group.size] of the elements that stay."""
    return self.alive[group.roots]
