"""How many channels of each unit stay: by ratios, by a budget of MACs, or by a target in latency."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import tf_keras as keras

from secateurs.learners.channels.allocation import amc_widths, ram, solvers, timed
from secateurs.learners.channels.allocation.amc_config import AMC
from secateurs.learners.channels.allocation.choices import Choices
from secateurs.learners.channels.allocation.latency import share_for
from secateurs.learners.channels.allocation.ratios import read_ratios
from secateurs.learners.channels.allocation.registry import ALLOCATIONS, Request
from secateurs.learners.channels.allocation.reward import Reward
from secateurs.learners.channels.allocation.search import WidthSearch, summary
from secateurs.learners.channels.allocation.sensitivity import losses_of, say_curve, unit_parts
from secateurs.learners.channels.configs import WidthConfig
from secateurs.learners.channels.cuts.cutting import plan_of
from secateurs.learners.channels.cuts.even_splits import even_masks
from secateurs.learners.channels.cuts.units import Unit
from secateurs.learners.channels.repair.method import Method
from secateurs.learners.channels.repair.reconstruct import statistics
from secateurs.learners.channels.repair.refits import LayerRefits
from secateurs.learners.channels.state import WidthState
from secateurs.learners.run.helper import Helper
from secateurs.learners.run.training import divergence
from secateurs.learners.run.training.judging import Judge, judging_samples, judging_split
from secateurs.utils.graph import ChannelGraph, apply_plan

_LITTLE = 1e-6


@dataclasses.dataclass(frozen=True)
class Site:
  """The network whose widths are allocated, and what measuring it takes.

  Attributes:
    helper: data and task.
    original: makes the network before compression, float32.
    graph: the channel graph of such a network.
    units: what may be pruned, from a channel graph.
    samples: gives (inputs, targets) that layers are refit over.
    method: how channels are chosen and weights refit, from the graph, the units and the samples.
    original_tflite: its file, for latencies.
    nb_threads: of the timing.
    seed: of the search.
    trials: the file of the search.
    save: writes a checkpoint in the middle of it.
    jobs: candidates of a search that are judged at the same time.
  """

  helper: Helper
  original: Callable[[], keras.Model]
  graph: Callable[[keras.Model], ChannelGraph]
  units: Callable[[ChannelGraph], Sequence[Unit]]
  samples: Callable[[], list[tuple]]
  method: Callable[[ChannelGraph, Sequence[Unit], Sequence[tuple]], Method]
  original_tflite: Path
  nb_threads: int
  seed: int
  trials: Callable[[], Path]
  save: Callable[[], None]
  jobs: int = 1


class Widths:
  """Allocates the widths of a network; what it finds is left in the state."""

  def __init__(
    self,
    config: WidthConfig,
    state: WidthState,
    site: Site,
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
    self._config, self._state, self._site = config, state, site
    self._width, self._ratio, self._budget = width, ratio, budget

  @property
  def by_table(self) -> bool:
    """Whether a table of latencies decides."""
    return self._config.latency_table is not None

  @property
  def by_budget(self) -> bool:
    """Whether the allocation needs a budget and measured losses."""
    allocates = ALLOCATIONS.find(self._config.prune_option).by_budget
    return self.by_table or self.by_memory or allocates

  @property
  def by_memory(self) -> bool:
    """Whether the peak of activations decides."""
    return self._config.target_ram is not None

  def counts(self, units: Sequence[Unit]) -> dict[str, int]:
    """Channels that stay, by unit name; budgets and latencies must have been allocated before.

    Raises:
      UserError: a list of ratios does not fit the units.
    """
    if self.by_budget:
      return self._state.counts
    ratio = self._ratio
    if self._state.latency is not None:
      ratio = self._state.latency['fraction']
    counts = ALLOCATIONS.find(self._config.prune_option).counts(self._request(units, ratio))
    return {unit.name: unit.rule.count(unit.size, counts[unit.name]) for unit in units}

  def _request(self, units: Sequence[Unit], ratio: float) -> Request:
    return Request(units, self._width, ratio, lambda: self._listed(units))

  def _listed(self, units: Sequence[Unit]) -> dict[str, int]:
    config = self._config
    ratios = read_ratios(config.prune_list_file or '', units, f'{config.prefix}prune_list_file')
    return {
      unit.name: self._width(unit.size, ratio) for unit, ratio in zip(units, ratios, strict=True)
    }

  # A target in latency.

  def meet_latency(self) -> None:
    """Finds the ratio, or for auto the fraction of MACs with equal ratios, that is as fast."""
    graph = self._site.graph(self._site.original())
    units = self._site.units(graph)
    choices, total = Choices(graph, units, self._config.step), graph.counts().macs

    def counts(fraction: float) -> dict[str, int]:
      if self.by_budget:
        return solvers.equal(choices, fraction * total)
      return ALLOCATIONS['uniform'].counts(self._request(units, fraction))

    least = choices.least() / total + _LITTLE if self.by_budget else _LITTLE
    self._state.latency = self._fraction_of_time(graph, units, counts, least)

  def _fraction_of_time(
    self,
    graph: ChannelGraph,
    units: Sequence[Unit],
    counts: Callable[[float], dict[str, int]],
    least: float,
  ) -> dict[str, float]:
    """The fraction at which networks of these numbers of channels have the latency asked for."""

    def build(fraction: float) -> keras.Model:
      found = counts(fraction)
      masks = [np.arange(unit.size) < found[unit.name] for unit in units]
      masks = even_masks(graph, units, masks, even=self._config.even_splits)
      return apply_plan(plan_of(graph, units, masks))

    fraction, measured = share_for(
      self._config.target_latency,
      build,
      self._site.original_tflite,
      least=least,
      nb_threads=self._site.nb_threads,
      prefix=self._config.prefix,
    )
    return {'fraction': fraction, 'measured': measured}

  # A budget of MACs.

  def allocate(self) -> None:
    """Measures what each unit loses when it is pruned alone, and allocates the budget by that.

    Raises:
      UserError: the budget is out of reach.
    """
    config, state, site = self._config, self._state, self._site
    original, working = site.original(), site.original()
    graph = site.graph(original)
    units, total = site.units(graph), graph.counts().macs
    agent = config.prune_option == AMC
    least = amc_widths.least_by_agent(config, units) if agent else None
    choices = Choices(graph, units, config.step, least=least)
    measured = self.by_table or self.by_memory
    budget = 0.0 if measured else self._budget_of(choices, total)
    state.macs_ratio = budget / total
    samples = site.samples()
    batches, method = [sample[0] for sample in samples], site.method(graph, units, samples)
    if agent:
      self._ask_agent(choices, max(budget, choices.least()), original, working, batches, method)
      return
    refits = self._scan(original, working, units, batches, method)
    losses = losses_of(state.divergence, units)
    if self.by_table:
      self._allocate_time(graph, units, losses)
      return
    if self.by_memory:
      asked = ram.Asked(config.target_ram, config.prefix)
      state.counts, state.ram = ram.allocate(
        asked, graph, units, losses, _first_channels(units), step=config.step
      )
      state.macs_ratio = state.ram['fraction']
      return
    if config.nb_rlouts == 1 and config.target_latency is None:
      request = self._request(units, self._ratio)
      request = dataclasses.replace(request, choices=choices, budget=budget, losses=losses)
      state.counts = ALLOCATIONS.find(config.prune_option).counts(request)
      return
    site.save()
    inputs, targets = judging_samples(site.helper, config.nb_smpls_reward)

    def judge_of(network: keras.Model) -> Judge:
      return Judge(network, inputs, targets, site.helper.task)

    def further() -> tuple[keras.Model, Judge]:
      network = site.original()
      return network, judge_of(network)

    search = WidthSearch(
      choices,
      choices.prices(losses),
      units,
      original,
      working,
      refits,
      batches,
      method,
      judge_of(working),
      further,
      site.jobs,
    )
    self._search(search, graph, budget, total, len(targets))

  def _ask_agent(
    self,
    choices: Choices,
    budget: float,
    original: keras.Model,
    working: keras.Model,
    batches: Sequence[np.ndarray],
    method: Method,
  ) -> None:
    config, site = self._config, self._site
    readers = statistics(original, working, choices.units, batches, method)
    samples = judging_samples(site.helper, config.nb_smpls_reward)
    refits = LayerRefits(original, choices.units, readers, method)
    refits.remember()
    reward = Reward(working, refits, Judge(working, *samples, site.helper.task))
    amc_widths.allocate(
      config,
      self._state,
      choices,
      budget,
      reward,
      site.trials(),
      site.seed,
      site.helper,
      site.save,
    )

  def _allocate_time(
    self, graph: ChannelGraph, units: Sequence[Unit], losses: Mapping[str, np.ndarray]
  ) -> None:
    config, state, site = self._config, self._state, self._site
    asked = timed.Timed(
      config.target_latency,
      config.latency_table,
      config.prefix,
      site.original_tflite,
      site.nb_threads,
      config.even_splits,
    )
    state.counts, state.latency = timed.allocate(
      asked,
      graph,
      units,
      losses,
      _first_channels(units),
    )
    state.macs_ratio = state.latency['fraction']

  def _budget_of(self, choices: Choices, total: int) -> float:
    prefix = self._config.prefix
    if self._state.latency is not None:
      return self._state.latency['fraction'] * total
    if self._budget is None:
      counts = ALLOCATIONS['uniform'].counts(self._request(choices.units, self._ratio))
      return choices.cost(counts)
    budget = self._budget * total
    remedy = f'--{prefix}trunk'
    if self._config.prune_option == AMC:
      remedy += f' or a lower --{prefix}amc_least'
    choices.check(budget, total, f'--{prefix}preserve_ratio', remedy)
    return budget

  def _scan(
    self,
    original: keras.Model,
    working: keras.Model,
    units: Sequence[Unit],
    batches: Sequence[np.ndarray],
    method: Method,
  ) -> LayerRefits:
    """Measures what pruning each unit alone costs, unless an earlier process has."""
    site = self._site
    readers = statistics(original, working, units, batches, method)
    refits = LayerRefits(original, units, readers, method)
    if self._state.divergence is None:
      images, _ = judging_samples(site.helper, divergence.NB_IMAGES)
      parts = unit_parts(working, units, refits)
      self._state.divergence = divergence.scan(working, parts, images, site.helper.task, say_curve)
    return refits

  def _search(
    self, search: WidthSearch, graph: ChannelGraph, budget: float, total: int, nb_samples: int
  ) -> None:
    config, state, site = self._config, self._state, self._site
    trials, best, goodness = search.run(
      budget,
      site.trials(),
      nb_trials=config.nb_rlouts,
      nb_random=config.nb_rlouts_min,
      seed=site.seed,
      save=site.save,
    )
    final = search.candidate(budget, best.factors)
    if config.target_latency is not None:  # Other ratios of the same MACs are not quite as fast.
      least = search.choices.least() / total + _LITTLE
      found = self._fraction_of_time(
        graph,
        search.units,
        lambda fraction: search.candidate(fraction * total, best.factors).counts,
        least,
      )
      state.latency = found
      final = search.candidate(found['fraction'] * total, best.factors)
      goodness = search.reconstructed(final.counts).goodness
    state.counts = final.counts
    split = judging_split(site.helper)
    state.search = summary(trials, best, final, goodness, nb_samples, split)


def _first_channels(units: Sequence[Unit]) -> ram.Masks:
  """The first channels of each unit stay: which ones does not matter for time and memory."""
  return lambda counts: [np.arange(unit.size) < counts[unit.name] for unit in units]
