"""What learners of channels remember between phases."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from secateurs.learners.run.state import LearnerState

Curves = dict[str, list[tuple[float, float]]]


@dataclasses.dataclass
class WidthState:
  """What is known of how many channels stay.

  Attributes:
    divergence: by unit name, (fraction gone, divergence) of the unit pruned alone; None if not scanned.
    latency: the fraction of channels or MACs that has the target latency, and the latency measured.
    ram: with a target in memory, what `ram.allocate` says of the widths.
    counts: channels that stay, by unit name, where a budget is allocated.
    macs_ratio: the budget, as a fraction of all MACs.
    search: what the search found, for the report.
    search_began: whether trials of this run are on disk.
    drops: by unit name, (fraction gone, drop of the score) of the unit pruned alone; None if not
      scanned.
    shares: fractions of their channels that units keep, as a search of them has found, by unit name.
    colony: best and mean fitness of a bee colony over its cycles, as fractions of them.
  """

  divergence: Curves | None = None
  latency: dict[str, float] | None = None
  ram: dict[str, Any] | None = None
  counts: dict[str, int] | None = None
  macs_ratio: float | None = None
  search: dict[str, Any] | None = None
  search_began: bool = False
  drops: Curves | None = None
  shares: dict[str, float] | None = None
  colony: Curves | None = None


@dataclasses.dataclass
class ChannelState(LearnerState):
  """What all learners of channels remember.

  Attributes:
    widths: how many channels stay.
    reach: to how many convolutions ratios apply, in one sentence; None before that is known.
    kept: the channels that stay, by unit name, as far as they have been chosen.
    left_whole: sentences about channels that could not be chosen from.
    layers: a record of each layer that was pruned: name, kept, of, errors or losses.
    slim: the sliced network's architecture as JSON; None before slicing.
    slim_vs_masked: largest difference of their outputs, as a fraction of the outputs' range.
    channels_ratio: fraction of the prunable channels that stayed.
    cut_norms: names of the normalisations that lost channels which their statistics run over.
    pruned: report block of the slim network before its training.
    channels: what slicing kept, as plan.json has it.
    uneven: which splits have parts of unequal width, in one sentence; None if none has.
    comparison: scores of other selections at the same numbers of channels, by title, if asked for.
  """

  widths: WidthState = dataclasses.field(default_factory=WidthState)
  reach: str | None = None
  kept: dict[str, list[int]] = dataclasses.field(default_factory=dict)
  left_whole: list[str] = dataclasses.field(default_factory=list)
  layers: list[dict[str, Any]] = dataclasses.field(default_factory=list)
  slim: str | None = None
  slim_vs_masked: float | None = None
  channels_ratio: float | None = None
  cut_norms: list[str] = dataclasses.field(default_factory=list)
  pruned: dict[str, Any] | None = None
  channels: list[dict[str, Any]] = dataclasses.field(default_factory=list)
  uneven: str | None = None
  comparison: dict[str, dict[str, Any]] | None = None

  def note_layers(self, records: Sequence[dict[str, Any]]) -> None:
    """Takes records of layers, each in place of what an earlier stage has recorded of the layer."""
    names = {one['name'] for one in records}
    self.layers = [*(one for one in self.layers if one['name'] not in names), *records]
