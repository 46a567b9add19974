"""WeightSparseLearner: sets small weights to zero and trains on.

Zhu & Gupta 2017, "To prune, or not to prune" (arXiv:1710.01878): sparsity rises from s_i to s_f along

  s_t = s_f + (s_i - s_f) (1 - (t - t_0) / (n Delta t))^3                                (eq. 1)

while the network trains, and the weights of least magnitude go in each kernel (`agp`). The other
schedules: `iterative`, Han et al. 2015 (arXiv:1506.02626): prune some, retrain the survivors from the
values they have, prune more; and `one-shot`: prune all at once, then retrain.

How the ratio is allocated to the kernels: `uniform`; `heurist`, more from large kernels
(`ratios.heuristic`); `sensitivity`, until the loss rises equally (`sensitivity`); `optimal`, measured
and searched (`search`).

Deviations. Masks apply to the weights after the optimizer's step, and a masked weight is compared by
the value it last had. The smallest kernels stay dense (`ws_dense_share`), as in Zhu & Gupta's own
experiments with MobileNet: they hold few weights and pay most. Exponent, start and end of the rise are
flags. Iterative pruning thresholds per kernel, as Han et al. do, but from the scan and not by hand.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

from secateurs.learners import register
from secateurs.learners.run.compression import CompressionLearner, extended
from secateurs.learners.run.console import say
from secateurs.learners.run.phases import Phase
from secateurs.learners.run.preflight.estimate import Need
from secateurs.learners.run.results.plans import CutPlan, ZeroCut
from secateurs.learners.run.results.reporting import Findings
from secateurs.learners.run.training.judging import judging_notes
from secateurs.learners.run.training.trials import require_optuna
from secateurs.learners.run.training.workers import require_alike
from secateurs.learners.run.zeros import nonzeros
from secateurs.learners.weights.allocation import MeasuredAllocation, Site
from secateurs.learners.weights.chosen_layers import prunable_kernels, with_rules
from secateurs.learners.weights.configs import WsConfig
from secateurs.learners.weights.planned import plan_to_apply
from secateurs.learners.weights.ratios import heuristic, uniform
from secateurs.learners.weights.rearranged import KERNELS_NOTE, sort_channels, sorted_nonzeros
from secateurs.learners.weights.scan_memory import scan_needs
from secateurs.learners.weights.schedule import round_density
from secateurs.learners.weights.state import WsState
from secateurs.learners.weights.xnnpack import XNNPACK_NOTE
from secateurs.utils.deploy import UNSTRUCTURED_NOTE
from secateurs.utils.errors import UserError
from secateurs.utils.training.engine.events import Event
from secateurs.utils.training.engine.hooks import Hooks
from secateurs.utils.training.engine.masks import MaskSet
from secateurs.utils.training.engine.patterns import OneByN, Unstructured
from secateurs.utils.training.models.weights import kernels_by_name


@register
class WeightSparseLearner(CompressionLearner):
  """Trains the baseline on while its kernels' smallest weights are set to zero, ever more of them."""

  name = 'weight-sparse'
  Config, State = WsConfig, WsState
  config: WsConfig
  state: WsState
  # ResNet-20, 90 % of all: 79.9 % after 6 epochs at a rate of 0.01; 80.6, 81.4 % after 3 at 0.05, 0.1.
  fine_tune_factor = 0.5
  leaves_zeros = True
  without_effect = {}  # noqa: RUF012

  @property
  def keeps_all(self) -> str | None:
    """A ratio of zero."""
    return '--ws_prune_ratio 0' if self.config.ratio == 0 else None

  def compression_phases(self) -> list[Phase]:
    """Where the ratios come from, then the training in which sparsity rises and then stays."""
    config = self.config
    phases = [Phase('allocate', self._allocate)]
    if config.sorts and config.rearrange:
      phases.insert(0, Phase('rearrange', lambda: sort_channels(self.settings, self.model)))
    if config.schedule == 'iterative':
      each = self.rates.fine_tune_steps() // config.nb_rounds
      return phases + [
        Phase(f'round{number}', functools.partial(self._round, number), each)
        for number in range(1, config.nb_rounds + 1)
      ]
    return [*phases, Phase('sparsify', self._sparsify, self.rates.fine_tune_steps())]

  def prepare(self) -> None:
    """Makes the masks, and checks what can be known before all work."""
    if self.config.protocol == 'optimal' and self.state.kept is None:
      require_optuna(self.config.nb_rlouts)
    model = self.model if self.config.protocol == 'optimal' else None
    require_alike(self.config.jobs, 'ws_jobs', model)
    if self.config.ratio and not self.rates.fine_tune_steps():
      raise UserError(
        'weight-sparse prunes while it trains, but --nb_epochs_ft or --nb_epochs_rat give zero '
        'training steps: set --nb_epochs_ft above 0.'
      )
    self._kernels = self.prunable(self.model)
    sorts = self.config.sorts and self.config.rearrange
    allowed = (sorted_nonzeros if sorts else nonzeros)(self.settings, self.model)
    kernels = list(self._kernels.values())
    self._masks = MaskSet(kernels, self.config.zeros, [allowed.get(k.ref()) for k in kernels])
    self._plan = plan_to_apply(self.settings, list(self._kernels), self.config.zeros)

  def prunable(self, model: keras.Model) -> dict[str, tf.Variable]:
    """The kernels that are made sparse: all that the pattern and the policy fit, but the smallest."""
    return prunable_kernels(self.settings, self.config, model)

  def memory_needs(self) -> list[Need]:
    """As of all learners, and what measuring the kernels takes."""
    size, needs = self.rates.batch_size, super().memory_needs()
    return [*needs, *scan_needs(self.budget, self.model, self._kernels, self.config, size)]

  def extra_variables(self) -> Mapping[str, tf.Variable]:
    """Masks, and the last values of masked weights."""
    return self._masks.tensors(list(self._kernels))

  def findings(self) -> Findings:
    """What was asked for, and the kept weights by kernel with what they follow from."""
    known = {n: getattr(self.state, n) for n in ('kept', 'sensitivity', 'divergence', 'search')}
    return extended(
      super().findings(),
      self._notes(),
      requested=self._requested(),
      extra={name: value for name, value in known.items() if value is not None},
    )

  def _requested(self) -> dict[str, Any]:
    plan = self.settings.run.plan
    return {'sparsity': self.config.ratio} if plan is None else {'plan': plan}

  def cut_plan(self) -> CutPlan:
    """How many weights each kernel kept, and where its zeros may lie."""
    sizes, kept = self._sizes(), self.state.kept or {}
    return dataclasses.replace(
      super().cut_plan(),
      zeros={name: ZeroCut(sizes[name], number) for name, number in kept.items()},
      pattern=self.config.zeros.name,
    )

  def _notes(self) -> list[str]:
    """What zeros alone do not do, and what extreme ratios do."""
    if self.keeps_all is not None:
      return [self.nothing_note]
    config, notes = self.config, []
    if config.policy == 'xnnpack':
      notes.append(XNNPACK_NOTE)
    elif isinstance(config.zeros, OneByN):
      notes.append(KERNELS_NOTE)
    elif isinstance(config.zeros, Unstructured):
      notes.append(UNSTRUCTURED_NOTE)
    if config.ratio == 1:
      notes.insert(0, '--ws_prune_ratio 1 leaves one weight in each kernel.')
    dense = sorted(set(kernels_by_name(self.model)) - set(self._kernels))
    if dense:
      notes.append(f'Left dense: {", ".join(dense)}.')
    if self._plan is None and config.protocol in ('sensitivity', 'optimal'):
      notes += judging_notes(self.helper)
    return notes

  # How many weights stay where.

  def _sizes(self) -> dict[str, int]:
    return {name: int(np.prod(kernel.shape)) for name, kernel in self._kernels.items()}

  def _allocate(self) -> None:
    config, sizes = self.config, self._sizes()
    if config.ratio == 1:
      say(f'Warning: {self._notes()[0]}')
    if self._plan is not None:
      kept = {name: self._plan.zeros[name].kept for name in sizes}
    elif config.protocol == 'uniform' or config.ratio == 1:
      kept = uniform(sizes, config.ratio)
    elif config.protocol == 'heurist':
      kept = heuristic(sizes, config.ratio)
    else:
      self.say_judging()
      site = Site.of(self, self.prunable, functools.partial(self.search_file, self.state))
      measured = MeasuredAllocation(site, config, self.state, self.save_search)
      allocate = {'sensitivity': measured.by_sensitivity, 'optimal': measured.by_search}
      kept = allocate[config.protocol](sizes)
    self.state.kept = with_rules(self.settings, sizes, kept)

  # Pruning and training.

  def _ratios(self) -> list[float]:
    """Final sparsity of each kernel."""
    return [1 - self.state.kept[name] / size for name, size in self._sizes().items()]

  def _sparsify(self) -> None:
    """Sparsity rises along the schedule, in each kernel in proportion to its final one."""
    config, nb_steps = self.config, self.rates.fine_tune_steps()
    ratios, rise = self._ratios(), config.rise
    if config.schedule == 'one-shot':
      if self.session.starts_over('sparsify'):
        self._masks.update(ratios)
      self._train('sparsify', nb_steps)
      return
    steps = rise.update_steps(nb_steps)

    def update(step: int, means: dict[str, float]) -> None:
      del means
      progress = rise.sparsity_at(step, steps) / config.ratio
      self._masks.update([progress * ratio for ratio in ratios])

    self._train('sparsify', nb_steps, [Event(update, at=steps)])

  def _round(self, number: int) -> None:
    """One round of iterative pruning: pruned weights stay pruned, survivors keep their values."""
    config, phase, total = self.config, f'round{number}', self.rates.fine_tune_steps()
    nb_steps = total // config.nb_rounds
    if number == config.nb_rounds:
      nb_steps = total - (number - 1) * nb_steps
    if self.session.starts_over(phase):
      densities = [1 - ratio for ratio in self._ratios()]
      self._masks.update(
        [1 - round_density(number, config.nb_rounds, density) for density in densities],
        revive=False,
      )
    if nb_steps:
      self._train(phase, nb_steps, last=number == config.nb_rounds)

  def _train(
    self, phase: str, nb_steps: int, events: Sequence[Event] = (), *, last: bool = True
  ) -> None:
    self.fit(
      phase,
      self.objective(),
      self.rates.fine_tune_optimizer(nb_steps, self._masks),
      nb_steps=nb_steps,
      hooks=Hooks(
        constraints=[self._masks],
        events=events,
        metrics=lambda: {'sparsity': self._masks.sparsity()},
      ),
      averaged=last,
    )
