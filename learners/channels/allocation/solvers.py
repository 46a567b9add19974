"""Solvers over the table of choices: numbers of channels that meet a budget.

All of them are an order in which steps down are taken, until the budget is met.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from secateurs.learners.channels.allocation.choices import Choices


def by_price(
  choices: Choices,
  budget: float,
  prices: Mapping[str, np.ndarray],
  factors: Mapping[str, float] | None = None,
) -> dict[str, int]:
  """Numbers of channels when channels go in the order of loss per cost until the budget is met.

  As many as still fit are put back, so that no channel more fits.

  Args:
    choices: the table.
    budget: cost that may stay.
    prices: what `Choices.prices` gives, [steps] by unit name.
    factors: of prices, by unit name; default: one.

  Returns:
    Channels that stay, by unit name.

  Raises:
    ValueError: not even the lowest levels meet the budget.
  """
  names = [unit.name for unit in choices.units]
  keys = np.concatenate([prices[name] * (factors[name] if factors else 1.0) for name in names])
  owners = np.repeat(np.arange(len(names)), [len(prices[name]) for name in names])
  return _first(choices, budget, owners[np.argsort(keys, kind='stable')])


def equal(choices: Choices, budget: float) -> dict[str, int]:
  """Numbers of channels when all units keep the same fraction, as far as that is possible.

  Raises:
    ValueError: not even the lowest levels meet the budget.
  """
  shares = np.concatenate([np.array(kept[1:]) / kept[0] for kept in choices.levels])
  owners = np.repeat(np.arange(len(choices.units)), [len(kept) - 1 for kept in choices.levels])
  return _first(choices, budget, owners[np.argsort(-shares, kind='stable')])


def by_shares(choices: Choices, budget: float, shares: Mapping[str, float]) -> dict[str, int]:
  """Numbers of channels when units keep fractions in the same proportions as some given ones.

  Args:
    choices: the table.
    budget: cost that may stay.
    shares: fraction of its channels that a unit keeps, by unit name; all are scaled by one factor, at
      most to 1 each.

  Raises:
    ValueError: not even the lowest levels meet the budget.
  """
  # The factor at which a unit has just the channels of the step's upper end.
  factors = [
    np.array(kept[:-1]) / (kept[0] * max(shares[unit.name], 1e-9))
    for unit, kept in zip(choices.units, choices.levels, strict=True)
  ]
  return _first(choices, budget, _falling(factors))


def by_keys(choices: Choices, budget: float, keys: Mapping[str, np.ndarray]) -> dict[str, int]:
  """Numbers of channels when those of the lowest keys in the network go until the budget is met.

  Args:
    choices: the table.
    budget: cost that may stay.
    keys: [unit.size] by unit name, see `ranking`.

  Raises:
    ValueError: not even the lowest levels meet the budget.
  """
  return _first(choices, budget, _by_keys(choices, keys))


def lowest(choices: Choices, number: int, keys: Mapping[str, np.ndarray]) -> dict[str, int]:
  """Numbers of channels when the `number` channels of the lowest keys in the network go.

  Fewer go where units are at their lowest levels, or levels are more than one channel apart.

  Args:
    choices: the table.
    number: of channels that go.
    keys: [unit.size] by unit name; the lowest go first.
  """
  places, gone = np.zeros(len(choices.units), int), 0
  for unit in _by_keys(choices, keys):
    kept = choices.levels[unit]
    step = kept[places[unit]] - kept[places[unit] + 1]
    if gone + step > number:
      break
    gone += step
    places[unit] += 1
  return choices.counts_at(places)


def by_losses(choices: Choices, budget: float, losses: Mapping[str, np.ndarray]) -> dict[str, int]:
  """Numbers of channels at an equal loss of every unit alone, as high as the budget asks for.

  Args:
    choices: the table.
    budget: cost that may stay.
    losses: by unit name, [size + 1], after so many channels have gone; they never fall.

  Raises:
    ValueError: not even the lowest levels meet the budget.
  """
  found = [
    losses[unit.name][unit.size - np.array(kept[1:])]
    for unit, kept in zip(choices.units, choices.levels, strict=True)
  ]
  owners = np.repeat(np.arange(len(found)), [len(one) for one in found])
  shares = np.concatenate([1 - np.array(kept[1:]) / kept[0] for kept in choices.levels])
  return _first(choices, budget, owners[np.lexsort((shares, np.concatenate(found)))])


def within_loss(choices: Choices, limit: float, losses: Mapping[str, np.ndarray]) -> dict[str, int]:
  """The least numbers of channels at which every unit alone loses at most `limit`.

  `losses`: by unit name, [size + 1], after so many channels have gone.
  """
  return {
    unit.name: min(n for n in kept if n == kept[0] or losses[unit.name][unit.size - n] <= limit)
    for unit, kept in zip(choices.units, choices.levels, strict=True)
  }


def _by_keys(choices: Choices, keys: Mapping[str, np.ndarray]) -> np.ndarray:
  """Units whose next step down is taken, in order: a step's key is the highest that goes with it."""
  found = []
  for unit, kept in zip(choices.units, choices.levels, strict=True):
    rising = np.sort(keys[unit.name])
    found.append(-rising[unit.size - np.array(kept[1:], int) - 1])
  return _falling(found)


def _falling(values: Sequence[np.ndarray]) -> np.ndarray:
  """Units in the order of the values of their steps, the greatest first."""
  owners = np.repeat(np.arange(len(values)), [len(one) for one in values])
  return owners[np.argsort(-np.concatenate([np.zeros(0), *values]), kind='stable')]


def _first(choices: Choices, budget: float, order: np.ndarray) -> dict[str, int]:
  """Takes steps down in this order until the budget is met, then takes back what still fits."""
  if choices.least() > budget:
    raise ValueError(f'At least {choices.least()} MACs stay, but {budget} were asked for.')

  def places(number: int) -> np.ndarray:
    return np.bincount(order[:number], minlength=len(choices.units))

  low, high = 0, len(order)
  while low < high:
    middle = (low + high) // 2
    if choices.cost_at(places(middle)) <= budget:
      high = middle
    else:
      low = middle + 1
  found = places(low)
  full = np.zeros(len(choices.units), bool)  # What does not fit now does not later either.
  for unit in order[:low][::-1]:
    if full[unit]:
      continue
    found[unit] -= 1
    if choices.cost_at(found) > budget:
      found[unit] += 1
      full[unit] = True
  return choices.counts_at(found)
