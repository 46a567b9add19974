"""How many channels of each unit stay, where units are judged by scores of what layers make."""

from __future__ import annotations

import math

import numpy as np

from secateurs.learners.channels.allocation import (
  amc_widths,
  filter_search,
  ram,
  solvers,
  timed,
)
from secateurs.learners.channels.allocation.choices import Choices
from secateurs.learners.channels.allocation.filter_scan import scan, sensitivity
from secateurs.learners.channels.allocation.latency import LITTLE, fraction_of_time
from secateurs.learners.channels.allocation.ranked import Ranked, Site, exact_cost
from secateurs.learners.channels.allocation.ratios import nb_left, read_numbers, read_ratios
from secateurs.learners.channels.allocation.registry import (
  ALLOCATIONS,
  DIVERGENCE,
  FITNESS,
  REWARD,
  SCORE,
  Request,
  scores_gone,
)
from secateurs.learners.channels.allocation.sensitivity import losses_of
from secateurs.learners.channels.criteria.hrank import hrank_counts
from secateurs.learners.channels.cuts.shortcuts import even
from secateurs.learners.channels.cuts.units import Unit
from secateurs.learners.channels.filter_config import FpConfig
from secateurs.learners.channels.state import WidthState


class FilterWidths:
  """Allocates widths by `FpConfig`; what is measured is left in the state."""

  def __init__(self, config: FpConfig, state: WidthState) -> None:
    self._config, self._state = config, state
    self._allocation = ALLOCATIONS.find(config.prune_option)

  @property
  def measures(self) -> bool:
    """Whether something must be measured before widths are known."""
    targets = self._config.target_latency, self._config.target_ram
    return bool(self._allocation.measures) or targets != (None, None)

  def check(self, ranked: Ranked) -> None:
    """Checks list and budget, whatever the channels' keys are.

    Raises:
      UserError: a list does not fit the units, or the budget is out of reach.
    """
    if not self.measures:
      self.counts(ranked)
    elif self._config.target_latency is None and self._config.target_ram is None:
      self._budget(ranked)

  # What is measured once, on the original network.

  def measure(self, ranked: Ranked, site: Site) -> None:
    """Scans, searches and times what the allocation needs.

    Raises:
      UserError: the budget is out of reach.
    """
    config, state, measures = self._config, self._state, self._allocation.measures
    if measures == SCORE and state.drops is None:
      further = [ranked.graph.again(network) for network in site.networks()[1:]]
      nb_samples = config.nb_smpls_reward
      state.drops, _ = sensitivity(
        ranked.graph, ranked.units, ranked.keys, site.helper, nb_samples, further
      )
      site.save()
    if measures == DIVERGENCE and state.divergence is None:
      state.divergence = scan(ranked, site)
      site.save()
    if config.target_ram is not None:
      if state.counts is None:
        self._allocate_memory(ranked)
      return
    by_table = config.latency_table is not None
    if config.target_latency is not None and state.latency is None and not by_table:
      state.latency = self._fraction_of_time(ranked, site)
    if config.latency_table is not None:
      if state.counts is None:
        state.counts, state.latency = timed.allocate(
          timed.asked_by(config, site.original_tflite, site.nb_threads),
          ranked.graph,
          ranked.units,
          self._losses(ranked),
          ranked.masks,
          self._least(ranked),
        )
        state.macs_ratio = state.latency['fraction']
      return
    budget, total = self._budget(ranked), ranked.graph.counts().macs
    state.macs_ratio = None if budget is None else budget / total
    if measures == REWARD and state.counts is None:
      amc_widths.allocate(
        config,
        state,
        self._choices(ranked),
        budget,
        amc_widths.reward_of_filters(ranked, site, config.nb_smpls_reward),
        site.candidates(),
        site.seed,
        site.helper,
        site.save,
      )
    if measures == FITNESS and state.shares is None:
      filter_search.search(config, state, self._choices(ranked), ranked, site, budget)
      if config.target_latency is not None:  # Other widths of equal MACs are not quite as fast.
        state.latency = self._fraction_of_time(ranked, site)
        state.macs_ratio = state.latency['fraction']

  def _allocate_memory(self, ranked: Ranked) -> None:
    config, state = self._config, self._state
    state.counts, state.ram = ram.allocate(
      ram.Asked(config.target_ram, config.prefix),
      ranked.graph,
      ranked.units,
      self._losses(ranked),
      ranked.masks,
      step=config.step,
      least=self._least(ranked),
    )
    state.macs_ratio = state.ram['fraction']

  def counts(self, ranked: Ranked, done: float = 1.0) -> dict[str, int]:
    """Channels that stay, by unit name, after a fraction of all cuts in (0, 1].

    Raises:
      UserError: a list does not fit the units, or the budget is out of reach.
    """
    if self._state.counts is not None:  # By a table of latencies, or an agent.
      return _partly(ranked, self._state.counts, done)
    budget, ratio = self._budget(ranked), self._config.prune_ratio
    if self._allocation.name in ('global', 'per-mac'):  # By the scores of this moment.
      total = ranked.graph.counts().macs
      part = None if budget is None else total - done * (total - budget)
      return self._counts(ranked, part, ratio * done)
    return _partly(ranked, self._counts(ranked, budget, ratio), done)

  def _counts(self, ranked: Ranked, budget: float | None, ratio: float) -> dict[str, int]:
    state, config = self._state, self._config
    losses = None
    if state.drops is not None or state.divergence is not None:
      losses = losses_of(state.drops or state.divergence, ranked.units)
    request = Request(
      ranked.units,
      self._width,
      ratio,
      lambda: self._listed(ranked),
      self._choices(ranked),
      budget,
      losses,
      ranked.keys,
      config.max_drop,
      state.shares,
    )
    if self._allocation.measures == FITNESS and state.shares is None:
      found = solvers.equal(request.choices, budget)
    else:
      found = self._allocation.counts(request)
    return {
      unit.name: max(unit.rule.count(unit.size, found[unit.name]), self._must(ranked, unit))
      for unit in ranked.units
    }

  def _losses(self, ranked: Ranked) -> dict[str, np.ndarray]:
    """What units lose: as measured, else the scores of the channels that go."""
    state = self._state
    if state.drops is not None or state.divergence is not None:
      return losses_of(state.drops or state.divergence, ranked.units)
    return scores_gone({unit.name: ranked.keys[unit.name] for unit in ranked.units})

  def _width(self, size: int, ratio: float) -> int:
    return nb_left(size, ratio, self._config.quadruple)

  def _listed(self, ranked: Ranked) -> dict[str, int]:
    config = self._config
    path, flag = config.prune_list_file, f'{config.prefix}prune_list_file'
    if config.list_layout != 'units':
      rates = read_numbers(path, flag)
      source = f'--{flag} {path}'
      return hrank_counts(ranked.graph, ranked.units, rates, config.list_layout, source)
    ratios = read_ratios(path, ranked.units, flag, 'filters')
    return {
      unit.name: self._width(unit.size, ratio)
      for unit, ratio in zip(ranked.units, ratios, strict=True)
    }

  def _must(self, ranked: Ranked, unit: Unit) -> int:
    return max(int(ranked.stays[unit.name].sum()), 1)

  def _choices(self, ranked: Ranked) -> Choices:
    least = self._least(ranked)
    groups = [ranked.graph.groups[unit.key] for unit in ranked.units if isinstance(unit.key, int)]
    cost = 'macs' if all(map(even, groups)) else exact_cost(ranked)
    return Choices(ranked.graph, ranked.units, self._config.step, cost, least)

  def _least(self, ranked: Ranked) -> dict[str, int]:
    share = self._config.floor
    if self._allocation.measures == REWARD:
      share = max(share, self._config.amc_least)
    return {
      unit.name: max(math.ceil(share * unit.size), self._must(ranked, unit))
      for unit in ranked.units
    }

  # Budgets.

  def _budget(self, ranked: Ranked) -> float | None:
    """MACs that may stay; None where ratios alone decide."""
    config, total = self._config, ranked.graph.counts().macs
    if self._state.latency is not None:
      return self._state.latency['fraction'] * total
    if config.preserve_ratio is None and not self._allocation.by_budget:
      return None
    choices, prefix = self._choices(ranked), config.prefix
    remedy = f'--{prefix}trunk or a lower --{prefix}floor'
    if self._allocation.measures == REWARD:
      remedy += f' and --{prefix}amc_least'
    if config.preserve_ratio is not None:
      budget = config.preserve_ratio * total
      choices.check(budget, total, f'--{prefix}preserve_ratio', remedy)
      return budget
    counts = {
      unit.name: max(self._width(unit.size, config.prune_ratio), self._must(ranked, unit))
      for unit in ranked.units
    }
    budget = choices.cost(counts)
    flag = f'--{prefix}prune_ratio {config.prune_ratio:g}'
    choices.check(budget, total, flag, remedy, 'lower')
    return budget

  def _fraction_of_time(self, ranked: Ranked, site: Site) -> dict[str, float]:
    choices, total = self._choices(ranked), ranked.graph.counts().macs

    return fraction_of_time(
      self._config,
      ranked.graph,
      ranked.units,
      lambda fraction: ranked.masks(
        self._counts(ranked, fraction * total, self._config.prune_ratio)
      ),
      site.original_tflite,
      least=choices.least() / total + LITTLE,
      nb_threads=site.nb_threads,
    )


def _partly(ranked: Ranked, final: dict[str, int], done: float) -> dict[str, int]:
  """Channels that stay after a fraction of all cuts, of those that do in the end."""
  return {
    unit.name: unit.size - int(done * (unit.size - final[unit.name])) for unit in ranked.units
  }
