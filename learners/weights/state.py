"""What weight-sparse remembers between phases."""

from __future__ import annotations

import dataclasses
from typing import Any

from secateurs.learners.run.state import LearnerState

Curves = dict[str, list[tuple[float, float]]]


@dataclasses.dataclass
class WsState(LearnerState):
  """What `weight-sparse` remembers.

  Attributes:
    kept: weights that stay, by kernel name; None before they are allocated.
    sensitivity: by kernel name, (sparsity, loss) of the kernel pruned alone; None if not scanned.
    divergence: by kernel name, (sparsity, divergence) of the kernel pruned alone; None if not scanned.
    search: what the search found, for the report.
    search_began: whether trials of this run are on disk.
  """

  kept: dict[str, int] | None = None
  sensitivity: Curves | None = None
  divergence: Curves | None = None
  search: dict[str, Any] | None = None
  search_began: bool = False
