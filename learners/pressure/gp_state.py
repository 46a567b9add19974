"""What `gate-pruned` remembers between phases."""

from __future__ import annotations

import dataclasses

from secateurs.learners.channels.filter_state import FpState


@dataclasses.dataclass
class GpState(FpState):
  """What `gate-pruned` remembers.

  Attributes:
    nb_groups: number of groups that are gated one after another.
    gates: mean gate of each channel when its group was cut, by unit name.
    gated_vs_masked: largest difference of the outputs of the network with gates of 0 and 1 from those
      of the masked one, as a fraction of their range.
  """

  nb_groups: int = 1
  gates: dict[str, list[float]] = dataclasses.field(default_factory=dict)
  gated_vs_masked: float | None = None
