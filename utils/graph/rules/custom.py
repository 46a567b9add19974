"""Ready rules for layers of users, registered with `register_layer_rule`."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from secateurs.utils.graph.flat.rebuild import Axes
from secateurs.utils.graph.rules.base import Cut, Rule, View
from secateurs.utils.graph.rules.channels import Channels


class PassThrough(Rule):
  """The rule of a layer that treats every channel by itself and has no weights for them."""

  by_initializers = False

  def trace(self, view: View) -> list[Channels]:
    """Channels pass to every output, which has the input's rank."""
    return [view.ins[0]] * len(view.out_shapes)


class PerChannel(Rule):
  """The rule of a layer that has its own weights for each channel of the last axis."""

  by_initializers = False

  def __init__(self, weights: Mapping[str, int], sizes: Collection[str] = ()):
    """Names what shrinks.

    Args:
      weights: name of a weight -> its axis that runs along the channels.
      sizes: entries of the layer's config that hold the number of channels.
    """
    self._weights = dict(weights)
    self._sizes = tuple(sizes)

  def trace(self, view: View) -> list[Channels]:
    """Channels pass; those of all calls go together."""
    labels = view.on_axis(0, -1)
    view.share(labels)
    return [Channels(len(view.out_shapes[0]) - 1, labels)]

  def config(self, cut: Cut) -> dict[str, Any]:
    """The new number of channels."""
    return {name: int(cut.ins[0].sum()) for name in self._sizes}

  def axes(self, cut: Cut) -> Axes:
    """The named weights."""
    return {name: [(axis, cut.ins[0])] for name, axis in self._weights.items()}
