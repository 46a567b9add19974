"""What learners share that allocate widths by ratios, budgets or latencies, and refit layers."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from secateurs.learners.channels.allocation.amc_config import AMC
from secateurs.learners.channels.allocation.sensitivity import numbers_kept
from secateurs.learners.channels.allocation.width_site import WidthSite
from secateurs.learners.channels.configs import WidthConfig
from secateurs.learners.channels.criteria.registry import CRITERIA, Samples, unit_scores
from secateurs.learners.channels.cuts.units import Unit
from secateurs.learners.channels.learner import ChannelLearner
from secateurs.learners.channels.repair.method import NB_BATCHES, Method
from secateurs.learners.channels.width_allocation import allocate
from secateurs.learners.channels.widths import Widths
from secateurs.learners.run.compression import extended
from secateurs.learners.run.phases import Phase
from secateurs.learners.run.preflight.work import Work
from secateurs.learners.run.results.reporting import Findings
from secateurs.learners.run.training.divergence import NB_IMAGES
from secateurs.learners.run.training.judging import judging_notes, judging_split
from secateurs.learners.run.training.trials import require_optuna
from secateurs.learners.run.training.workers import require_one_process
from secateurs.utils.deploy.latency_table.table import read_table
from secateurs.utils.graph import ChannelGraph

_BATCH = 64


class WidthLearner(ChannelLearner):
  """A learner whose widths follow from `WidthConfig`.

  A subclass gives `widths` (by `make_widths`), `refit_batches` and `refit_method`.
  """

  config: WidthConfig
  list_of: ClassVar[str] = 'preserve_ratios'  # What a list of ratios holds.

  @functools.cached_property
  def widths(self) -> Widths:
    """How many channels stay."""
    raise NotImplementedError

  def refit_batches(self) -> list[tuple]:
    """Samples that layers are refit over: (inputs, targets)."""
    raise NotImplementedError

  def refit_method(self) -> Method:
    """How channels are chosen and weights refit."""
    raise NotImplementedError

  def prepare(self) -> None:
    """Checks what a search will need, before all work."""
    super().prepare()
    self.__dict__.pop('widths', None)  # It knows the state of one session.
    if self.config.latency_table is not None:
      read_table(self.config.latency_table, f'{self.config.prefix}latency_table')
    if self.widths.by_budget and self.state.widths.counts is None:
      require_optuna(self.config.nb_rlouts)
      require_one_process(self.config.jobs, f'{self.config.prefix}jobs')

  def nb_refit_samples(self) -> int:
    """As many as the memory allows, at most so many batches as the refit takes."""
    nb_samples = self.nb_batches_within(NB_BATCHES, _BATCH) * _BATCH
    return min(nb_samples, self.helper.nb_samples('train'))

  def width_phases(self) -> list[Phase]:
    """What finds the widths, where they do not follow from the flags alone."""
    if self.settings.run.plan is not None:
      return []
    target = self.config.target_latency is not None and not self.widths.by_table
    return [
      *([Phase('latency', self.widths.meet_latency)] if target else []),
      *([Phase('allocate', self._allocate)] if self.widths.by_budget else []),
    ]

  def work_of(self, phase: str) -> Work:
    """As of all learners of channels, and the scan of every unit, and what a search judges."""
    if phase != 'allocate':
      return super().work_of(phase)
    config, nb_images = self.config, 0
    if config.prune_option != AMC:
      units = self.units(self.graph(self.helper.build_model(self.settings.run.seed))).units
      nb_images += NB_IMAGES * sum(len(numbers_kept(unit.size)) for unit in units)
    if config.nb_rlouts > 1:
      split = judging_split(self.helper)
      nb_judged = min(config.nb_smpls_reward, self.helper.nb_samples(split))
      nb_images += config.nb_rlouts * nb_judged
    return Work(nb_images)

  def channels_ratio(self) -> float:
    """The fraction of each layer's channels that flags ask to keep, for uniform."""
    raise NotImplementedError

  def requested(self) -> dict[str, Any]:
    """What the flags asked for: a plan, a latency, a list, a fraction of MACs or of channels."""
    config, plan = self.config, self.settings.run.plan
    if plan is not None:
      return {'plan': plan}
    if config.target_latency is not None:
      return {'latency_ratio': config.target_latency}
    if config.target_ram is not None:
      return {'ram_ratio': config.target_ram}
    if config.prune_option == 'list':
      return {self.list_of: config.prune_list_file}
    if self.widths.by_budget or config.preserve_ratio is not None:
      return {'macs_ratio': self.state.widths.macs_ratio}
    return {'channels_ratio': self.channels_ratio()}

  def findings(self) -> Findings:
    """As of all learners of channels, and what the scan or search was judged on."""
    widths = self.state.widths
    scanned = widths.divergence is not None or widths.search is not None
    return extended(super().findings(), judging_notes(self.helper) if scanned else [])

  def make_widths(
    self, *, width: Callable[[int, float], int], ratio: float, budget: float | None
  ) -> Widths:
    """The allocation by this learner's flags; see `Widths` for the arguments."""
    site = self.site(
      WidthSite,
      graph=self.graph,
      units=lambda graph: self.units(graph).units,
      samples=self.refit_batches,
      method=lambda *found: self.with_scores(self.refit_method(), *found),
    )
    return Widths(self.config, self.state.widths, site, width=width, ratio=ratio, budget=budget)

  def with_scores(
    self, method: Method, graph: ChannelGraph, units: Sequence[Unit], batches: Sequence[Any]
  ) -> Method:
    """The method with the units' scores, where it chooses by a criterion of that kind.

    Args:
      method: how channels are chosen.
      graph: of the original network.
      units: what is chosen from.
      batches: samples for criteria on data.
    """
    criterion = CRITERIA.find(method.selection)
    if criterion.kind != 'score':
      return method
    samples = Samples(batches, self.helper.task.loss) if criterion.on_data else None
    return dataclasses.replace(method, scores=unit_scores(criterion.name, graph, units, samples))

  def _allocate(self) -> None:
    self.say_judging()
    allocate(self.widths)
