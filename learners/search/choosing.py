"""What goes at one step: the least sum of losses that saves enough, solved exactly.

Each part of a network (the channels of a unit, a residual block, the zeros of a kernel, its bits) has
levels, the first of which leaves it as it is. One level of each part is chosen:

  min  sum_p loss[p, l_p]   subject to   sum_p saving[p, l_p] >= need

a grouped knapsack (`learners.run.one_each`). Parts that lie inside another one, which would take them
along, exclude it. The divergences that stand for losses are measured one part at a time and added up;
savings are those of each part alone, so that whoever builds the network corrects the need. A cost that
is a maximum, such as memory, has a need and savings for each of several places (operators).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from secateurs.learners.run.one_each import one_each


@dataclasses.dataclass(frozen=True)
class Choice:
  """A part of a network and its levels.

  Attributes:
    name: unique among all parts.
    kind: `channels`, `block`, `zeros` or `bits`.
    levels: what each level means: channels that stay, 0 or 1 for a block, nonzeros, bits; the first is
      how it is now.
    losses: by level; the first is 0.
    savings: by level, in the unit of the cost; the first is 0. For memory [levels, operators].
    inside: name of the part that takes this one along, if any.
    held: for memory, bytes at each operator as it is now, the same for all parts.
  """

  name: str
  kind: str
  levels: tuple[int, ...]
  losses: tuple[float, ...]
  savings: Any
  inside: str | None = None
  held: np.ndarray | None = None


def most_saved(choices: Sequence[Choice]) -> float:
  """The most that any choice saves, as savings add up."""
  inner: dict[str, float] = {}
  total = 0.0
  for one in choices:
    if one.inside is not None:
      inner[one.inside] = inner.get(one.inside, 0.0) + max(one.savings)
  blocks = {one.name: max(one.savings) for one in choices if one.kind == 'block'}
  for name, saving in blocks.items():
    total += max(saving, inner.pop(name, 0.0))
  total += sum(inner.values())
  return total + sum(max(o.savings) for o in choices if o.kind != 'block' and o.inside is None)


def choose(choices: Sequence[Choice], need: float | np.ndarray) -> dict[str, int] | None:
  """Places of the chosen levels by part name, 0 where a part stays; None where nothing saves enough.

  Of equal losses it is the choice that changes least.

  `need`: in the unit of the savings; for memory [operators].
  """
  if not choices:
    return None
  numbers = {one.name: number for number, one in enumerate(choices)}
  picked = one_each(
    [np.maximum.accumulate(one.losses) for one in choices],
    [one.savings for one in choices],
    need,
    apart=[
      (number, numbers[one.inside])
      for number, one in enumerate(choices)
      if one.inside is not None and one.inside in numbers
    ],
  )
  if picked is None:
    return None
  return {one.name: int(place) for one, place in zip(choices, picked, strict=True)}


def loss_of(choices: Sequence[Choice], chosen: Mapping[str, int]) -> float:
  """Sum of the losses of a choice."""
  return float(sum(np.maximum.accumulate(one.losses)[chosen[one.name]] for one in choices))
