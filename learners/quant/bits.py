"""Bits by layer: one table of choices, rows (kernel, bits, loss, cost), and what solves it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from secateurs.learners.run.one_each import one_each
from secateurs.learners.run.training.trials import Candidate

_MOST_4_BITS = 7


@dataclasses.dataclass(frozen=True)
class BitTable:
  """The choices of all kernels.

  Attributes:
    names: of the kernels.
    options: bits that a kernel may have, rising.
    losses: float [kernels, options], not rising with the bits.
    costs: float [kernels, options].
    budget: cost of all kernels that is allowed.
  """

  names: Sequence[str]
  options: Sequence[int]
  losses: np.ndarray
  costs: np.ndarray
  budget: float


def container(bits: int, symmetric: bool, holds_4_bits: bool) -> float:
  """Bits that TensorFlow Lite holds a weight of so many bits in.

  Args:
    bits: 2 to 16.
    symmetric: a grid that is not reaches twice as far from zero.
    holds_4_bits: whether the layer's operator reads weights of 4 bits.
  """
  farthest = 2 ** (bits - 1) - 1 if symmetric else 2**bits - 1
  return 4 if holds_4_bits and farthest <= _MOST_4_BITS else 8


def losses_of(
  curves: Mapping[str, Sequence[tuple[float, float]]], names: Sequence[str], options: Sequence[int]
) -> np.ndarray:
  """Losses [kernels, options] of curves with the points (1 - bits / 32, loss), fewer bits later.

  Args:
    curves: by kernel name; the first point is that of the kernel as it is, and is left out.
    names: of the kernels, the rows.
    options: numbers of bits in rising order, the columns.

  Raises:
    ValueError: the curves have another number of points.
  """
  table = []
  for name in names:
    values = np.maximum.accumulate([loss for _, loss in curves[name][1:]])
    table.append(values[::-1])  # Curves fall in bits, options rise.
  found = np.array(table)
  if found.shape != (len(names), len(options)):
    raise ValueError(f'Expected curves of {len(options)} points, but {found.shape} came.')
  return found


def solve(table: BitTable, factors: Mapping[str, float] | None = None) -> dict[str, int]:
  """Bits that make the sum of the losses least within the budget: a multiple-choice knapsack, exact.

  Args:
    table: the choices.
    factors: of the losses, by kernel name; default: one.

  Raises:
    ValueError: not even the cheapest choices meet the budget.
  """
  if table.costs.min(axis=1).sum() > table.budget:
    raise ValueError(
      f'At least {table.costs.min(axis=1).sum():.0f} is needed, but the budget is {table.budget:.0f}.'
    )
  weights = np.array([factors[name] if factors else 1.0 for name in table.names])
  losses = table.losses * weights[:, None]
  # Some bits gain nothing: of choices that lose equally, the cheapest is taken.
  chosen = one_each(losses, -table.costs, -table.budget, ties=table.costs)
  return {name: table.options[i] for name, i in zip(table.names, chosen, strict=True)}


def equal(table: BitTable) -> dict[str, int]:
  """The most bits that all kernels can have alike.

  Raises:
    ValueError: not even the fewest bits meet the budget.
  """
  fits = [i for i, cost in enumerate(table.costs.sum(axis=0)) if cost <= table.budget]
  if not fits:
    raise ValueError('Not even the fewest bits meet the budget.')
  return dict.fromkeys(table.names, table.options[max(fits)])


def propose(table: BitTable, factors: Mapping[str, float]) -> Candidate:
  """A candidate from factors of the losses; none: equal bits."""
  bits = solve(table, factors) if factors else equal(table)
  places = [list(table.options).index(bits[name]) for name in table.names]
  cost = table.costs[np.arange(len(places)), places].sum()
  return Candidate(bits, round(float(cost)))
