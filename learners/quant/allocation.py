"""Bits by layer from what each kernel was measured to lose: by a solver, or by a search around it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

import numpy as np
import tensorflow as tf
import tf_keras as keras

from secateurs.learners.quant.bits import BitTable, losses_of, propose, solve
from secateurs.learners.quant.configs import UqlConfig
from secateurs.learners.quant.containers import containers_of
from secateurs.learners.quant.grids import BinaryProjection, GridProjection, rounded_kernel
from secateurs.learners.quant.state import UqlState
from secateurs.learners.run.console import say
from secateurs.learners.run.training import divergence
from secateurs.learners.run.training.distillation import remembered
from secateurs.learners.run.training.divergence import Part
from secateurs.learners.run.training.judging import Judge, judging_samples, judging_split
from secateurs.learners.run.training.trainer import weight_decay
from secateurs.learners.run.training.trials import Candidate, best_candidates, search
from secateurs.learners.run.training.workers import Workers
from secateurs.learners.weights.allocation import Site
from secateurs.utils.buckets import Buckets, buckets_of
from secateurs.utils.deploy import tflite_bytes
from secateurs.utils.errors import UserError
from secateurs.utils.graph.flat.walk import flatten_model
from secateurs.utils.training import distributed
from secateurs.utils.training.engine.loop import TrainStep
from secateurs.utils.training.engine.shadow import ShadowWeights
from secateurs.utils.training.tasks.objectives import TaskObjective

_DIVERGED = -1e9
_BYTES_PER_CHANNEL = 24  # Scale, zero point and index of a channel beside its weights.


def buckets_by_name(kernels: Mapping[str, tf.Variable], config: object) -> dict[str, Buckets]:
  """The buckets of kernels by a config's bucket_kind and bucket_size."""
  return {
    name: buckets_of(
      kernel.name.split(':')[0], tuple(kernel.shape), config.bucket_kind, config.bucket_size
    )
    for name, kernel in kernels.items()
  }


def shadows(
  kernels: Mapping[str, tf.Variable], config: UqlConfig, bits: Mapping[str, int]
) -> ShadowWeights:
  """Kernels on grids; `bits` by kernel name."""
  buckets = buckets_by_name(kernels, config)
  return ShadowWeights(
    kernels,
    {
      name: BinaryProjection(buckets[name])
      if bits[name] == 1
      else GridProjection(buckets[name], bits[name], symmetric=config.symmetric, clip=config.clip)
      for name in kernels
    },
  )


class BitAllocation:
  """Bits by kernel name that meet the budget of a config."""

  def __init__(
    self, site: Site, config: UqlConfig, state: UqlState, save: Callable[[], None]
  ) -> None:
    """`state` receives the curves and the search; `save` writes a checkpoint in the middle of it."""
    self._site, self._config, self._state, self._save = site, config, state, save
    self._options = list(range(config.w_bit_min, config.w_bit_max + 1))

  def by_divergence(self) -> dict[str, int]:
    """The least sum of measured divergences.

    Raises:
      UserError: the budget cannot be met.
    """
    return solve(self._table())

  def by_search(self) -> dict[str, int]:
    """The best of some candidates, each rounded and trained shortly.

    Raises:
      UserError: the budget cannot be met.
    """
    config, state, settings = self._config, self._state, self._site.settings
    path = self._site.trials()
    table = self._table()
    trials = search(
      list(table.names),
      functools.partial(propose, table),
      self._rewards(),
      path,
      nb_trials=config.nb_rlouts,
      nb_random=config.nb_rlouts_min,
      seed=settings.run.seed,
      say=say,
      save=self._save,
      every=5,
    )
    best = best_candidates(trials, 1)[0]
    state.search = {
      'trials': len(trials),
      'best_trial': best.number,
      'reward': best.reward,
      'reward_by_curves': trials[0].reward,
      'reward_uniform': trials[1].reward if len(trials) > 1 else None,
      'split': judging_split(settings.helper),
    }
    return best.counts

  def _table(self) -> BitTable:
    config, site = self._config, self._site
    kernels = site.prunable(site.model)
    sizes = np.array([float(np.prod(kernel.shape)) for kernel in kernels.values()])
    if config.equivalent_bits is not None:
      costs = sizes[:, None] * np.array(self._options, float)
      budget = config.equivalent_bits * sizes.sum()
    else:
      costs, budget = self._bytes(kernels, sizes)
    least = costs.min(axis=1).sum()
    if least > budget:
      raise UserError(
        f'--uql_target_bytes {config.target_bytes} cannot be met: all but the kernels leave '
        f'{budget:.0f} bytes for them, and they need {least:.0f}: give more bytes.'
      )
    if self._state.divergence is None:
      self._scan()
    losses = losses_of(self._state.divergence, list(kernels), self._options)
    return BitTable(list(kernels), self._options, losses, costs, budget)

  def _bytes(
    self, kernels: Mapping[str, tf.Variable], sizes: np.ndarray
  ) -> tuple[np.ndarray, float]:
    """Bytes of kernels in the file by their bits, and what all but the kernels leave of the target."""
    settings, config = self._site.settings, self._config
    model = settings.helper.task.deployable(settings.in_float32(self._site.model))
    containers = containers_of(self._site.model, kernels)
    channels = sum(one.channels for one in containers)
    others = len(tflite_bytes(model)) - 4 * sizes.sum() + _BYTES_PER_CHANNEL * channels
    held = [[one.bits(bits, config) for bits in self._options] for one in containers]
    return sizes[:, None] * np.array(held, float) / 8, config.target_bytes - others

  def _scan(self) -> None:
    """Rounds one kernel at a time, on separate networks."""
    helper = self._site.settings.helper
    models = [self._copy() for _ in range(self._config.jobs)]
    (model, parts), *further = [(model, self._parts(model)) for model in models]
    images, _ = judging_samples(helper, divergence.NB_IMAGES)
    self._state.divergence = divergence.scan(
      model, parts, images, helper.task, self._say, further=further
    )
    self._save()

  def _parts(self, model: keras.Model) -> list[Part]:
    config = self._config
    kernels = self._site.prunable(model)
    buckets = buckets_by_name(kernels, config)
    first: dict[int, int] = {}
    for index, call in enumerate(flatten_model(model).calls):
      for weight in call.layer.weights:
        first.setdefault(id(weight), index)

    def part(name: str, kernel: tf.Variable) -> Part:
      weights = kernel.numpy()

      def round_to(bits: int) -> None:
        kernel.assign(
          rounded_kernel(weights, buckets[name], bits, symmetric=config.symmetric, clip=config.clip)
        )

      points = [(1 - b / 32, functools.partial(round_to, b)) for b in reversed(self._options)]
      return Part(name, first[id(kernel)], points, functools.partial(kernel.assign, weights))

    return [part(name, kernel) for name, kernel in kernels.items()]

  def _say(self, number: int, total: int, name: str, curve: divergence.Curve) -> None:
    shown = ', '.join(f'{round(32 * (1 - gone))}: {loss:.4f}' for gone, loss in curve[1:])
    say(f'scan  kernel {number}/{total}  {name}: divergence by bits  {shown}')

  def _copy(self) -> keras.Model:
    settings = self._site.settings
    model = settings.in_float32(settings.helper.build_model(settings.run.seed))
    model.set_weights(self._site.model.get_weights())
    return model

  def _rewards(self) -> Workers[Candidate, float]:
    """Of candidates: the score on held-out samples after a short training."""
    config, site = self._config, self._site
    settings, nb_steps = site.settings, config.nb_iters_ft
    models = [settings.in_training_precision(self._copy()) for _ in range(config.jobs)]
    objectives = [site.objective(model) for model in models]
    stream = settings.helper.train_batches(
      site.rates.batch_size,
      settings.stream_seed('search'),
      augment=site.augment,
      shard=distributed.shard(),
    )
    batches = remembered(objectives[0], stream, nb_steps) if nb_steps else None
    return Workers(
      [
        self._reward(model, objective, batches)
        for model, objective in zip(models, objectives, strict=True)
      ]
    )

  def _reward(
    self, model: keras.Model, objective: TaskObjective, batches: tf.data.Dataset | None
  ) -> Callable[[Candidate], float]:
    config, site = self._config, self._site
    settings, rates = site.settings, site.rates
    kernels = site.prunable(model)
    weights = shadows(kernels, config, dict.fromkeys(kernels, config.w_bit_max))
    step = TrainStep(
      objective,
      model.trainable_variables,
      rates.fine_tune_optimizer(
        config.nb_iters_ft, weights.masks, rates.scaled(config.lrn_rate_ft)
      ),
      penalties=weight_decay(rates, model),
      constraints=[weights],
      compression=settings.training.grad_compression,
      batch_size=rates.batch_size_total,
    )
    judge = Judge(
      model, *judging_samples(settings.helper, config.nb_smpls_scan), settings.helper.task
    )
    begin = model.get_weights(), [variable.numpy() for variable in step.optimizer.variables]

    def reward(candidate: Candidate) -> float:
      model.set_weights(begin[0])
      for variable, value in zip(step.optimizer.variables, begin[1], strict=True):
        variable.assign(value)
      for name, bits in candidate.counts.items():
        weights.projections[name].bits = bits
      weights.start()
      if batches is not None:
        done, _ = step.run(iter(batches), config.nb_iters_ft)
        if done < config.nb_iters_ft:
          return _DIVERGED
        distributed.mean_variables(model.non_trainable_weights)
      return judge.goodness()

    return reward
