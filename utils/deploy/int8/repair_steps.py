"""The steps of a repair, as a report and its reader have them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

_ROUNDING_ERROR = 1e-9  # Of a difference of two scores.


@dataclasses.dataclass(frozen=True)
class Step:
  """One step of a repair.

  Attributes:
    step: what was done; `plain` for the file before.
    kept: whether the file stays with it.
    divergence: of the file's outputs from the float network's.
    drop: how much worse the score is than the float file's, as `Repairer.drop` gives it.
    detail: what else is to be known.
  """

  step: str
  kept: bool
  divergence: float
  drop: float | None
  detail: str


def holds(drop: float | None, max_drop: float) -> bool:
  """Whether so much may be lost; a difference of two scores may be a rounding error above it."""
  return drop is not None and drop <= max_drop + _ROUNDING_ERROR


def rows_of(steps: Sequence[Step]) -> list[dict[str, Any]]:
  """The steps in plain types; what was not measured is None."""
  rows = [dataclasses.asdict(one) for one in steps]
  return [
    {**row, 'divergence': row['divergence'] if np.isfinite(row['divergence']) else None}
    for row in rows
  ]


def sentence_of(steps: Sequence[Step], max_drop: float) -> str:
  """What was done, for the reader of a report.

  Args:
    steps: the first is the file before.
    max_drop: how much may be lost.
  """
  kept = [one for one in steps if one.kept]
  names = ', '.join(dict.fromkeys(one.step for one in kept[1:]))
  first, last = kept[0].drop, kept[-1].drop
  if not names:
    if holds(first, max_drop):
      return (
        f'The int8 file needs no repair: its score drops by {first:.4g} from the float file, and '
        f'--max_drop {max_drop:g} is allowed.'
      )
    return f'No repair of the int8 file helped: its score drops by {first:.4g} from the float file.'
  broken = '' if holds(last, max_drop) else f'; --max_drop {max_drop:g} does not hold'
  return (
    f'The int8 file was repaired ({names}): its score drops by {last:.4g} from the float file, by '
    f'{first:.4g} before{broken}.'
  )
