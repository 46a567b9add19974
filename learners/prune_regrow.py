"""PruneRegrowLearner: prunes and regrows channels again and again while the network trains.

Hou et al. 2022, "CHEX: CHannel EXploration for CNN Model Compression" (arXiv:2203.15794). Every
`pr_every` epochs, until `pr_until` of the training:

  1. widths: one global ranking of the scales of batch normalisation at the target;
  2. pruning: of each layer's columns W those of the highest leverage ||[V_k]_j||^2 stay, with V_k the
     first k right singular vectors; L1 norms where W has more columns than rows;
  3. regrowing: a fraction delta_0 (1 + cos(pi t / T)) / 2 of each layer's channels regrows, drawn by
     the softmax of ||w_j - P w_j||, with the weights and statistics that they had when they went.

The five questions of `channels.questions`: criterion leverage, allocation `pr_prune_option`, schedule
gradual, pressure regrowing, repair fine-tuning.

Deviations. Widths may follow norms of filters (`pr_criterion`), a budget of MACs or latency. Regrown
channels are a fraction of each layer; channels that residual additions join are one choice, whose W has
the rows of all layers that make them. The pruned network is sliced, through additions, too
(`pr_slice False` leaves structured zeros).
"""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from secateurs.learners import register
from secateurs.learners.channels.allocation.ranked import Ranked
from secateurs.learners.channels.criteria.judged import require_answer, with_fates
from secateurs.learners.channels.criteria.ranking import best
from secateurs.learners.channels.cuts.cutting import keep_of, unit_masks
from secateurs.learners.channels.cuts.even_splits import evened
from secateurs.learners.channels.filter_learner import FilterLearner
from secateurs.learners.pressure import exploring, regrowth
from secateurs.learners.pressure.pr_config import RANDOM, SCRATCH, PrConfig
from secateurs.learners.pressure.pr_state import PrState
from secateurs.learners.pressure.submodel import SubModel
from secateurs.learners.run.phases import Phase
from secateurs.learners.run.results.plan_cuts import channel_cuts
from secateurs.learners.run.zeros import given_masks
from secateurs.utils.errors import UserError
from secateurs.utils.training import distributed
from secateurs.utils.training.engine.events import Event
from secateurs.utils.training.engine.hooks import Hooks
from secateurs.utils.training.models.weights import copy_weights

_NB_CHANGES = 40


@register
class PruneRegrowLearner(FilterLearner):
  """Prunes and regrows channels in turn while it trains, and slices at the end."""

  name = 'prune-regrow'
  aliases = ('regrow',)
  Config, State = PrConfig, PrState
  config: PrConfig
  state: PrState
  _sub: SubModel | None = None  # None once the network is sliced.

  def prepare(self) -> None:
    """Checks flags against the network, and makes the masks of one that is not sliced yet."""
    super().prepare()
    if self.settings.run.plan is not None or self.state.slim is not None or self.keeps_all:
      return
    if not self._nb_steps:
      raise UserError(
        'prune-regrow prunes while it trains, but --nb_epochs_ft or --nb_epochs_rat give zero training '
        'steps: set --nb_epochs_ft above 0.'
      )
    graph = self.graph(self.settings.in_float32(self.model))
    units = self.units(graph).units
    require_answer(self.config.criterion, graph, units, 'pr_criterion')
    self._sub = SubModel(self.model, graph, units)
    even = {unit.name: np.ones(unit.size) for unit in units}
    free = {unit.name: np.zeros(unit.size, bool) for unit in units}
    self.widths().check(Ranked(graph, units, even, free))

  def extra_variables(self) -> Mapping[str, tf.Variable]:
    """The last values of the weights of pruned channels."""
    return {} if self._sub is None else self._sub.variables()

  def compression_phases(self) -> list[Phase]:
    """The training in which the structure changes, and what becomes of the pruned channels."""
    if self.settings.run.plan is not None:
      nb_steps = self.rates.fine_tune_steps()
      tuning = Phase('finetune', self.finetune, nb_steps)
      return [Phase('cut', self.take_plan), Phase('slice', self.slice), tuning]
    measures = [Phase('allocate', self.allocate)] if self.widths().measures else []
    explore = Phase('explore', self._explore, self._nb_steps)
    end = Phase('slice', self.slice) if self.config.slice else Phase('zero', self._zero)
    return [*measures, explore, end]

  @property
  def last_steps(self) -> int:
    """Those of the training in which the structure changes, or of the slim network of a plan."""
    return self._nb_steps if self.settings.run.plan is None else super().last_steps

  @property
  def augmentation(self) -> str:
    """That of a whole training, from random weights."""
    return 'all' if self._from_scratch else super().augmentation

  @property
  def leaves_zeros(self) -> bool:
    """Whether pruned channels are left as zeros; those of a plan are sliced away."""
    return not self.config.slice and self.settings.run.plan is None

  def extra(self) -> dict[str, Any]:
    """The structure over time."""
    found = super().extra() | {'changes': self.state.changes}
    if self.state.changes:
      sizes = self.state.changes[0]['of']
      found['structure'] = exploring.over_time(self.state.changes, sizes, self._nb_steps)
    return found

  # Training.

  @property
  def _from_scratch(self) -> bool:
    return self.config.start == SCRATCH

  @property
  def _keeps_given_zeros(self) -> bool:
    return self.keeps_zeros and not self._from_scratch

  @property
  def _nb_steps(self) -> int:
    rates = self.rates
    return rates.baseline_steps() if self._from_scratch else rates.fine_tune_steps()

  @functools.cached_property
  def _changes(self) -> list[int]:
    """Steps after which the structure changes."""
    total, every = self._nb_steps, self.config.every
    steps = total / _NB_CHANGES if every is None else self.rates.nb_steps(every)
    return regrowth.event_steps(total, max(round(steps), 1), self.config.until)

  def _explore(self) -> None:
    sub, state, nb_steps = self._sub, self.state, self._nb_steps
    if self.session.starts_over('explore'):
      if self._from_scratch:
        copy_weights(self.helper.build_model(self.settings.run.seed), self.model)
      sub.renew()
      state.changes = []
      state.kept = {unit.name: list(range(unit.size)) for unit in sub.units}
      state.left_whole = self.units(sub.graph).left
      if self.config.first == RANDOM:
        self._draw()
    sub.masks.keep(unit_masks(sub.units, state.kept))
    # Zeros that the network came with; those of pruned channels end when the channels regrow.
    given = given_masks(self.settings, self.model) if self._keeps_given_zeros else None
    if self._from_scratch:
      optimizer = self.rates.sgd(self.rates.baseline_schedule())
    else:
      optimizer = self.rates.fine_tune_optimizer(nb_steps, sub.masks)
    self.fit(
      'explore',
      self.objective(),
      optimizer,
      nb_steps=nb_steps,
      hooks=Hooks(
        constraints=[sub.masks, *([given] if given else [])],
        events=[Event(self._change, at=self._changes)],
        metrics=lambda: {'channels': sum(len(kept) for kept in self.state.kept.values())},
      ),
      averaged=True,
    )

  def _ranked(self) -> Ranked:
    sub = self._sub
    scores = sub.scores(self.config.criterion, unit_masks(sub.units, self.state.kept))
    return Ranked(sub.graph, sub.units, *with_fates(sub.graph, sub.units, scores, self.state.kept))

  def _draw(self) -> None:
    """The first sub-model: widths at random around the target, and channels at random."""
    sub, rng = self._sub, np.random.default_rng(self.settings.run.seed)
    ranked = self._ranked()
    counts = self.widths().counts(ranked)
    share = sum(counts.values()) / sum(unit.size for unit in sub.units)
    widths = regrowth.random_widths({unit.name: unit.size for unit in sub.units}, share, rng)
    after = {
      unit.name: best(
        np.where(ranked.stays[unit.name], np.inf, rng.random(unit.size)), widths[unit.name]
      )
      for unit in sub.units
    }
    self._apply(0, after, time.perf_counter())

  def _change(self, step: int, means: Mapping[str, float]) -> None:
    """Prunes to the target, and lets channels regrow."""
    del means
    began, sub = time.perf_counter(), self._sub
    ranked, present = self._ranked(), unit_masks(sub.units, self.state.kept)
    fraction = regrowth.regrown_fraction(self.config.regrow, step / self._changes[-1])
    rng = np.random.default_rng((self.settings.run.seed, step))
    counts = self.widths().counts(ranked)
    after = exploring.changed(sub, ranked, present, counts, fraction, rng)
    if step == self._changes[-1] and self.config.even_splits:
      after = evened(sub.graph, sub.units, after, ranked.keys)
    self._apply(step, after, began)

  def _apply(self, step: int, after: dict[str, np.ndarray], began: float) -> None:
    sub, state = self._sub, self.state
    after = distributed.broadcast_object(after)
    sub.change(unit_masks(sub.units, state.kept), after)
    state.kept = {name: np.flatnonzero(mask).tolist() for name, mask in after.items()}
    state.changes.append(
      {
        'step': step,
        'kept': {name: len(kept) for name, kept in state.kept.items()},
        'of': {unit.name: unit.size for unit in sub.units},
        'seconds': time.perf_counter() - began,
      }
    )

  def slice(self) -> None:
    """Slices the pruned channels away."""
    super().slice()
    self._sub = None
    if self.settings.run.plan is None:  # This is the network that is measured.
      self.state.pruned = None

  @property
  def sliced_title(self) -> str:
    """Nothing trains after the slice, unless a plan gave the channels."""
    return 'Sliced, after all training' if self.settings.run.plan is None else super().sliced_title

  def _zero(self) -> None:
    """Leaves the pruned channels as zeros."""
    sub, state = self._sub, self.state
    sub.zero(unit_masks(sub.units, state.kept))
    cuts = channel_cuts(sub.graph, keep_of(sub.units, state.kept))
    state.channels = [dataclasses.asdict(cut) for cut in cuts]
    state.channels_ratio = sum(map(len, state.kept.values())) / sum(u.size for u in sub.units)
