"""How many channels of each unit stay: by ratios, by a budget of MACs, or by a target in latency."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from secateurs.learners.channels.allocation import solvers
from secateurs.learners.channels.allocation.amc_config import AMC
from secateurs.learners.channels.allocation.choices import Choices
from secateurs.learners.channels.allocation.latency import LITTLE, fraction_of_time
from secateurs.learners.channels.allocation.ratios import read_ratios
from secateurs.learners.channels.allocation.registry import ALLOCATIONS, Request
from secateurs.learners.channels.allocation.width_site import WidthSite
from secateurs.learners.channels.configs import WidthConfig
from secateurs.learners.channels.cuts.cutting import first_channels
from secateurs.learners.channels.cuts.units import Unit
from secateurs.learners.channels.state import WidthState
from secateurs.utils.graph import ChannelGraph


class Widths:
  """The widths of a network; what is found is left in the state.

  Attributes:
    config, state, site, ratio: as they were given.
  """

  def __init__(
    self,
    config: WidthConfig,
    state: WidthState,
    site: WidthSite,
    *,
    width: Callable[[int, float], int],
    ratio: float,
    budget: float | None,
  ) -> None:
    """Keeps what it is given.

    Args:
      config: the learner's flags.
      state: what is known already, of an earlier process.
      site: the network.
      width: channels that stay, from a unit's size and a ratio as the flags mean it.
      ratio: the ratio for all units.
      budget: fraction of all MACs that may stay, for allocations by budget; None: what `ratio`
        leaves.
    """
    self.config, self.state, self.site = config, state, site
    self.ratio = ratio
    self._width, self._budget = width, budget

  @property
  def by_table(self) -> bool:
    """Whether a table of latencies decides."""
    return self.config.latency_table is not None

  @property
  def by_budget(self) -> bool:
    """Whether the allocation needs a budget and measured losses."""
    return self.config.measures

  @property
  def by_memory(self) -> bool:
    """Whether the peak of activations decides."""
    return self.config.target_ram is not None

  def counts(self, units: Sequence[Unit]) -> dict[str, int]:
    """Channels that stay, by unit name; what is measured must have been allocated before.

    Raises:
      UserError: a list of ratios does not fit the units, or the budget is out of reach.
    """
    alike = not self.by_budget and self.config.preserve_ratio is not None
    if alike and self.state.counts is None:
      self._allocate_alike()
    if alike or self.by_budget:
      return self.state.counts
    ratio = self.ratio
    if self.state.latency is not None:
      ratio = self.state.latency['fraction']
    counts = ALLOCATIONS.find(self.config.prune_option).counts(self.request(units, ratio))
    return {unit.name: unit.rule.count(unit.size, counts[unit.name]) for unit in units}

  def _allocate_alike(self) -> None:
    """One fraction for all units, as far as channels allow, that meets the budget of MACs."""
    graph = self.site.graph(self.site.original())
    choices, total = Choices(graph, self.site.units(graph), self.config.step), graph.counts().macs
    budget = self.budget(choices, total)
    self.state.counts, self.state.macs_ratio = solvers.equal(choices, budget), budget / total

  def request(self, units: Sequence[Unit], ratio: float) -> Request:
    """What an allocation by ratios is asked."""
    return Request(units, self._width, ratio, lambda: self._listed(units))

  def _listed(self, units: Sequence[Unit]) -> dict[str, int]:
    config = self.config
    ratios = read_ratios(config.prune_list_file or '', units, f'{config.prefix}prune_list_file')
    return {
      unit.name: self._width(unit.size, ratio) for unit, ratio in zip(units, ratios, strict=True)
    }

  # A target in latency.

  def meet_latency(self) -> None:
    """Finds the ratio, or for auto the fraction of MACs with equal ratios, that is as fast."""
    graph = self.site.graph(self.site.original())
    units = self.site.units(graph)
    choices, total = Choices(graph, units, self.config.step), graph.counts().macs

    def counts(fraction: float) -> dict[str, int]:
      if self.by_budget:
        return solvers.equal(choices, fraction * total)
      return ALLOCATIONS['uniform'].counts(self.request(units, fraction))

    least = choices.least() / total + LITTLE if self.by_budget else LITTLE
    self.state.latency = self.fraction_of_time(graph, units, counts, least)

  def fraction_of_time(
    self,
    graph: ChannelGraph,
    units: Sequence[Unit],
    counts: Callable[[float], dict[str, int]],
    least: float,
  ) -> dict[str, float]:
    """The fraction at which networks of these numbers of channels have the latency asked for."""
    masks_of = first_channels(units)
    return fraction_of_time(
      self.config,
      graph,
      units,
      lambda fraction: masks_of(counts(fraction)),
      self.site.original_tflite,
      least=least,
      nb_threads=self.site.nb_threads,
    )

  def budget(self, choices: Choices, total: int) -> float:
    """MACs that may stay, of `total`.

    Raises:
      UserError: the budget is out of reach.
    """
    prefix = self.config.prefix
    if self.state.latency is not None:
      return self.state.latency['fraction'] * total
    remedy = f'--{prefix}trunk'
    if self.config.prune_option == AMC:
      remedy += f' or a lower --{prefix}amc_least'
    if self._budget is None:
      counts = ALLOCATIONS['uniform'].counts(self.request(choices.units, self.ratio))
      budget = choices.cost(counts)
      choices.check(budget, total, f'--{prefix}prune_ratio {self.ratio:g}', remedy, 'lower')
      return budget
    budget = self._budget * total
    choices.check(budget, total, f'--{prefix}preserve_ratio', remedy)
    return budget
