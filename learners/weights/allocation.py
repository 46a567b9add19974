"""How many weights stay in each kernel, where that is measured: by a scan, or by a search."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import tensorflow as tf
import tf_keras as keras

from secateurs.learners.run.compression import CompressionLearner
from secateurs.learners.run.console import say
from secateurs.learners.run.settings import Settings
from secateurs.learners.run.training import divergence
from secateurs.learners.run.training.distillation import remembered
from secateurs.learners.run.training.judging import Judge, judging_samples, judging_split
from secateurs.learners.run.training.rates import Rates
from secateurs.learners.run.training.trainer import weight_decay
from secateurs.learners.run.training.trials import Candidate, best_candidates, search
from secateurs.learners.run.training.workers import Workers
from secateurs.learners.weights.configs import WsConfig
from secateurs.learners.weights.regression import Regression, regression_of
from secateurs.learners.weights.search import (
  OBJECTIVES,
  TOTAL,
  Reward,
  kernel_parts,
  propose,
  summary,
)
from secateurs.learners.weights.sensitivity import equal_harm, scan
from secateurs.learners.weights.state import WsState
from secateurs.utils.training import distributed
from secateurs.utils.training.engine.loop import TrainStep
from secateurs.utils.training.engine.masks import MaskSet
from secateurs.utils.training.layerwise.maps import MapStore
from secateurs.utils.training.tasks.objectives import TaskObjective


@dataclasses.dataclass(frozen=True)
class Site:
  """The run whose kernels are measured.

  Attributes:
    settings: data, task and seed.
    rates: batch size, optimizers.
    model: the trained network, in the precision of the training.
    prunable: the kernels of a model that are made sparse, by name.
    objective: what training of a network minimises.
    trials: the file of the search.
    augment: augmentation of training.
    sample_augment: augmentation of images that sums are taken of.
    store: gives a store of feature maps, within the run's memory.
  """

  settings: Settings
  rates: Rates
  model: keras.Model
  prunable: Callable[[keras.Model], Mapping[str, tf.Variable]]
  objective: Callable[[keras.Model], TaskObjective]
  trials: Callable[[], Path]
  augment: str
  sample_augment: str
  store: Callable[[], MapStore]

  @classmethod
  def of(
    cls,
    learner: CompressionLearner,
    prunable: Callable[[keras.Model], Mapping[str, tf.Variable]],
    trials: Callable[[], Path],
  ) -> Site:
    """The run of a learner; `prunable` and `trials` as above."""
    return cls(
      learner.settings,
      learner.rates,
      learner.model,
      prunable,
      learner.objective,
      trials,
      learner.augmentation,
      learner.sample_augmentation,
      lambda: learner.budget.store(),
    )


class MeasuredAllocation:
  """Kept weights by kernel name, from what each kernel was measured to lose."""

  def __init__(
    self, site: Site, config: WsConfig, state: WsState, save: Callable[[], None]
  ) -> None:
    """`state` receives the curves and the search; `save` writes a checkpoint in the middle of it."""
    self._site, self._config, self._state, self._save = site, config, state, save

  def by_sensitivity(self, sizes: Mapping[str, int]) -> dict[str, int]:
    """Each kernel is pruned until the loss rises equally; `sizes` are weights by kernel name."""
    site, config = self._site, self._config
    copies = [site.settings.in_training_precision(self._copy()) for _ in range(config.jobs - 1)]
    networks = [(model, site.prunable(model)) for model in (site.model, *copies)]
    helper = site.settings.helper
    samples = judging_samples(helper, config.nb_judged(site.rates.batch_size))
    by_sigma = config.scan == 'sigma'
    curves = scan(networks, samples, helper.task, config.zeros, by_sigma=by_sigma)
    self._state.sensitivity = curves
    return equal_harm(curves, sizes, config.ratio)

  def by_search(self, sizes: Mapping[str, int]) -> dict[str, int]:
    """The best of some candidates, each pruned, regressed and trained shortly."""
    config, state, settings = self._config, self._state, self._site.settings
    path = self._site.trials()
    # Trials run on separate networks, so that nothing of them is left in the run's.
    models = [self._copy() for _ in range(config.jobs)]
    regression = self._regression(models[0])
    if state.divergence is None:
      self._scan(models, regression)
    trials = search(
      [*sizes, TOTAL] if config.reward_type == 'multi-obj' else list(sizes),
      lambda factors: propose(state.divergence, sizes, config.ratio, factors),
      self._rewards(models, regression),
      path,
      nb_trials=config.nb_rlouts,
      nb_random=config.nb_rlouts_min,
      seed=settings.run.seed,
      say=say,
      save=self._save,
      every=5,
    )
    best = best_candidates(trials, 1)[0]
    state.search = summary(trials, best, judging_split(settings.helper))
    return best.counts

  def _judge(self, model: keras.Model) -> Judge:
    helper = self._site.settings.helper
    nb_samples = self._config.nb_judged(self._site.rates.batch_size)
    return Judge(model, *judging_samples(helper, nb_samples), helper.task)

  def _copy(self) -> keras.Model:
    settings = self._site.settings
    model = settings.in_float32(settings.helper.build_model(settings.run.seed))
    model.set_weights(self._site.model.get_weights())
    return model

  def _scan(self, models: Sequence[keras.Model], regression: Regression) -> None:
    config, helper, site = self._config, self._site.settings.helper, self._site
    parts, *others = [
      kernel_parts(model, site.prunable(model), config.zeros, regression, config.ratio)
      for model in models
    ]
    images, _ = judging_samples(helper, divergence.NB_IMAGES)
    further = list(zip(models[1:], others, strict=True))
    self._state.divergence = divergence.scan(
      models[0], parts, images, helper.task, _say_divergence, further=further
    )
    self._save()

  def _regression(self, model: keras.Model) -> Regression:
    config, settings = self._config, self._site.settings
    return regression_of(
      model,
      list(self._site.prunable(model)),
      lambda size: settings.helper.train_batches(
        size, settings.stream_seed('gram'), augment=self._site.sample_augment
      ),
      seed=settings.run.seed,
      nb_iters=config.nb_iters_rg,
      rate=config.lrn_rate_rg,
      store=self._site.store(),
    )

  def _rewards(
    self, models: Sequence[keras.Model], regression: Regression
  ) -> Workers[Candidate, float]:
    """Of candidates, on models that it may change."""
    config, rates, settings = self._config, self._site.rates, self._site.settings
    models = [settings.in_training_precision(model) for model in models]
    objectives = [self._site.objective(model) for model in models]
    stream = settings.helper.train_batches(
      rates.batch_size,
      settings.stream_seed('search'),
      augment=self._site.augment,
      shard=distributed.shard(),
    )
    batches = remembered(objectives[0], stream, config.nb_iters_ft)
    return Workers(
      [
        self._reward(model, objective, batches, regression)
        for model, objective in zip(models, objectives, strict=True)
      ]
    )

  def _reward(
    self,
    model: keras.Model,
    objective: TaskObjective,
    batches: tf.data.Dataset,
    regression: Regression,
  ) -> Reward:
    config, rates = self._config, self._site.rates
    kernels = self._site.prunable(model)
    masks = MaskSet(list(kernels.values()), config.zeros)
    # As the run itself trains, so that what is best for the one is so for the other.
    peak = rates.scaled(config.lrn_rate_ft)
    step = TrainStep(
      objective,
      model.trainable_variables,
      rates.fine_tune_optimizer(config.nb_iters_ft, masks, peak),
      penalties=weight_decay(rates, model),
      constraints=[masks],
      compression=self._site.settings.training.grad_compression,
      batch_size=rates.batch_size_total,
    )
    return Reward(
      model,
      kernels,
      masks,
      regression,
      step,
      batches,
      self._judge(model),
      config.nb_iters_ft,
      OBJECTIVES[config.reward_type],
    )


def _say_divergence(number: int, total: int, name: str, curve: divergence.Curve) -> None:
  shown = divergence.describe(curve)
  say(f'scan  kernel {number}/{total}  {name}: divergence with so many zeros  {shown}')
