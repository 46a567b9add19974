"""Layers with a learned scale for each channel: PReLU and layer scale."""

from __future__ import annotations

from typing import Any

import numpy as np

from secateurs.utils.graph.flat.rebuild import Axes
from secateurs.utils.graph.rules.base import Cut, Rule, Trace, View
from secateurs.utils.graph.rules.channels import Channels
from secateurs.utils.graph.rules.constants import Constant


class PRelu(Rule):
  """PReLU: alpha has the input's shape, with ones on the shared axes."""

  def trace(self, view: View) -> list[Channels]:
    """Channels pass."""
    view.share(view.ins[0].labels)
    return [view.ins[0]]

  def axes(self, cut: Cut) -> Axes:
    """Alpha, where it runs along the channels."""
    axis = cut.trace.ins[0].axis
    if axis is None or cut.layer.alpha.shape[axis - 1] == 1:
      return {}
    return {'alpha': [(axis - 1, cut.ins[0])]}

  def constant(self, trace: Trace, ins: list[Constant]) -> list[Constant]:
    """Values that are not negative pass; below zero alpha may differ from place to place."""
    value = np.where(ins[0].value >= 0, ins[0].value, np.nan)
    return [Constant(value, ins[0].silent & np.isnan(value))]


class LayerScale(Rule):
  """The learned scale of ConvNeXt blocks: gamma [channels] on the last axis."""

  def trace(self, view: View) -> list[Channels]:
    """Channels pass."""
    labels = view.on_axis(0, -1)
    view.share(labels)
    return [view.ins[0]]

  def config(self, cut: Cut) -> dict[str, Any]:
    """The number of channels."""
    return {'projection_dim': int(cut.ins[0].sum())}

  def axes(self, cut: Cut) -> Axes:
    """Gamma."""
    return {'gamma': [(0, cut.ins[0])]}
