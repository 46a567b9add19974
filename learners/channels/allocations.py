"""Allocations: how many channels stay in each layer."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from secateurs.learners.channels import solvers
from secateurs.learners.channels.choices import Choices
from secateurs.learners.channels.ratios import read_ratios
from secateurs.learners.channels.units import Unit
from secateurs.utils.registry import Registry


@dataclasses.dataclass(frozen=True)
class Request:
  """What an allocation is asked for.

  Attributes:
    units: what is allocated.
    width: number of channels that stay, from a unit's size and its ratio.
    ratio: one ratio for all units, as flags mean it (preserve or prune ratio).
    list_file: a file of such ratios.
    list_flag: the flag that named it.
    choices: the table, for allocations by budget.
    budget: cost that may stay.
    losses: by unit name, [size + 1], after so many channels have gone.
  """

  units: Sequence[Unit]
  width: Callable[[int, float], int]
  ratio: float
  list_file: str = ''
  list_flag: str = ''
  choices: Choices | None = None
  budget: float = 0.0
  losses: Mapping[str, np.ndarray] | None = None


@dataclasses.dataclass(frozen=True)
class Allocation:
  """An entry of ALLOCATIONS.

  Attributes:
    name: what flags call it.
    summary: how it decides.
    source: where it comes from.
    counts: from a request to channels that stay, by unit name.
    by_budget: whether it needs a budget, measured losses and the table.
  """

  name: str
  summary: str
  source: str
  counts: Callable[[Request], dict[str, int]]
  by_budget: bool = False


ALLOCATIONS: Registry[Allocation] = Registry('allocation')


def _uniform(request: Request) -> dict[str, int]:
  return {unit.name: request.width(unit.size, request.ratio) for unit in request.units}


def _listed(request: Request) -> dict[str, int]:
  ratios = read_ratios(request.list_file, request.units, request.list_flag)
  return {
    unit.name: request.width(unit.size, ratio)
    for unit, ratio in zip(request.units, ratios, strict=True)
  }


def _auto(request: Request) -> dict[str, int]:
  prices = request.choices.prices(request.losses)
  return solvers.by_price(request.choices, request.budget, prices)


for _entry in (
  Allocation('uniform', 'one ratio for all layers', '-', _uniform),
  Allocation('list', 'a ratio for each layer, from a file', '-', _listed),
  Allocation(
    'auto',
    'what loses least per MAC goes first, by divergence measured for each layer alone',
    'scans of Li et al. 2017, with divergence and refit',
    _auto,
    by_budget=True,
  ),
):
  ALLOCATIONS.add(_entry.name, _entry)
