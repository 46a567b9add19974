"""What `filter-pruned` remembers between phases."""

from __future__ import annotations

import dataclasses
from typing import Any

from secateurs.learners.channels.state import ChannelState


@dataclasses.dataclass
class FpState(ChannelState):
  """What `filter-pruned` remembers.

  Attributes:
    round: the round whose targets are known; 0 before the first.
    targets: channels that stay at the end of that round, by unit name.
    cut: names of the stages whose cut is done.
    tuned: names of the stages whose training is done.
    score_seconds: what computing the scores has taken.
    ranks: how stable the ranks of maps were before the first cut, for criterion rank.
  """

  round: int = 0
  targets: dict[str, int] = dataclasses.field(default_factory=dict)
  cut: list[str] = dataclasses.field(default_factory=list)
  tuned: list[str] = dataclasses.field(default_factory=list)
  score_seconds: float = 0.0
  ranks: dict[str, Any] | None = None
