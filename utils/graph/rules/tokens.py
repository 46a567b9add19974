"""Layers of token sequences: an embedding's columns are channels, masking compares all of them."""

from __future__ import annotations

from typing import Any

from secateurs.utils.graph.flat.rebuild import Axes
from secateurs.utils.graph.rules.base import Cut, Rule, Trace, View
from secateurs.utils.graph.rules.channels import Channels
from secateurs.utils.graph.rules.constants import Constant
from secateurs.utils.graph.rules.producers import Producer


class Embedding(Producer):
  """Embedding: columns of the table are channels."""

  kernel = 'embeddings'

  def trace(self, view: View) -> list[Channels]:
    """New atoms, the same at every call."""
    view.produced = (
      view.atoms.new(view.layer.output_dim) if view.previous is None else view.previous.produced
    )
    return [Channels(len(view.out_shapes[0]) - 1, view.produced)]

  def config(self, cut: Cut) -> dict[str, Any]:
    """Width."""
    return {'output_dim': int(cut.outs[0].sum())}

  def axes(self, cut: Cut) -> Axes:
    """The table [tokens, channels]."""
    return {'embeddings': [(1, cut.outs[0])]}

  def constant(self, trace: Trace, ins: list[Constant]) -> list[Constant]:
    """Not followed."""
    return [Constant.live(len(trace.outs[0].labels))]


class Masking(Rule):
  """Masking: a step is skipped where all channels have one value, so none may go."""

  def trace(self, view: View) -> list[Channels]:
    """Protects the channels."""
    view.protect_inputs(f'{view.title()} compares all channels')
    return [view.ins[0]]
