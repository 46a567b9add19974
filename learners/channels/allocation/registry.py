"""Allocations: how many channels stay in each layer."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from secateurs.learners.channels.allocation import solvers
from secateurs.learners.channels.allocation.choices import Choices
from secateurs.learners.channels.cuts.units import Unit
from secateurs.utils.registry import Registry


@dataclasses.dataclass(frozen=True)
class Request:
  """What an allocation is asked for.

  Attributes:
    units: what is allocated.
    width: number of channels that stay, from a unit's size and its ratio.
    ratio: one ratio for all units, as flags mean it (preserve or prune ratio).
    listed: channels that stay by a list, by unit name; called where they are needed.
    choices: the table, for all that works on a budget or across layers.
    budget: cost that may stay; None: what the ratio, the list or the loss leaves.
    losses: by unit name, [size + 1], after so many channels have gone.
    keys: by unit name, [size]: channels with the lowest keys go first.
    max_loss: what a unit may lose when it is pruned alone.
    shares: fractions that units keep, by unit name, that a search has found.
  """

  units: Sequence[Unit]
  width: Callable[[int, float], int]
  ratio: float
  listed: Callable[[], dict[str, int]] | None = None
  choices: Choices | None = None
  budget: float | None = None
  losses: Mapping[str, np.ndarray] | None = None
  keys: Mapping[str, np.ndarray] | None = None
  max_loss: float = 0.0
  shares: Mapping[str, float] | None = None


DIVERGENCE, SCORE, FITNESS, REWARD = 'divergence', 'score', 'fitness', 'reward'


@dataclasses.dataclass(frozen=True)
class Allocation:
  """An entry of ALLOCATIONS.

  Attributes:
    name: what flags call it.
    summary: how it decides.
    source: where it comes from.
    counts: from a request to channels that stay, by unit name.
    by_budget: whether it needs a budget.
    measures: what is measured before: the divergence or the score of each unit pruned alone, or the
      fitness or reward of candidates; empty for nothing.
  """

  name: str
  summary: str
  source: str
  counts: Callable[[Request], dict[str, int]]
  by_budget: bool = False
  measures: str = ''


ALLOCATIONS: Registry[Allocation] = Registry('allocation')


def scores_gone(keys: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
  """The sum of the scores that have gone with so many channels of each unit, [size + 1] by name."""
  return {name: np.append(0.0, np.cumsum(np.sort(values))) for name, values in keys.items()}


def _uniform(request: Request) -> dict[str, int]:
  if request.budget is not None:
    return solvers.equal(request.choices, request.budget)
  return {unit.name: request.width(unit.size, request.ratio) for unit in request.units}


def _listed(request: Request) -> dict[str, int]:
  counts = request.listed()
  if request.budget is None:
    return counts
  shares = {unit.name: counts[unit.name] / unit.size for unit in request.units}
  return solvers.by_shares(request.choices, request.budget, shares)


def _auto(request: Request) -> dict[str, int]:
  prices = request.choices.prices(request.losses)
  return solvers.by_price(request.choices, request.budget, prices)


def _global(request: Request) -> dict[str, int]:
  if request.budget is not None:
    return solvers.by_keys(request.choices, request.budget, request.keys)
  # As many go as the ratio asks of each layer.
  gone = sum(unit.size - request.width(unit.size, request.ratio) for unit in request.units)
  return solvers.lowest(request.choices, gone, request.keys)


def _per_mac(request: Request) -> dict[str, int]:
  prices = request.choices.prices(scores_gone(request.keys))
  return solvers.by_price(request.choices, request.budget, prices)


def _sensitivity(request: Request) -> dict[str, int]:
  if request.budget is not None:
    return solvers.by_losses(request.choices, request.budget, request.losses)
  return solvers.within_loss(request.choices, request.max_loss, request.losses)


def _colony(request: Request) -> dict[str, int]:
  return solvers.by_shares(request.choices, request.budget, request.shares)


def _agent(request: Request) -> dict[str, int]:
  """What the budget leaves of all layers alike, until the agent's episodes have been judged."""
  return solvers.equal(request.choices, request.budget)


for _entry in (
  Allocation('uniform', 'one ratio for all layers', '-', _uniform),
  Allocation('list', 'a ratio for each layer, from a file', '-', _listed),
  Allocation(
    'sensitivity',
    'each layer alone loses equally much of the score, measured at 10 to 90 %',
    'Li et al. 2017, figure 2',
    _sensitivity,
    measures=SCORE,
  ),
  Allocation(
    'global', 'the lowest scores of the whole network go first', 'Molchanov et al. 2017', _global
  ),
  Allocation(
    'per-mac',
    'the lowest scores for the multiply-adds that they save go first',
    'scores regularised by FLOPs of Molchanov et al. 2017',
    _per_mac,
    by_budget=True,
  ),
  Allocation(
    'auto',
    'what loses least per MAC goes first, by divergence measured for each layer alone',
    'scans of Li et al. 2017, with divergence and refit',
    _auto,
    by_budget=True,
    measures=DIVERGENCE,
  ),
  Allocation(
    'abc',
    'an artificial bee colony searches tenths of channels for each layer',
    'Lin et al. 2020 (ABCPruner)',
    _colony,
    by_budget=True,
    measures=FITNESS,
  ),
  Allocation(
    'amc',
    'an agent says how much of each layer stays, within a budget, and learns from the scores',
    'He et al. 2018 (AMC)',
    _agent,
    by_budget=True,
    measures=REWARD,
  ),
):
  ALLOCATIONS.add(_entry.name, _entry)
