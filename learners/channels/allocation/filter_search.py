"""The widths of filters that a bee colony finds (ABCPruner)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from secateurs.learners.channels.allocation import solvers
from secateurs.learners.channels.allocation.choices import Choices
from secateurs.learners.channels.allocation.colony import Colony, Found
from secateurs.learners.channels.allocation.ranked import FilterSite, Ranked
from secateurs.learners.channels.filter_config import FpConfig
from secateurs.learners.channels.state import WidthState
from secateurs.learners.run.console import say
from secateurs.learners.run.helper import Helper
from secateurs.learners.run.training.judging import judging_split
from secateurs.learners.run.training.trials import Candidate


def search(
  config: FpConfig,
  state: WidthState,
  choices: Choices,
  ranked: Ranked,
  site: FilterSite,
  budget: float,
) -> None:
  """Searches the fractions of channels that stay, and writes them into the state.

  Args:
    config: constants of the colony.
    state: gets fractions by unit, fitness over the cycles, and a summary.
    choices: widths and what they cost.
    ranked: the network.
    site: what judging candidates takes.
    budget: MACs that may stay; every candidate meets it.
  """
  names = [unit.name for unit in ranked.units]

  def propose(codes: Sequence[int]) -> Candidate:
    shares = {name: code / 10 for name, code in zip(names, codes, strict=True)}
    counts = solvers.by_shares(choices, budget, shares)
    return Candidate(counts, choices.cost(counts))

  colony = Colony(
    len(names),
    config.constants,
    propose,
    site.fitness(ranked),
    site.trials(),
    site.seed,
    say,
    site.save,
  )
  found = colony.run()
  state.shares = {name: code / 10 for name, code in zip(names, found.codes, strict=True)}
  state.colony = {
    'best so far': _over_cycles(found.best),
    'mean of the sources': _over_cycles(found.mean),
  }
  state.search = _summary(found, propose(found.codes), site.helper)


def _summary(found: Found, final: Candidate, helper: Helper) -> dict[str, Any]:
  return {
    'candidates': found.nb_judged,
    'fitness': found.fitness,
    'codes': found.codes,
    'macs': final.cost,
    'split': judging_split(helper),
  }


def _over_cycles(values: Sequence[float]) -> list[tuple[float, float]]:
  return [(i / max(len(values) - 1, 1), value) for i, value in enumerate(values)]
