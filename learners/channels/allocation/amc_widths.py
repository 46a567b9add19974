"""Numbers of channels by the agent's best episode, for learners of inputs and of filters."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from secateurs.learners.channels.allocation import solvers
from secateurs.learners.channels.allocation.amc import Episode, Search, best_episode
from secateurs.learners.channels.allocation.amc_config import AmcConfig
from secateurs.learners.channels.allocation.choices import Choices
from secateurs.learners.channels.allocation.ranked import FilterSite, Ranked, refits_of
from secateurs.learners.channels.allocation.site import Site
from secateurs.learners.channels.criteria.ranking import best
from secateurs.learners.channels.cuts.cutting import RowMasks
from secateurs.learners.channels.cuts.units import Unit
from secateurs.learners.channels.state import WidthState
from secateurs.learners.run.console import say
from secateurs.learners.run.training.judging import Judge, judging_samples, judging_split
from secateurs.utils.graph.flat.walk import flatten_model

Reward = Callable[[Mapping[str, int]], float]


def least_by_agent(config: AmcConfig, units: Sequence[Unit]) -> dict[str, int]:
  """Channels that the agent leaves at least, by unit name."""
  return {unit.name: max(math.ceil(config.amc_least * unit.size), 1) for unit in units}


def allocate(
  config: AmcConfig,
  state: WidthState,
  choices: Choices,
  budget: float,
  reward: Reward,
  site: Site,
) -> None:
  """Searches, and leaves counts, the course of the rewards and a summary in the state.

  Args:
    config: the flags.
    state: what is known of widths.
    choices: the table, with what stays at least.
    budget: cost that may stay.
    reward: of numbers of channels.
    site: of the search, whose trials are episodes.
  """
  constants = config.amc_constants(len(choices.units))
  episodes = Search(
    choices,
    budget,
    config.amc_schedule,
    constants,
    reward,
    site.trials(),
    site.seed,
    say,
    site.save,
  ).run()
  winner = best_episode(episodes)
  equal = solvers.equal(choices, budget)
  state.counts, state.colony = winner.counts, _course(episodes)
  state.search = {
    'episodes': len(episodes),
    'best_episode': winner.number,
    'reward': winner.reward,
    'reward_equal_ratios': reward(equal),
    'macs': winner.cost,
    'counts': winner.counts,
    'split': judging_split(site.helper),
  }


def _course(episodes: Sequence[Episode]) -> dict[str, list[tuple[float, float]]]:
  rewards = np.array([episode.reward for episode in episodes])
  shares = np.arange(len(rewards)) / max(len(rewards) - 1, 1)
  window = np.array([rewards[max(i - 19, 0) : i + 1].mean() for i in range(len(rewards))])
  return {
    'best so far': list(zip(shares.tolist(), np.maximum.accumulate(rewards).tolist())),
    'mean of the last 20': list(zip(shares.tolist(), window.tolist())),
  }


def reward_of_filters(ranked: Ranked, site: FilterSite, nb_samples: int) -> Reward:
  """Goodness on held-out samples with the lowest keys gone.

  Layers that read channels are refit one by one where cuts are; other channels are masked.
  """
  working = site.original()
  layers = flatten_model(working).layers()
  refits, refit, rest = refits_of(ranked, site, working)
  if refits is not None:
    refits.remember()
  masks = RowMasks(working, ranked.graph.again(working), rest)
  weights = working.get_weights()
  judge = Judge(working, *judging_samples(site.helper, nb_samples), site.helper.task)

  def reward(counts: Mapping[str, int]) -> float:
    working.set_weights(weights)
    if refits is not None:
      refits.apply(layers, {unit.name: counts[unit.name] for unit in refit})
    masks.keep({u.name: best(ranked.keys[u.name], counts[u.name]) for u in rest})
    return judge.goodness()

  return reward
