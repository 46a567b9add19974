"""Numbers of channels per layer that meet a budget of MACs.

Given what each layer loses at every number of channels, channels go in the order of loss per MAC until
the budget is met, and as many as still fit are put back: so the numbers found have at most the budget's
MACs, and no channel more fits. A factor for each layer's loss makes other candidates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from secateurs.learners.channel_units import Unit, macs_form
from secateurs.learners.trials import Candidate
from secateurs.utils.errors import UserError
from secateurs.utils.graph import ChannelGraph


class Allocation:
  """Numbers of channels that meet a budget."""

  def __init__(self, graph: ChannelGraph, units: Sequence[Unit], step: int = 1) -> None:
    """`step`: numbers of channels, where not all stay, are multiples of it."""
    self.units = list(units)
    self.levels = [levels(unit.size, step) for unit in units]
    self._macs_without = macs_form(graph, units)

  def macs(self, counts: Mapping[str, int]) -> int:
    """MACs when units keep so many channels, by unit name."""
    return self._macs_without(np.array([unit.size - counts[unit.name] for unit in self.units]))

  def least(self) -> int:
    """MACs when every unit stands at its lowest level."""
    return self._macs_at([len(levels) - 1 for levels in self.levels])

  def _macs_at(self, places: Sequence[int]) -> int:
    return self.macs(self._counts_at(places))

  def _counts_at(self, places: Sequence[int]) -> dict[str, int]:
    return {
      unit.name: levels[place]
      for unit, levels, place in zip(self.units, self.levels, places, strict=True)
    }

  def check(self, budget: float, total: int, flag: str, remedy: str) -> None:
    """Tells a user whose budget is out of reach.

    Args:
      budget: MACs that may stay.
      total: MACs of the whole network.
      flag: the flag that asked for the budget.
      remedy: the flag that lets more be pruned.

    Raises:
      UserError: not even the lowest levels meet it.
    """
    if self.least() > budget:
      raise UserError(
        f'{flag} asks for {budget / total:.4f} of the MACs, but at least {self.least() / total:.4f} '
        f'stay whatever is pruned: raise it, or prune more with {remedy}.'
      )

  def prices(self, losses: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What each step down costs in loss per MAC, by unit name; never less than the step before.

    Args:
      losses: by unit name, [size + 1], after so many channels have gone.

    Returns:
      One number for each level of the unit but the first.
    """
    none = np.zeros(len(self.units), int)
    total, found = self._macs_without(none), {}
    for i, unit in enumerate(self.units):
      cost = max(total - self._macs_without(none + (np.arange(len(self.units)) == i)), 1)
      values = losses[unit.name][unit.size - np.array(self.levels[i])]
      channels = -np.diff(self.levels[i])
      found[unit.name] = np.maximum.accumulate(np.diff(values) / (channels * cost))
    return found

  def within(
    self,
    budget: float,
    prices: Mapping[str, np.ndarray],
    factors: Mapping[str, float] | None = None,
  ) -> dict[str, int]:
    """The numbers of channels, by unit name, that go by loss per MAC until the budget is met.

    Args:
      budget: MACs that may stay.
      prices: what `prices` gives.
      factors: of prices, by unit name; default: one.

    Raises:
      ValueError: not even the lowest levels meet it.
    """
    names = [unit.name for unit in self.units]
    keys = np.concatenate([prices[name] * (factors[name] if factors else 1.0) for name in names])
    owners = np.repeat(np.arange(len(names)), [len(prices[name]) for name in names])
    return self._first(budget, owners[np.argsort(keys, kind='stable')])

  def candidate(
    self, budget: float, prices: Mapping[str, np.ndarray], factors: Mapping[str, float]
  ) -> Candidate:
    """What `within` gives, and raises; without factors, what `equal` does."""
    counts = self.within(budget, prices, factors) if factors else self.equal(budget)
    return Candidate(counts, self.macs(counts))

  def equal(self, budget: float) -> dict[str, int]:
    """The numbers of channels when all units keep the same share, as far as that is possible.

    Raises:
      ValueError: not even the lowest levels meet the budget.
    """
    shares = np.concatenate([np.array(kept[1:]) / kept[0] for kept in self.levels])
    owners = np.repeat(np.arange(len(self.units)), [len(kept) - 1 for kept in self.levels])
    return self._first(budget, owners[np.argsort(-shares, kind='stable')])

  def _first(self, budget: float, order: np.ndarray) -> dict[str, int]:
    """Takes steps in this order until the budget is met, then takes back what still fits."""
    if self.least() > budget:
      raise ValueError(f'At least {self.least()} MACs stay, but {budget} were asked for.')

    def places(number: int) -> np.ndarray:
      return np.bincount(order[:number], minlength=len(self.units))

    low, high = 0, len(order)
    while low < high:
      middle = (low + high) // 2
      if self._macs_at(places(middle)) <= budget:
        high = middle
      else:
        low = middle + 1
    found = places(low)
    full = np.zeros(len(self.units), bool)  # What does not fit now does not later either.
    for unit in order[:low][::-1]:
      if full[unit]:
        continue
      found[unit] -= 1
      if self._macs_at(found) > budget:
        found[unit] += 1
        full[unit] = True
    return self._counts_at(found)


def levels(size: int, step: int) -> list[int]:
  """Numbers of channels that may stay, falling: all, then multiples of `step`, at least one."""
  return [size, *(n for n in range(size - 1, 0, -1) if n % step == 0)]
