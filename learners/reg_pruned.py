"""RegPrunedLearner: trains under a penalty that pulls channels to zero, cuts, and fine-tunes.

  Network Slimming   Liu et al. 2017, arXiv:1708.06519: lambda * sum |gamma| over the scales of batch
                     normalisation; the smallest of the network go, in one pass or several
  SSL                Wen et al. 2016, arXiv:1608.03665: lambda * sum ||W_g|| over filters, channels,
                     shapes, kernels, or the layers of residual branches, which may go as a whole
  group norm         Fang et al. 2023, arXiv:2301.12900: one norm over all that goes with a channel
  growing factors    Wang et al. 2021, arXiv:2012.09243: lambda / 2 * ||W_g||^2 for channels that were
                     chosen to go, with a factor that rises in steps

The five questions of `channels.questions`: pressure `rp_penalty`, criterion the norms that it leaves,
allocation `rp_prune_option`, schedule `rp_nb_passes`, repair `rp_repair` and fine-tuning.

Deviations. A proximal step after the optimizer's makes exact zeros, where the papers take a
sub-gradient or a threshold (`rp_update`). Strengths are relative by default, so that they suit
trainings of any length (`rp_strength`; `rp_factor` is lambda as published). A filter's group has the
scale and shift of its batch normalisation, because a kernel's norm before one is free. What residual
additions join goes together, and is one group.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

from secateurs.learners import register
from secateurs.learners.channels.allocation.ranked import Ranked
from secateurs.learners.channels.cuts.cutting import unit_masks
from secateurs.learners.channels.filter_learner import FilterLearner
from secateurs.learners.channels.filter_widths import FilterWidths
from secateurs.learners.pressure import deciding, passes, places, scratch
from secateurs.learners.pressure.masking import PassMasks, cut_masks
from secateurs.learners.pressure.passes import Course
from secateurs.learners.pressure.pressed import Pressed
from secateurs.learners.pressure.rp_config import GROWING, ZEROS, RpConfig
from secateurs.learners.pressure.rp_state import RpState
from secateurs.learners.pressure.selections import with_selections
from secateurs.learners.run.compression import extended
from secateurs.learners.run.phases import Phase
from secateurs.learners.run.results.reporting import Findings
from secateurs.utils.training.engine.hooks import Hooks
from secateurs.utils.training.engine.masks import Masks


@register
class RegPrunedLearner(FilterLearner):
  """Trains under a penalty on channels, cuts the weakest, slices, and fine-tunes."""

  name = 'reg-pruned'
  aliases = ('reg',)
  Config, State = RpConfig, RpState
  sliced_title = 'Pruned, before fine-tuning'
  config: RpConfig
  state: RpState
  _pressed: Pressed | None = None  # None once the network is sliced.

  def build(self) -> keras.Model:
    """The network, with layers that select channels where its layers choose among a trunk's."""
    model = super().build()
    selects = self.state.slim is None and self.config.trunk == 'gather' and not self.keeps_all
    return with_selections(model) if selects else model

  def prepare(self) -> None:
    """Checks flags against the network, and groups the weights of one that is not sliced yet."""
    super().prepare()
    if self.settings.run.plan is not None or self.state.slim is not None or self.keeps_all:
      return
    self._course.require_sgd()
    config, graph = self.config, self.graph(self.settings.in_float32(self.model))
    units = self.units(graph).units
    steps = max(self._course.steps.press)
    self._pressed = Pressed(self.model, graph, units, config, steps)
    if config.penalty == GROWING or config.prune_option == 'auto':
      self.ranking.require_answer(graph, units)
    if config.prune_option != ZEROS:
      even = {unit.name: np.ones(unit.size) for unit in units}
      free = {unit.name: np.zeros(unit.size, bool) for unit in units}
      self.widths().check(Ranked(graph, units, even, free))

  def extra_variables(self) -> Mapping[str, tf.Variable]:
    """The strengths of the penalty."""
    return {} if self._pressed is None else self._pressed.pressure.variables()

  def compression_phases(self) -> list[Phase]:
    """Passes of pressure, cut and fine-tuning, of which the last is that of the sliced network."""
    config, steps = self.config, self._course.steps
    slim = [
      Phase('slice', self.slice),
      Phase('finetune', self.finetune, self.last_steps),
    ]
    if self.settings.run.plan is not None:
      return [Phase('cut', self.take_plan), *slim]
    measures = config.prune_option != ZEROS and self.widths().measures
    found = [Phase('allocate', self.allocate)] if measures else []
    for number in range(1, config.nb_passes + 1):
      press, tune = steps.press[number - 1], steps.tune[number - 1]
      found.append(Phase(f'press{number}', functools.partial(self._press, number), press))
      found.append(Phase(f'cut{number}', functools.partial(self._cut, number)))
      if number < config.nb_passes:
        found.append(Phase(f'tune{number}', functools.partial(self._tune, number), tune))
    return found + slim

  @property
  def last_steps(self) -> int:
    """Steps of the slim network."""
    return 0 if self.keeps_all is not None else self._course.last_steps

  @property
  def augmentation(self) -> str:
    """That of a whole training, from random weights."""
    return 'all' if self.config.from_scratch else super().augmentation

  @property
  def keeps_zeros(self) -> bool:
    """Whether zeros stay zeros when layers are refit: those of shapes and kernels do."""
    return super().keeps_zeros or not set(places.WITHIN).isdisjoint(self.config.kinds)

  # The report.

  def requested(self) -> dict[str, Any]:
    """As of filter-pruned; with zeros, what the penalty was."""
    if self.config.prune_option == ZEROS and self.settings.run.plan is None:
      return {'penalty': ', '.join(self.config.kinds)}
    return super().requested()

  def findings(self) -> Findings:
    """What the floor saved, blocks that went, and zeros that were not sliced away."""
    return extended(super().findings(), passes.notes(self.state))

  def extra(self) -> dict[str, Any]:
    """Histograms of the norms before and after each pass."""
    return super().extra() | passes.figures(self.state)

  # Phases.

  @property
  def _course(self) -> Course:
    return Course(self.config, self.rates, planned=self.settings.run.plan is not None)

  def _press(self, number: int) -> None:
    """Trains under the penalty."""
    phase, nb_steps, pressed = f'press{number}', self._course.steps.press[number - 1], self._pressed
    if self.session.starts_over(phase):
      if number == 1 and self.config.from_scratch:
        scratch.begin(self.model, self.helper.build_model(self.settings.run.seed))
      self._begin(number)
    if not nb_steps:
      return
    masks, pressure = self._masks(), pressed.pressure
    self.fit(
      phase,
      self.objective(),
      self._course.optimizer(number, masks),
      nb_steps=nb_steps,
      hooks=pressure.hooks(nb_steps, masks),
    )
    before = self.state.passes[-1]['before']
    largest = {kind: one['largest'] for kind, one in before.items()}
    self.state.passes[-1]['after'] = pressure.histograms(largest)

  def _begin(self, number: int) -> None:
    """Chooses what goes, where that is chosen before, and sets the strengths by today's norms."""
    config, state, pressed = self.config, self.state, self._pressed
    doomed, notes = None, []
    if config.penalty == GROWING:
      ranked = self.ranked(self.graph(self.working_model()))
      kept = deciding.by_counts(ranked, self._counts(ranked, number), even=self._even(number))
      notes = deciding.saved_by_floor(config, ranked, kept)
      doomed = state.doomed = {name: np.flatnonzero(m).tolist() for name, m in kept.items()}
    pressed.pressure.begin(
      self._course.strength(number),
      config.factor,
      self._course.travelled(number),
      pressed.free(state.kept, doomed),
      1.0 / (1.0 - self.rates.momentum),
    )
    state.passes.append({'before': pressed.pressure.histograms(), 'notes': notes})

  def _counts(self, ranked: Ranked, number: int) -> dict[str, int]:
    return FilterWidths(self.config, self.state.widths).counts(
      ranked, number / self.config.nb_passes
    )

  def _even(self, number: int) -> bool:
    return self.config.even_splits and number == self.config.nb_passes

  def _masks(self) -> PassMasks:
    pressed, state = self._pressed, self.state
    masks = unit_masks(pressed.units, state.kept)
    return PassMasks(
      self.model, pressed.graph, pressed.units, masks, pressed.branches, state.blocks
    )

  def _cut(self, number: int) -> None:
    """Takes the weakest channels off, on masks, and repairs the others."""
    config, state, pressed = self.config, self.state, self._pressed
    ranked, even = pressed.ranked(state.kept), self._even(number)
    if config.prune_option == ZEROS:
      kept = deciding.by_zeros(ranked, pressed.zeros(), config.floor, even=even)
      if config.has_layers:
        norms = pressed.block_norms(state.blocks)
        state.blocks = deciding.lost_blocks(pressed.branches, norms, config.nb_blocks)
    elif config.penalty == GROWING:
      kept = unit_masks(pressed.units, state.doomed)
    else:
      kept = deciding.by_counts(ranked, self._counts(ranked, number), even=even)
    if config.penalty != GROWING:
      state.passes[-1]['notes'] = deciding.saved_by_floor(config, ranked, kept)
    kept = deciding.without_blocks(kept, pressed.branches, state.blocks)
    state.kept = {name: np.flatnonzero(mask).tolist() for name, mask in kept.items()}
    state.left_whole = self.units(pressed.graph).left
    passes.say_cut(kept, state.blocks)
    records = cut_masks(
      self.model,
      self.working_model,
      pressed,
      kept,
      state.blocks,
      config.repair,
      self.refit_method(),
      images=self.refit_images,
      bn_images=self.bn_images,
    )
    state.note_layers(records)

  def _tune(self, number: int) -> None:
    """Trains the masked network between two passes."""
    nb_steps = self._course.steps.tune[number - 1]
    if nb_steps:
      masks, within = self._masks(), places.within_masks(self.model, self.config.kinds)
      optimizer = self.rates.fine_tune_optimizer(nb_steps, masks)
      hooks = Hooks(constraints=[masks, *([within] if within else [])])
      self.fit(f'tune{number}', self.objective(), optimizer, nb_steps=nb_steps, hooks=hooks)

  def slice(self) -> None:
    """Slices what has gone away; nothing is pulled at any more."""
    super().slice()
    self._pressed = None
    zeros = places.zero_places(self.model, self.config.kinds)
    self.state.zero_shapes, self.state.zero_kernels = map(zeros.get, places.WITHIN)

  def slim_masks(self) -> Masks | None:
    """Zeros of shapes and kernels stay zeros."""
    return places.within_masks(self.model, self.config.kinds)
