"""When filters go: the stages of a schedule, each a cut and, unless it is the last, a training."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence


@dataclasses.dataclass(frozen=True)
class Stage:
  """One cut.

  Attributes:
    name: for state, checkpoints and metrics.
    round: counts up from 1.
    units: names of the units that are cut.
    done: fraction of all that goes of them that has gone afterwards, in (0, 1].
    last: whether the cut is the last one, after which the network is sliced.
  """

  name: str
  round: int
  units: tuple[str, ...]
  done: float
  last: bool


def stages(schedule: str, nb_rounds: int, units: Sequence[str]) -> list[Stage]:
  """The cuts of a schedule, in order.

  Args:
    schedule: `one-shot` and `end-to-end` cut all units at once, `layer-by-layer` one after the other.
    nb_rounds: how often; the fraction that has gone grows evenly to 1.
    units: names, in order.
  """
  found = []
  for number in range(1, nb_rounds + 1):
    done, last = number / nb_rounds, number == nb_rounds
    if schedule != 'layer-by-layer':
      found.append(Stage(f'round{number}', number, tuple(units), done, last))
      continue
    for place, unit in enumerate(units, 1):
      name = f'round{number}_layer{place}'
      found.append(Stage(name, number, (unit,), done, last and place == len(units)))
  return found
