"""What a published method is: settings of a learner, with its source and its answers."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any


@dataclasses.dataclass(frozen=True)
class Method:
  """A published method as settings of a learner.

  Attributes:
    name: what `--learner` takes.
    learner: the learner's name.
    settings: values of flags, by name without dashes.
    paper: authors, year and number.
    year: of publication.
    criterion: what a weight or channel is worth.
    allocation: how many stay in each layer.
    schedule: when they go.
    pressure: what makes them worthless before they go.
    repair: how the others make up for it.
    deviations: what differs from the paper, one sentence each.
  """

  name: str
  learner: str
  settings: Mapping[str, Any]
  paper: str
  year: int
  criterion: str
  allocation: str
  schedule: str
  pressure: str
  repair: str
  deviations: tuple[str, ...] = ()
