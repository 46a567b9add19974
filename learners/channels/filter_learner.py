"""What learners share that rank the channels that layers make: criteria, widths, candidates."""

from __future__ import annotations

import functools
import time
from typing import Any

import numpy as np

from secateurs.learners.channels.allocation import filter_scan
from secateurs.learners.channels.allocation.ranked import FilterSite, Ranked
from secateurs.learners.channels.allocation.registry import ALLOCATIONS, SCORE
from secateurs.learners.channels.criteria.judged import batches_of_all, rank_stability
from secateurs.learners.channels.criteria.registry import CRITERIA
from secateurs.learners.channels.criteria.unit_ranking import Ranking
from secateurs.learners.channels.cuts.chosen_layers import chosen
from secateurs.learners.channels.cuts.filter_units import filter_units
from secateurs.learners.channels.cuts.units import Units
from secateurs.learners.channels.filter_config import FpConfig
from secateurs.learners.channels.filter_state import FpState
from secateurs.learners.channels.filter_widths import FilterWidths
from secateurs.learners.channels.learner import ChannelLearner
from secateurs.learners.channels.repair.method import NB_BATCHES, Method, nb_points
from secateurs.learners.run.compression import extended
from secateurs.learners.run.preflight.work import Work
from secateurs.learners.run.results.reporting import Findings
from secateurs.learners.run.training.judging import judging_notes
from secateurs.learners.run.training.trials import Candidate
from secateurs.learners.run.training.workers import Workers, require_one_process
from secateurs.utils.errors import UserError
from secateurs.utils.graph import ChannelGraph
from secateurs.utils.training import distributed

_NB_SCORE_BATCHES = 10


class FilterLearner(ChannelLearner):
  """A learner that ranks all groups of channels by a criterion of `FpConfig`.

  A subclass gives the phases. Its config may have class attributes in place of flags that it does not
  offer.
  """

  by_inputs = False
  config: FpConfig
  state: FpState

  def prepare(self) -> None:
    """Checks that layers are not scanned at the same time by several processes, too."""
    super().prepare()
    if self.settings.run.plan is None:
      require_one_process(self.config.jobs, f'{self.config.prefix}jobs')

  def units(self, graph: ChannelGraph) -> Units:
    """All groups of channels that may be cut.

    Raises:
      UserError: there are none.
    """
    config = self.config
    found = chosen(self.settings.layers, graph, self.find_units(graph, config.trunk))
    if not found.units:
      raise UserError(
        f'No layer of {self.helper.net} has channels that can be pruned '
        f'({"; ".join(found.left) or "there are none"}): loosen --{config.prefix}skip or '
        f'--{config.prefix}trunk.'
      )
    return found

  def find_units(self, graph: ChannelGraph, trunk: str) -> Units:
    """All groups of channels that may be cut with a choice of trunk, whatever `--layers` says."""
    return filter_units(graph, trunk, self.config.skipped, prefix=self.config.prefix)

  # The report.

  def requested(self) -> dict[str, Any]:
    """What the flags asked for: a plan, a latency, MACs, a list, a drop, or a ratio."""
    config, plan = self.config, self.settings.run.plan
    if plan is not None:
      return {'plan': plan}
    if config.target_latency is not None:
      return {'latency_ratio': config.target_latency}
    if config.target_ram is not None:
      return {'ram_ratio': config.target_ram}
    if self.state.widths.macs_ratio is not None:
      return {'macs_ratio': self.state.widths.macs_ratio}
    if config.preserve_ratio is not None:
      return {'macs_ratio': config.preserve_ratio}
    if config.prune_option == 'list':
      return {'prune_ratios': config.prune_list_file}
    if config.prune_option == 'sensitivity':
      return {'max_drop_alone': config.max_drop}
    return {'channels_ratio': 1 - config.prune_ratio}

  def findings(self) -> Findings:
    """As of all learners of channels, and what a scan or search was judged on."""
    return extended(super().findings(), judging_notes(self.helper) if self.judges else [])

  def extra(self) -> dict[str, Any]:
    """Figures of the algorithm: with sensitivity, ranks of maps and the search's course."""
    widths, found = self.state.widths, super().extra()
    if widths.drops is not None:
      found |= {
        'filter_sensitivity': widths.drops,
        'filter_sensitivity_table': filter_scan.table(widths.drops),
      }
    if widths.colony is not None:
      found['colony'] = widths.colony
    return found | (self.state.ranks or {}) | {'score_seconds': self.state.score_seconds}

  @property
  def judges(self) -> bool:
    """Whether scans or candidates are judged on samples."""
    return self.config.prune_option in ('sensitivity', 'auto', 'abc', 'amc')

  # What is ranked, and how many stay.

  def widths(self) -> FilterWidths:
    """How many channels stay, by what is known so far."""
    return FilterWidths(self.config, self.state.widths)

  @property
  def ranking(self) -> Ranking:
    """How channels are ranked, whatever has gone of them."""
    config = self.config
    return Ranking(
      config.criterion,
      config.trunk,
      config.prefix,
      self.helper.task.loss,
      self.settings.run.seed,
      lambda: self._score_samples,
      config.order,
    )

  def ranked(self, graph: ChannelGraph, names: tuple[str, ...] | None = None) -> Ranked:
    """The channels of some units of a network (default: all), ranked by the criterion."""
    units = [one for one in self.units(graph).units if names is None or one.name in names]
    began = time.perf_counter()
    found = self.ranking.keys(graph, units, self.config.normalize, self.state.kept)
    self.state.score_seconds += time.perf_counter() - began
    if 'rank' in found.found and self.state.ranks is None:
      self.state.ranks = rank_stability(batches_of_all(found.found['rank']))
    return Ranked(graph, units, found.keys, found.stays)

  def work_of(self, phase: str) -> Work:
    """As of all learners of channels, and the samples that a criterion of data is taken over."""
    found = super().work_of(phase)
    if phase in ('allocate', 'prune') and CRITERIA.find(self.config.criterion).on_data:
      found += Work(self._nb_score_batches() * self.config.batch_size)
    if phase != 'allocate':
      return found
    config = self.config
    measures, nb_judged = ALLOCATIONS.find(config.prune_option).measures, 0
    if measures == SCORE:  # Of filter-pruned alone.
      nb_judged = config.nb_smpls_reward
    each = filter_scan.images_a_unit(measures, nb_judged, self.helper)
    graph = self.graph(self.helper.build_model(self.settings.run.seed))
    return found + Work(each * len(self.units(graph).units))

  @functools.cached_property
  def _score_samples(self) -> list[tuple]:
    return self.samples('score', self._nb_score_batches(), self.config.batch_size)

  def _nb_score_batches(self) -> int:
    """At least one for each process; criteria hold the maps of one batch at a time."""
    return max(self.config.nb_batches or _NB_SCORE_BATCHES, distributed.size())

  def refit_images(self) -> list[np.ndarray]:
    """Batches that layers are refit over."""
    return self.images('prune', self._nb_refit_batches(), self.config.batch_size)

  def _nb_refit_batches(self) -> int:
    config = self.config
    return config.nb_batches or self.nb_batches_within(NB_BATCHES, config.batch_size)

  def nb_refit_samples(self) -> int:
    """None where layers are not refit."""
    if self.config.repair != 'least-squares':
      return 0
    nb_samples = self._nb_refit_batches() * self.config.batch_size
    return min(nb_samples, self.helper.nb_samples('train'))

  def refit_method(self) -> Method:
    """How layers are refit."""
    return Method(
      selection=self.config.criterion,
      refit_all=True,
      keep_zeros=self.keeps_zeros,
      seed=self.settings.run.seed,
      nb_points=nb_points(self._nb_refit_batches()),
      store=self.map_store,
    )

  def judges_of(self, ranked: Ranked) -> Workers[Candidate, float]:
    """What judges candidates, for a learner whose allocations search."""
    raise NotImplementedError

  def allocate(self) -> None:
    """The phase that measures what the allocation needs."""
    if self.judges:
      self.say_judging()
    refits = self.config.repair == 'least-squares'
    site = self.site(
      FilterSite,
      images=self.refit_images if refits else None,
      method=self.refit_method(),
      fitness=self.judges_of,
    )
    self.widths().measure(self.ranked(self.graph(self.original())), site)
