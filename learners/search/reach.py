"""Which channels a search may take."""

from __future__ import annotations

import dataclasses
import fnmatch
from collections.abc import Sequence

import tf_keras as keras

from secateurs.learners.channels.cuts.units import Unit, find_units
from secateurs.utils.graph import ChannelGraph


@dataclasses.dataclass(frozen=True)
class Reach:
  """Which channels a search may take.

  Attributes:
    trunk: what happens to channels that residual additions join.
    skip: patterns of layers that keep their channels.
    norms: whether channels go that normalisations run over; see `ChannelGraph`.
    heads: what goes inside an attention.
    even: whether parts of splits stay equally wide.
  """

  trunk: str
  skip: Sequence[str]
  norms: str = 'keep'
  heads: str = 'width'
  even: bool = True

  def graph(self, model: keras.Model) -> ChannelGraph:
    """The channels of a network of the search."""
    return ChannelGraph(model, self.norms, self.heads)

  def units(self, graph: ChannelGraph) -> list[Unit]:
    """The units of channels that may lose some; none where a network has none."""
    names = list(graph.traced.flat.layers())
    # A pattern may name what an earlier try removed.
    present = [pattern for pattern in self.skip if fnmatch.filter(names, pattern)]
    return find_units(graph, self.trunk, present, prefix='js_', dense=True, attentions=True).units
