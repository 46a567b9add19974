"""Most importance within a cost: one option for each unit, as a grouped knapsack.

  min  sum_u loss[u, l_u]   subject to   cost(l_1, ..., l_U) <= budget

over one level l_u for each unit. Where each cost belongs to one unit, as where residual trunks stay
whole, this is an integer linear program and solved as one. Where a layer's cost depends on two units,
the cost is linearised about the last solution, over and over; what is returned meets the budget.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from secateurs.learners.channels.allocation import solvers
from secateurs.learners.channels.allocation.choices import Choices
from secateurs.learners.run.one_each import one_each

_MAX_ROUNDS = 12


def within_cost(
  choices: Choices, budget: float, losses: Mapping[str, np.ndarray]
) -> dict[str, int]:
  """Numbers of channels of the least sum of losses whose cost is within the budget.

  Args:
    choices: the table.
    budget: cost that may stay.
    losses: by unit name, [size + 1], after so many channels have gone.

  Returns:
    Channels that stay, by unit name.

  Raises:
    ValueError: not even the lowest levels meet the budget.
  """
  values = [
    np.asarray(losses[unit.name], float)[unit.size - np.array(levels)]
    for unit, levels in zip(choices.units, choices.levels, strict=True)
  ]
  start = solvers.equal(choices, budget)
  now = np.array([ls.index(start[u.name]) for u, ls in zip(choices.units, choices.levels)])
  best, limit, seen = _filled(choices, budget, values, now), budget, set()
  now = best
  for _ in range(_MAX_ROUNDS):
    costs = [_alone(choices, now, unit) for unit in range(len(values))]
    whole = choices.cost_at(now)
    found = one_each(values, [whole - one for one in costs], whole - limit)
    if found is None or tuple(found) in seen:
      break
    seen.add(tuple(found))
    cost = choices.cost_at(found)
    if cost > budget:  # Less than the sum of what each saves alone.
      limit -= cost - budget
      now = found
      continue
    found = _filled(choices, budget, values, found)
    if _loss(values, found) < _loss(values, best):
      best = found
    now, limit = found, budget
  return choices.counts_at(best)


def _alone(choices: Choices, places: np.ndarray, unit: int) -> np.ndarray:
  """Cost at each level of a unit while all others stay where they are."""
  found = []
  for level in range(len(choices.levels[unit])):
    changed = places.copy()
    changed[unit] = level
    found.append(choices.cost_at(changed))
  return np.array(found)


def _filled(
  choices: Choices, budget: float, values: list[np.ndarray], places: np.ndarray
) -> np.ndarray:
  """Steps up that still fit, those first that gain most."""
  places = places.copy()
  while True:
    best, gain = None, 0.0
    for unit in np.flatnonzero(places):
      gained = values[unit][places[unit]] - values[unit][places[unit] - 1]
      if gained > gain:
        places[unit] -= 1
        if choices.cost_at(places) <= budget:
          best, gain = unit, gained
        places[unit] += 1
    if best is None:
      return places
    places[best] -= 1


def _loss(values: list[np.ndarray], places: np.ndarray) -> float:
  return float(sum(one[place] for one, place in zip(values, places, strict=True)))
