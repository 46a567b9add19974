"""What learners that prune while training share: how much stays, and constants of filter-pruned."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from secateurs.learners.channels.configs import (
  ChannelConfig,
  latency_table_option,
  target_ram_option,
)
from secateurs.learners.channels.targets import (
  keeps_all_filters,
  refuse_two_targets,
  require_target,
)
from secateurs.learners.run.training.jobs import jobs_option
from secateurs.utils.config import option


@dataclasses.dataclass(frozen=True)
class BudgetConfig(ChannelConfig):
  """How much stays, in place of a ratio of channels.

  A subclass has `prune_option` and `prune_ratio` with its own defaults.
  """

  order: ClassVar[str] = 'best'
  normalize: ClassVar[str] = 'source'
  list_layout: ClassVar[str] = 'units'
  max_drop: ClassVar[float] = 0.0

  preserve_ratio: float | None = option(
    None, 'Fraction of all MACs that stays; replaces the ratio of channels.', low=0.0, high=1.0
  )
  target_latency: float | None = option(
    None,
    "Fraction of the original's measured .tflite latency to reach; replaces the ratio of channels.",
    low=0.01,
    high=1.0,
  )
  latency_table: str | None = latency_table_option()
  target_ram: float | None = target_ram_option()
  quadruple: bool = option(False, 'Round numbers of kept channels up to multiples of four.')
  jobs: int = jobs_option('Layers of the scan of auto', {'prune_option': 'auto'})
  floor: float = option(
    0.1, 'Fraction of its channels that each layer keeps at least.', low=0.0, high=1.0
  )

  def __post_init__(self) -> None:
    super().__post_init__()
    require_target(self)
    refuse_two_targets(self)

  @property
  def step(self) -> int:
    """Numbers of channels, where not all stay, are multiples of it."""
    return 4 if self.quadruple else 1

  @property
  def keeps_all(self) -> str | None:
    """The flag that leaves all channels, and with them the trained weights."""
    if self.begins_anew:
      return None
    return keeps_all_filters(self, ('uniform', 'global', 'per-mac', 'auto'))

  @property
  def begins_anew(self) -> bool:
    """Whether the network is trained from random weights, whatever goes."""
    return False
