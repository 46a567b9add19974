"""What flags ask of ranked units: ratios, floors, the budget, and the table of choices."""

from __future__ import annotations

import functools
import math

import numpy as np

from secateurs.learners.channels.allocation.choices import Choices
from secateurs.learners.channels.allocation.ranked import Ranked, exact_cost
from secateurs.learners.channels.allocation.ratios import nb_left, read_numbers, read_ratios
from secateurs.learners.channels.allocation.registry import ALLOCATIONS, REWARD, scores_gone
from secateurs.learners.channels.allocation.sensitivity import losses_of
from secateurs.learners.channels.criteria.hrank import hrank_counts
from secateurs.learners.channels.cuts.shortcuts import even
from secateurs.learners.channels.cuts.units import Unit
from secateurs.learners.channels.filter_config import FpConfig
from secateurs.learners.channels.state import WidthState


class FilterTable:
  """Widths and what they cost, for units of one ranking; laid out once, where it is needed."""

  def __init__(self, config: FpConfig, state: WidthState, ranked: Ranked) -> None:
    """`state`: what has been measured so far."""
    self.ranked = ranked
    self._config, self._state = config, state
    self._allocation = ALLOCATIONS.find(config.prune_option)

  @functools.cached_property
  def total(self) -> int:
    """MACs of the whole network."""
    return self.ranked.graph.counts().macs

  @functools.cached_property
  def choices(self) -> Choices:
    """Numbers of channels that units may keep, and their MACs."""
    ranked = self.ranked
    groups = [ranked.graph.groups[unit.key] for unit in ranked.units if isinstance(unit.key, int)]
    cost = None if all(map(even, groups)) else exact_cost(ranked)
    return Choices(ranked.graph, ranked.units, self._config.step, cost, self.least)

  @functools.cached_property
  def least(self) -> dict[str, int]:
    """Channels that stay at least, by unit name."""
    share = self._config.floor
    if self._allocation.measures == REWARD:
      share = max(share, self._config.amc_least)
    return {
      unit.name: max(math.ceil(share * unit.size), self.must(unit)) for unit in self.ranked.units
    }

  def must(self, unit: Unit) -> int:
    """Channels of a unit that cannot go, at least one."""
    return max(int(self.ranked.stays[unit.name].sum()), 1)

  def width(self, size: int, ratio: float) -> int:
    """Channels that stay of `size` when a fraction goes."""
    return nb_left(size, ratio, self._config.quadruple)

  def listed(self) -> dict[str, int]:
    """Channels that stay by a list, by unit name.

    Raises:
      UserError: the list does not fit the units.
    """
    config, ranked = self._config, self.ranked
    path, flag = config.prune_list_file, f'{config.prefix}prune_list_file'
    if config.list_layout != 'units':
      rates = read_numbers(path, flag)
      source = f'--{flag} {path}'
      return hrank_counts(ranked.graph, ranked.units, rates, config.list_layout, source)
    ratios = read_ratios(path, ranked.units, flag, 'filters')
    return {
      unit.name: self.width(unit.size, ratio)
      for unit, ratio in zip(ranked.units, ratios, strict=True)
    }

  def measured_losses(self) -> dict[str, np.ndarray] | None:
    """What units lose as a scan has measured it, [size + 1] by unit name; None before one."""
    curves = self._state.drops or self._state.divergence
    return None if curves is None else losses_of(curves, self.ranked.units)

  def losses(self) -> dict[str, np.ndarray]:
    """What units lose: as measured, else the scores of the channels that go."""
    measured = self.measured_losses()
    return scores_gone(self.ranked.keys) if measured is None else measured

  def budget(self) -> float | None:
    """MACs that may stay; None where ratios alone decide.

    Raises:
      UserError: it is out of reach.
    """
    config = self._config
    if self._state.latency is not None:
      return self._state.latency['fraction'] * self.total
    if config.preserve_ratio is None and not self._allocation.by_budget:
      return None
    choices, prefix = self.choices, config.prefix
    remedy = f'--{prefix}trunk or a lower --{prefix}floor'
    if self._allocation.measures == REWARD:
      remedy += f' and --{prefix}amc_least'
    if config.preserve_ratio is not None:
      budget = config.preserve_ratio * self.total
      choices.check(budget, self.total, f'--{prefix}preserve_ratio', remedy)
      return budget
    counts = {
      unit.name: max(self.width(unit.size, config.prune_ratio), self.must(unit))
      for unit in self.ranked.units
    }
    budget = choices.cost(counts)
    flag = f'--{prefix}prune_ratio {config.prune_ratio:g}'
    choices.check(budget, self.total, flag, remedy, 'lower')
    return budget
