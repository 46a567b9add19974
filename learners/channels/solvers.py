"""Solvers over the table of choices: numbers of channels that meet a budget."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from secateurs.learners.channels.choices import Choices


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
    prices: what `Choices.prices` gives.
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
