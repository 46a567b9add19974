"""What allocating the widths of a network takes, where layers' inputs are chosen."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import tf_keras as keras

from secateurs.learners.channels.allocation.site import Site
from secateurs.learners.channels.cuts.units import Unit
from secateurs.learners.channels.repair.method import Method
from secateurs.utils.graph import ChannelGraph


@dataclasses.dataclass(frozen=True, kw_only=True)
class WidthSite(Site):
  """The network whose widths are allocated; see `Site`.

  Attributes:
    graph: the channel graph of such a network.
    units: what may be pruned, from a channel graph.
    samples: gives (inputs, targets) that layers are refit over.
    method: how channels are chosen and weights refit, from the graph, the units and the samples.
  """

  graph: Callable[[keras.Model], ChannelGraph]
  units: Callable[[ChannelGraph], Sequence[Unit]]
  samples: Callable[[], list[tuple]]
  method: Callable[[ChannelGraph, Sequence[Unit], Sequence[tuple]], Method]
