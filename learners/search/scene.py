"""A network of the search, and what looking at it takes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import tf_keras as keras

from secateurs.learners.channels.cuts.units import Unit
from secateurs.learners.run.settings import Settings
from secateurs.learners.search.building import rough, units_of
from secateurs.learners.search.state import Taken
from secateurs.utils.graph import ChannelGraph


@dataclasses.dataclass(frozen=True)
class Scene:
  """A network of the search, and what looking at it takes.

  Attributes:
    model: float32, the task's outputs.
    bits: of its kernels by name, where they share values; empty elsewhere.
    trunk: what happens to channels that residual additions join.
    skip: patterns of layers that keep their channels.
    settings: of the run.
    cost: bytes, latency, macs or ram.
    file: float, int8 or packed.
    ms_by_part: what blocks, and channels of units, are worth in milliseconds.
    kinds: what may go: channels, blocks, zeros, bits.
  """

  model: keras.Model
  bits: Mapping[str, int]
  trunk: str
  skip: Sequence[str]
  settings: Settings
  cost: str
  file: str
  ms_by_part: Mapping[str, float]
  kinds: Sequence[str]

  def units(self, graph: ChannelGraph) -> list[Unit]:
    """Units of channels."""
    return units_of(graph, self.trunk, self.skip)

  def rough(self, taken: Sequence[Taken]) -> keras.Model:
    """A network of the structure that a choice leads to."""
    return rough(self.model, taken, self.trunk, self.skip)
