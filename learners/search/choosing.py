"""What goes at one step: the least sum of losses that saves enough, solved exactly.

Each part of a network (the channels of a unit, a residual block, the zeros of a kernel, its bits) has
levels, the first of which leaves it as it is. One level of each part is chosen:

  min  sum_p loss[p, l_p]   subject to   sum_p saving[p, l_p] >= need

a grouped knapsack, an integer linear program. Parts that lie inside another one, which would take them
along, exclude it. The divergences that stand for losses are measured one part at a time and added up;
savings are those of each part alone, so that whoever builds the network corrects the need. A cost that
is a maximum, such as memory, has a need and savings for each of several places (operators).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import sparse
from scipy.optimize import Bounds, LinearConstraint, milp

_SECONDS = 20.0


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

  `need`: in the unit of the savings; for memory [operators].
  """
  if not choices:
    return None
  sizes = [len(one.levels) for one in choices]
  starts = np.cumsum([0, *sizes])
  owners = np.repeat(np.arange(len(sizes)), sizes)
  columns = np.arange(len(owners))
  losses = np.concatenate([np.maximum.accumulate(one.losses) for one in choices])
  savings = np.concatenate(
    [np.asarray(one.savings, float).reshape(len(one.levels), -1) for one in choices]
  )
  scale = max(float(savings.max()), 1e-30)
  constraints = [
    LinearConstraint(sparse.coo_array((np.ones(len(owners)), (owners, columns))), 1, 1),
    LinearConstraint((savings / scale).T, lb=np.atleast_1d(need) / scale),
  ]
  exclusions = _exclusions(choices, starts)
  if exclusions is not None:
    constraints.append(LinearConstraint(exclusions, lb=1))
  # Of equal losses the choice that changes least.
  least = 1e-9 * max(float(losses.max()), 1e-9)
  cost = losses + least * (columns - starts[:-1][owners])
  result = milp(
    cost,
    integrality=np.ones(len(owners)),
    bounds=Bounds(0, 1),
    constraints=constraints,
    options={'time_limit': _SECONDS},
  )
  if result.x is None:
    return None
  parts = np.split(result.x, starts[1:-1])
  return {one.name: int(np.argmax(part)) for one, part in zip(choices, parts, strict=True)}


def loss_of(choices: Sequence[Choice], chosen: Mapping[str, int]) -> float:
  """Sum of the losses of a choice."""
  return float(sum(np.maximum.accumulate(one.losses)[chosen[one.name]] for one in choices))


def _exclusions(choices: Sequence[Choice], starts: np.ndarray) -> sparse.coo_array | None:
  """Rows that ask for at least one of two parts to stay as it is, one row for each nested pair."""
  places = {one.name: int(start) for one, start in zip(choices, starts)}
  pairs = [
    (places[one.name], places[one.inside])
    for one in choices
    if one.inside is not None and one.inside in places
  ]
  if not pairs:
    return None
  rows = np.repeat(np.arange(len(pairs)), 2)
  return sparse.coo_array(
    (np.ones(2 * len(pairs)), (rows, np.ravel(pairs))), shape=(len(pairs), int(starts[-1]))
  )
