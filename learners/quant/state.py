"""What the quantisation learners remember between phases."""

from __future__ import annotations

import dataclasses
from typing import Any

from secateurs.learners.run.state import LearnerState

Curves = dict[str, list[tuple[float, float]]]


@dataclasses.dataclass
class UqlState(LearnerState):
  """What `uniform-quant` remembers.

  Attributes:
    bits: of the weights by kernel name; None before they are allocated.
    divergence: by kernel name, (1 - bits / 32, divergence) of the kernel rounded alone; None if not
      scanned.
    search: what the search found, for the report.
    search_began: whether trials of this run are on disk.
  """

  bits: dict[str, int] | None = None
  divergence: Curves | None = None
  search: dict[str, Any] | None = None
  search_began: bool = False


@dataclasses.dataclass
class NuqlState(LearnerState):
  """What `non-uniform-quant` remembers.

  Attributes:
    kept: weights that stay, by kernel name; None before they are allocated.
    quality: by kernel name, the threshold in standard deviations of the kernel (Han's quality factor).
    sensitivity: by kernel name, (sparsity, loss) of the kernel pruned alone; None if not scanned.
    stages: bytes of the packed network after each stage, by its name.
  """

  kept: dict[str, int] | None = None
  quality: dict[str, float] | None = None
  sensitivity: Curves | None = None
  stages: dict[str, int] = dataclasses.field(default_factory=dict)
