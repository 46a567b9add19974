"""The rule of layers that cannot be cut."""

from __future__ import annotations

from secateurs.utils.graph.rules.base import Rule


class Whole(Rule):
  """The rule of a layer that is known, and that cannot be cut."""

  by_initializers = False

  def __init__(self, obstacle: str):
    """`obstacle`: what the layer does, after its name."""
    self.obstacle = obstacle
