"""What `prune-regrow` remembers between phases."""

from __future__ import annotations

import dataclasses
from typing import Any

from secateurs.learners.channels.filter_state import FpState


@dataclasses.dataclass
class PrState(FpState):
  """What `prune-regrow` remembers.

  Attributes:
    changes: of each change of the structure its `step`, its `seconds`, and by unit name the number of
      channels that were `kept`, of how many (`of`).
  """

  changes: list[dict[str, Any]] = dataclasses.field(default_factory=list)
