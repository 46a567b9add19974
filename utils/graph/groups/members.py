"""Coupled channel groups and their members."""

from __future__ import annotations

import dataclasses

import numpy as np

PRODUCES, FOLLOWS, CONSUMES = 'produces', 'follows', 'consumes'


@dataclasses.dataclass(frozen=True, eq=False)
class Member:
  """A layer's part in a group.

  Attributes:
    layer: the layer's name.
    type: its class name.
    role: 'produces' (its filters make the channels), 'follows' (one set of weights for each
      channel: BatchNorm, depthwise) or 'consumes' (its kernel sums over them).
    positions: int array, the positions on the layer's output (or input, for consumers).
    elements: int array of the same length, the group's element at each position.
    part: what of the layer's inside the channels are (the heads of an attention), or None.
  """

  layer: str
  type: str
  role: str
  positions: np.ndarray
  elements: np.ndarray
  part: str | None = None

  @property
  def offset(self) -> int:
    """First position: where the group starts in a concatenation that is consumed."""
    return int(self.positions[0])


@dataclasses.dataclass(frozen=True, eq=False)
class Group:
  """Layers whose output channels go together.

  An element is the smallest unit that can be dropped: usually channel i of every producer; with a
  grouped convolution or a flattened map it may be several channels of one layer.

  Attributes:
    index: number of the group in the graph.
    name: the first producer's name, with a dot and the part for channels inside a layer.
    roots: int array [size], the graph-wide number of each element.
    members: producers, followers and consumers in topological order.
    why: int array [size], index into `reasons`, or -1 where the element may be dropped.
    reasons: why elements are protected.
  """

  index: int
  name: str
  roots: np.ndarray
  members: list[Member]
  why: np.ndarray
  reasons: list[str]

  @property
  def size(self) -> int:
    """Number of elements."""
    return len(self.roots)

  @property
  def free(self) -> np.ndarray:
    """Bool array [size], True where the element may be dropped."""
    return self.why < 0

  @property
  def prunable(self) -> bool:
    """True if at least one element can go while another stays."""
    return self.size > 1 and bool(self.free.any())

  def layers(self, role: str) -> list[str]:
    """Names of the members with that role."""
    return [member.layer for member in self.members if member.role == role]


@dataclasses.dataclass(frozen=True, eq=False)
class ChannelMap:
  """Where the channels of one layer's input or output belong.

  Attributes:
    group: int array [channels], the group's index, or -1 for channels of no group.
    element: int array [channels], the element within the group, or -1.
    roots: int array [channels], graph-wide numbers of the elements.
  """

  group: np.ndarray
  element: np.ndarray
  roots: np.ndarray
