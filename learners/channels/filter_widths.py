"""How many channels of each unit stay, where units are judged by scores of what layers make."""

from __future__ import annotations

from secateurs.learners.channels.allocation import (
  amc_widths,
  filter_search,
  ram,
  solvers,
  timed,
)
from secateurs.learners.channels.allocation.filter_scan import scan, sensitivity
from secateurs.learners.channels.allocation.latency import LITTLE, fraction_of_time
from secateurs.learners.channels.allocation.ranked import FilterSite, Ranked
from secateurs.learners.channels.allocation.registry import (
  ALLOCATIONS,
  DIVERGENCE,
  FITNESS,
  REWARD,
  SCORE,
  Request,
)
from secateurs.learners.channels.filter_config import FpConfig
from secateurs.learners.channels.filter_table import FilterTable
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
      self._table(ranked).budget()

  # What is measured once, on the original network.

  def measure(self, ranked: Ranked, site: FilterSite) -> None:
    """Scans, searches and times what the allocation needs.

    Raises:
      UserError: the budget is out of reach.
    """
    config, state, measures = self._config, self._state, self._allocation.measures
    table = self._table(ranked)
    self._scan(ranked, site)
    if config.target_ram is not None:
      if state.counts is None:
        self._allocate_memory(table)
      return
    if config.latency_table is not None:
      if state.counts is None:
        self._allocate_time(table, site)
      return
    if config.target_latency is not None and state.latency is None:
      state.latency = self._fraction_of_time(table, site)
    budget = table.budget()
    state.macs_ratio = None if budget is None else budget / table.total
    if measures == REWARD and state.counts is None:
      amc_widths.allocate(
        config,
        state,
        table.choices,
        budget,
        amc_widths.reward_of_filters(ranked, site, config.nb_smpls_reward),
        site,
      )
    if measures == FITNESS and state.shares is None:
      filter_search.search(config, state, table.choices, ranked, site, budget)
      if config.target_latency is not None:  # Other widths of equal MACs are not quite as fast.
        state.latency = self._fraction_of_time(table, site)
        state.macs_ratio = state.latency['fraction']

  def _scan(self, ranked: Ranked, site: FilterSite) -> None:
    """Measures what each unit alone loses, where the allocation needs it and has not got it."""
    state, measures = self._state, self._allocation.measures
    if measures == SCORE and state.drops is None:
      further = [ranked.graph.again(network) for network in site.networks()[1:]]
      nb_samples = self._config.nb_smpls_reward
      state.drops, _ = sensitivity(
        ranked.graph, ranked.units, ranked.keys, site.helper, nb_samples, further
      )
      site.save()
    if measures == DIVERGENCE and state.divergence is None:
      state.divergence = scan(ranked, site)
      site.save()

  def _allocate_memory(self, table: FilterTable) -> None:
    config, state, ranked = self._config, self._state, table.ranked
    state.counts, state.ram = ram.allocate(
      ram.Asked(config.target_ram, config.prefix),
      ranked.graph,
      ranked.units,
      table.losses(),
      ranked.masks,
      step=config.step,
      least=table.least,
    )
    state.macs_ratio = state.ram['fraction']

  def _allocate_time(self, table: FilterTable, site: FilterSite) -> None:
    state, ranked = self._state, table.ranked
    state.counts, state.latency = timed.allocate(
      timed.asked_by(self._config, site.original_tflite, site.nb_threads),
      ranked.graph,
      ranked.units,
      table.losses(),
      ranked.masks,
      table.least,
    )
    state.macs_ratio = state.latency['fraction']

  def counts(self, ranked: Ranked, done: float = 1.0) -> dict[str, int]:
    """Channels that stay, by unit name, after a fraction of all cuts in (0, 1].

    Raises:
      UserError: a list does not fit the units, or the budget is out of reach.
    """
    if self._state.counts is not None:  # By a table of latencies, or an agent.
      return _partly(ranked, self._state.counts, done)
    table, ratio = self._table(ranked), self._config.prune_ratio
    budget = table.budget()
    if self._allocation.name in ('global', 'per-mac'):  # By the scores of this moment.
      part = None if budget is None else table.total - done * (table.total - budget)
      return self._counts(table, part, ratio * done)
    return _partly(ranked, self._counts(table, budget, ratio), done)

  def _table(self, ranked: Ranked) -> FilterTable:
    return FilterTable(self._config, self._state, ranked)

  def _counts(self, table: FilterTable, budget: float | None, ratio: float) -> dict[str, int]:
    state, ranked = self._state, table.ranked
    request = Request(
      ranked.units,
      table.width,
      ratio,
      table.listed,
      table.choices,
      budget,
      table.measured_losses(),
      ranked.keys,
      self._config.max_drop,
      state.shares,
    )
    if self._allocation.measures == FITNESS and state.shares is None:
      found = solvers.equal(request.choices, budget)
    else:
      found = self._allocation.counts(request)
    return {
      unit.name: max(unit.rule.count(unit.size, found[unit.name]), table.must(unit))
      for unit in ranked.units
    }

  def _fraction_of_time(self, table: FilterTable, site: FilterSite) -> dict[str, float]:
    ranked = table.ranked
    return fraction_of_time(
      self._config,
      ranked.graph,
      ranked.units,
      lambda fraction: ranked.masks(
        self._counts(table, fraction * table.total, self._config.prune_ratio)
      ),
      site.original_tflite,
      least=table.choices.least() / table.total + LITTLE,
      nb_threads=site.nb_threads,
    )


def _partly(ranked: Ranked, final: dict[str, int], done: float) -> dict[str, int]:
  """Channels that stay after a fraction of all cuts, of those that do in the end."""
  return {
    unit.name: unit.size - int(done * (unit.size - final[unit.name])) for unit in ranked.units
  }
