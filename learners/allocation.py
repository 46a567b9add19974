"""Numbers of channels per layer that meet a budget of MACs.

What each layer loses at every number of channels is given. Channels go in the order of loss per MAC
until the budget is met, and as many as still fit are put back: so the numbers found have at most the
budget's MACs, and no channel more fits. A factor for each layer's loss makes other candidates.
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

  def __init__(
    self,
    graph: ChannelGraph,
    units: Sequence[Unit],
    losses: Mapping[str, np.ndarray],
    step: int = 1,
  ) -> None:
    """`losses`: by unit name, [size + 1], after so many channels have gone; `step`: widths."""
    self.graph, self.units = graph, list(units)
    self.levels = [levels(unit.size, step) for unit in units]
    self._sizes = np.array([unit.size for unit in units])
    self._macs_without = macs_form(graph, units)
    none = np.zeros(len(units), int)
    total = self._macs_without(none)
    self.rises = []
    for i, unit in enumerate(units):
      cost = max(total - self._macs_without(none + (np.arange(len(units)) == i)), 1)
      values = losses[unit.name][unit.size - np.array(self.levels[i])]
      channels = -np.diff(self.levels[i])
      self.rises.append(np.maximum.accumulate(np.diff(values) / (channels * cost)))

  def macs(self, places: Sequence[int]) -> int:
    """MACs when unit i stands at level `places[i]`."""
    counts = [levels[place] for levels, place in zip(self.levels, places, strict=True)]
    return self._macs_without(self._sizes - counts)

  def least(self) -> int:
    """MACs when every unit stands at its lowest level."""
    return self.macs([len(levels) - 1 for levels in self.levels])

  def check(self, budget: float, total: int, flag: str, remedy: str) -> None:
    """Tells a user whose budget is out of reach.

    Raises:
      UserError: not even the lowest levels meet it.
    """
    if self.least() > budget:
      raise UserError(
        f'{flag} asks for {budget / total:.4f} of the MACs, but at least {self.least() / total:.4f} '
        f'stay whatever is pruned: raise it, or prune more with {remedy}.'
      )

  def within(self, budget: float, factors: Sequence[float]) -> dict[str, int]:
    """The numbers of channels, by unit name, that go by loss per MAC until the budget is met.

    Raises:
      ValueError: not even the lowest levels meet it.
    """
    keys = np.concatenate([rises * f for rises, f in zip(self.rises, factors, strict=True)])
    owners = np.repeat(np.arange(len(self.units)), [len(rises) for rises in self.rises])
    return self._first(budget, owners[np.argsort(keys, kind='stable')])

  def candidate(self, budget: float, factors: Mapping[str, float]) -> Candidate:
    """What `within` gives for factors by unit name; without factors, what `equal` gives."""
    counts = (
      self.within(budget, [factors[unit.name] for unit in self.units])
      if factors
      else self.equal(budget)
    )
    gone = [unit.size - counts[unit.name] for unit in self.units]
    return Candidate(counts, self._macs_without(gone))

  def equal(self, budget: float) -> dict[str, int]:
    """The numbers of channels when all units keep the same share, as far as that is possible."""
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
      if self.macs(places(middle)) <= budget:
        high = middle
      else:
        low = middle + 1
    found = places(low)
    full = np.zeros(len(self.units), bool)  # What does not fit now does not later either.
    for unit in order[:low][::-1]:
      if full[unit]:
        continue
      found[unit] -= 1
      if self.macs(found) > budget:
        found[unit] += 1
        full[unit] = True
    return {
      unit.name: kept[place]
      for unit, kept, place in zip(self.units, self.levels, found, strict=True)
    }


def levels(size: int, step: int) -> list[int]:
  """Numbers of channels that may stay, falling: all, then multiples of `step`, at least one."""
  return [size, *(n for n in range(size - 1, 0, -1) if n % step == 0)]
