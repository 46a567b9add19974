"""What `reg-pruned` remembers between phases."""

from __future__ import annotations

import dataclasses
from typing import Any

from secateurs.learners.channels.filter_state import FpState


@dataclasses.dataclass
class RpState(FpState):
  """What `reg-pruned` remembers.

  Attributes:
    doomed: the channels that the cut of this pass leaves, by unit name, where they are chosen before.
    passes: of each pass the histograms of norms `before` and `after` its training, and its cut's notes.
    blocks: names of the additions whose residual branches have gone.
    zero_shapes: fraction of the kernels' positions that are zero over all filters, after the slice.
    zero_kernels: fraction of their k x k kernels that are zero, after the slice.
  """

  doomed: dict[str, list[int]] = dataclasses.field(default_factory=dict)
  passes: list[dict[str, Any]] = dataclasses.field(default_factory=list)
  blocks: list[str] = dataclasses.field(default_factory=list)
  zero_shapes: float | None = None
  zero_kernels: float | None = None
