"""FilterPrunedLearner: ranks the filters of a trained network, cuts, repairs, and fine-tunes.

The methods that ask what a filter is worth (l1, FPGM, Taylor, HRank, ...) or how many of them stay
(sensitivity, ABCPruner) answer the five questions of `channels.questions`:

  criterion   `fp_criterion`, `fp_order`        what a filter is worth
  allocation  `fp_prune_option`                 how many stay in each layer, by ratio, MACs or latency
  schedule    `fp_schedule`, `fp_nb_rounds`     when they go: rank, cut, train; per layer or for all
  pressure    none
  repair      `fp_repair`, fine-tuning          how the others make up for it

Whatever makes channels is pruned: convolutions of any kind and Dense layers, with all that carries them
(normalisation, depthwise convolutions). Channels go on masks and are sliced away at the end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tf_keras as keras

from secateurs.learners import register
from secateurs.learners.channels.allocation.fitness import Fitness, Training
from secateurs.learners.channels.allocation.ranked import Ranked
from secateurs.learners.channels.criteria.ranking import best
from secateurs.learners.channels.cuts.cutting import RowMasks, unit_masks
from secateurs.learners.channels.cuts.even_splits import evened_choice
from secateurs.learners.channels.filter_config import FpConfig
from secateurs.learners.channels.filter_learner import FilterLearner
from secateurs.learners.channels.filter_schedule import Stage, stages
from secateurs.learners.channels.filter_state import FpState
from secateurs.learners.channels.repair.filter_repair import repair
from secateurs.learners.run.console import say
from secateurs.learners.run.phases import Phase
from secateurs.learners.run.training.judging import Judge, judging_samples
from secateurs.learners.run.training.trainer import weight_decay
from secateurs.learners.run.training.trials import Candidate
from secateurs.learners.run.training.workers import Workers, require_alike
from secateurs.utils.training import distributed
from secateurs.utils.training.engine.hooks import Hooks
from secateurs.utils.training.engine.loop import TrainStep

_NB_BN_BATCHES = 5  # Over which a candidate's batch normalisation is re-estimated.


@register
class FilterPrunedLearner(FilterLearner):
  """Ranks filters by a criterion, cuts the lowest, repairs, slices, and fine-tunes."""

  name = 'filter-pruned'
  aliases = ('filter',)
  Config, State = FpConfig, FpState

  def prepare(self) -> None:
    """Checks plan, criterion, list and budget against the network, before all work."""
    super().prepare()
    if self.settings.run.plan is not None:
      return
    model = self.helper.build_model(self.settings.run.seed)
    trained = model if self.config.prune_option == 'abc' else None
    require_alike(self.config.jobs, f'{self.config.prefix}jobs', trained)
    graph = self.graph(model)
    units = self.units(graph).units
    self.ranking.require_answer(graph, units)
    even = {unit.name: np.ones(unit.size) for unit in units}
    free = {unit.name: np.zeros(unit.size, bool) for unit in units}
    self.widths().check(Ranked(graph, units, even, free))

  def compression_phases(self) -> list[Phase]:
    """Measuring where it is needed, pruning on masks, slicing, training of the slim network."""
    measures = self.widths().measures and self.settings.run.plan is None
    return [
      *([Phase('allocate', self.allocate)] if measures else []),
      Phase('prune', self._prune),
      Phase('slice', self.slice),
      Phase('finetune', self.finetune, self.rates.fine_tune_steps()),
    ]

  def finetune(self) -> None:
    """Trains the slim network; one of which nothing was cut stays as it is."""
    if self.state.channels_ratio < 1:
      super().finetune()

  # Pruning.

  def _prune(self) -> None:
    state, config = self.state, self.config
    graph = self.graph(self.original())
    found = self.units(graph)
    state.left_whole = found.left
    if self.settings.run.plan is not None:
      self._cut_to(self.working_model(), self.planned(graph))
      return
    for stage in stages(config.schedule, config.nb_rounds, [unit.name for unit in found.units]):
      if stage.name not in state.cut:
        self._cut(stage)
        state.cut.append(stage.name)
        self.save('prune', 0)
      if not stage.last and stage.name not in state.tuned:
        self._train(stage)
        state.tuned.append(stage.name)
        self.save('prune', 0)

  def _cut(self, stage: Stage) -> None:
    """Ranks, and cuts what a stage says."""
    state, config, model = self.state, self.config, self.working_model()
    graph, ranked = self.graph(model), None
    if state.round != stage.round:
      ranked = self.ranked(graph)
      state.targets, state.round = self.widths().counts(ranked, stage.done), stage.round
    if ranked is None:
      ranked = self.ranked(graph, stage.units)
    kept = {
      name: best(ranked.keys[name], min(state.targets[name], self._left(name, ranked)))
      for name in stage.units
    }
    if stage.last and config.even_splits:
      units = self.units(graph).units
      kept = evened_choice(graph, units, state.kept, kept, ranked.keys)
    self._cut_to(model, kept)

  def _left(self, name: str, ranked: Ranked) -> int:
    """Channels of a unit that have not gone yet."""
    return int((ranked.keys[name] > -np.inf).sum())

  def _cut_to(self, model: keras.Model, kept: Mapping[str, np.ndarray]) -> None:
    """Masks and repairs the run's model; `model` is a float32 copy of it."""
    state, graph = self.state, self.graph(model)
    state.kept |= {name: np.flatnonzero(mask).tolist() for name, mask in kept.items()}
    units = self.units(graph).units
    if all(mask.all() for mask in unit_masks(units, state.kept).values()):
      return
    for name, mask in kept.items():
      say(f'prune  {name}: {int(mask.sum())} of {len(mask)} filters stay')
    records = repair(
      self.config.repair,
      self.original,
      model,
      graph,
      units,
      unit_masks(units, state.kept),
      self.refit_method(),
      images=self.refit_images,
      bn_images=self.bn_images,
    )
    state.note_layers(records)
    self.model.set_weights(model.get_weights())

  def _train(self, stage: Stage) -> None:
    """Trains the masked network after a cut."""
    nb_steps = round(self.config.nb_iters_ft_ratio * self.rates.fine_tune_steps())
    if not nb_steps:
      return
    graph = self.graph(self.settings.in_float32(self.model))
    units = self.units(graph).units
    masks = RowMasks(self.model, graph, units)
    masks.keep(unit_masks(units, self.state.kept))
    optimizer = self.rates.fine_tune_optimizer(nb_steps, masks)
    hooks = Hooks(constraints=[masks])
    self.fit(stage.name, self.objective(), optimizer, nb_steps=nb_steps, hooks=hooks)

  def judges_of(self, ranked: Ranked) -> Workers[Candidate, float]:
    """What judges candidates of a search, each on a separate network."""
    config = self.config
    samples = judging_samples(self.helper, config.nb_smpls_reward)
    bn_images = self.images('batch_norm', _NB_BN_BATCHES, config.batch_size)
    return Workers([self._fitness(ranked, samples, bn_images) for _ in range(config.jobs)])

  def _fitness(
    self, ranked: Ranked, samples: tuple[Any, Any], bn_images: Sequence[np.ndarray]
  ) -> Fitness:
    config, settings, rates = self.config, self.settings, self.rates
    quick = config.abc_fitness == 'quick'
    nb_steps = config.abc_nb_steps if quick else rates.nb_steps(config.abc_nb_epochs)
    network = settings.in_training_precision(self.working_model())
    masks = RowMasks(network, ranked.graph, ranked.units)
    step = TrainStep(
      self.objective(network),
      network.trainable_variables,
      rates.fine_tune_optimizer(max(nb_steps, 1), masks),
      penalties=weight_decay(rates, network),
      constraints=[masks],
      batch_size=rates.batch_size_total,
    )
    batches = self.helper.train_batches(
      rates.batch_size,
      settings.stream_seed('fitness'),
      augment=self.augmentation,
      shard=distributed.shard(),
    ).take(nb_steps)
    return Fitness(
      network,
      masks,
      ranked.keys,
      Training(step, batches.cache() if quick else batches, nb_steps, bn_images),
      Judge(network, *samples, self.helper.task),
    )
