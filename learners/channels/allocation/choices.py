"""The table that allocation works on: for each unit its options, what each loses and what it costs.

Rows are (unit, number of channels that stay, loss, cost). Costs of units multiply (a kernel's MACs are
its inputs times its outputs), so that the table prices one step of one unit while all others are
whole, and knows the exact cost of any combination.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from secateurs.learners.channels.cuts.cutting import macs_form
from secateurs.learners.channels.cuts.units import Unit
from secateurs.utils.errors import UserError
from secateurs.utils.graph import ChannelGraph

CostForm = Callable[[np.ndarray], float]
"""The cost of a network when `gone[u]` channels of unit u have gone."""


class Choices:
  """Numbers of channels that units may keep.

  Attributes:
    units: what is chosen for.
    levels: for each unit the numbers of channels that may stay, falling from all of them.
  """

  def __init__(
    self,
    graph: ChannelGraph,
    units: Sequence[Unit],
    step: int = 1,
    cost: CostForm | None = None,
    least: Mapping[str, int] | None = None,
    grid: Callable[[int], Sequence[int]] | None = None,
  ) -> None:
    """Lays out the table.

    Args:
      graph: the network's channel graph.
      units: what is chosen for.
      step: numbers of channels, where not all stay, are multiples of it.
      cost: what is limited; default: MACs.
      least: numbers of channels that stay at least, by unit name; default: one, or more by the unit's
        rule.
      grid: the numbers of channels that may stay, from a unit's size, in place of `step`.
    """
    self.units = list(units)
    lowest = {unit.name: (least or {}).get(unit.name, 1) for unit in units}
    self.levels = [
      levels(unit.size, step, unit.rule.count(unit.size, lowest[unit.name])) for unit in units
    ]
    if grid is not None:
      self.levels = [
        [kept[0], *(n for n in sorted(grid(kept[0]), reverse=True) if kept[-1] <= n < kept[0])]
        for kept in self.levels
      ]
    for i, unit in enumerate(self.units):
      if unit.rule.ratio is not None:  # There is no choice.
        self.levels[i] = [unit.rule.count(unit.size, 0)]
    self._cost_without = macs_form(graph, units) if cost is None else cost

  def cost(self, counts: Mapping[str, int]) -> float:
    """Cost when units keep so many channels, by unit name."""
    return self._cost_without(np.array([unit.size - counts[unit.name] for unit in self.units]))

  def least(self) -> float:
    """Cost when every unit is at its lowest level."""
    return self.cost_at([len(levels) - 1 for levels in self.levels])

  def counts_at(self, places: Sequence[int]) -> dict[str, int]:
    """Numbers of channels by unit name when each unit is at a place in its levels."""
    return {
      unit.name: levels[place]
      for unit, levels, place in zip(self.units, self.levels, places, strict=True)
    }

  def cost_at(self, places: Sequence[int]) -> float:
    """Cost when each unit is at a place in its levels."""
    return self.cost(self.counts_at(places))

  def check(self, budget: float, total: int, flag: str, remedy: str, change: str = 'raise') -> None:
    """Checks that a budget can be met.

    Args:
      budget: MACs that may stay.
      total: MACs of the whole network.
      flag: the flag that asked for the budget.
      remedy: the flag that lets more be pruned.
      change: what lets more stay: `raise` or `lower` the flag.

    Raises:
      UserError: not even the lowest levels meet it.
    """
    if self.least() > budget:
      raise UserError(
        f'{flag} asks for {budget / total:.4f} of the MACs, but at least {self.least() / total:.4f} '
        f'stay whatever is pruned: {change} it, or prune more with {remedy}.'
      )

  def prices(self, losses: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What each step down costs in loss per MAC, by unit name; never less than the step before.

    Args:
      losses: by unit name, [size + 1], after so many channels have gone.

    Returns:
      One number for each level of the unit but the first.
    """
    none = np.zeros(len(self.units), int)
    total, found = self._cost_without(none), {}
    for i, unit in enumerate(self.units):
      cost = max(total - self._cost_without(none + (np.arange(len(self.units)) == i)), 1)
      values = losses[unit.name][unit.size - np.array(self.levels[i])]
      channels = -np.diff(self.levels[i])
      found[unit.name] = np.maximum.accumulate(np.diff(values) / (channels * cost))
    return found


def levels(size: int, step: int, least: int = 1) -> list[int]:
  """Numbers of channels that may stay, falling: all, then multiples of `step`, at least `least`."""
  return [size, *(n for n in range(size - 1, max(least, 1) - 1, -1) if n % step == 0)]
