"""WeightSparseLearner: sets small weights to zero and trains on.

Zhu & Gupta 2017, "To prune, or not to prune" (arXiv:1710.01878): sparsity rises from s_i to s_f along

  s_t = s_f + (s_i - s_f) (1 - (t - t_0) / (n Delta t))^3                                (eq. 1)

while the network trains, and the weights of least magnitude go in each kernel (`agp`). The other
schedules: `iterative`, Han et al. 2015 (arXiv:1506.02626): prune some, retrain the survivors from the
values they have, prune more; and `one-shot`: prune all at once, then retrain.

How the ratio is spread over the kernels: `uniform`; `heurist`, more from large kernels
(`sparse_ratios.heuristic`); `sensitivity`, as much from each as harms alike (`sensitivity`); `optimal`,
measured and searched (`sparse_search`).

Deviations. Masks apply to the weights behind the optimizer's step, and a masked weight is compared by
the value it last had. The smallest kernels stay dense (`ws_dense_share`), as in Zhu & Gupta's own
experiments with MobileNet: they hold few weights and pay most. Exponent, start and end of the rise are
flags. Iterative pruning thresholds per kernel, as Han et al. do, but from the scan and not by hand.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

from secateurs.learners import divergence, register
from secateurs.learners.abstract_learner import Phase
from secateurs.learners.compression import CompressionLearner
from secateurs.learners.distillation import remembered
from secateurs.learners.judging import Judge, judging_notes, judging_samples, judging_split
from secateurs.learners.measuring import prunable_kernels
from secateurs.learners.sensitivity import Curve, equal_harm, scan
from secateurs.learners.sparse_patterns import parse_pattern
from secateurs.learners.sparse_ratios import dense_kernels, heuristic, uniform
from secateurs.learners.sparse_search import (
  OBJECTIVES,
  TOTAL,
  Regression,
  Reward,
  gram_matrices,
  kernel_parts,
  propose,
)
from secateurs.learners.trials import best_candidates, require_optuna, search
from secateurs.learners.xnnpack_policy import XNNPACK_NOTE, xnnpack_kernels
from secateurs.utils.config import Config, option
from secateurs.utils.deploy import UNSTRUCTURED_NOTE
from secateurs.utils.errors import UserError
from secateurs.utils.training import distributed
from secateurs.utils.training.loop import Event, TrainStep
from secateurs.utils.training.masks import MaskSet
from secateurs.utils.training.patterns import MByN, Pattern, Unstructured

_MIN_UPDATES = 20
_MAX_UPDATE_STEP = 100
_BELOW_ONE = math.nextafter(1.0, 0.0)
_DEFAULT_RATIO = 0.75
_GRAM_IMAGES, _GRAM_BATCH, _GRAM_POINTS = 1024, 64, 10
_PROTOCOLS = ('uniform', 'heurist', 'sensitivity', 'optimal')


@dataclasses.dataclass(frozen=True)
class WsConfig(Config):
  """Hyper-parameters of `weight-sparse`."""

  prefix = 'ws_'

  save_path: str = option(
    './models_ws/model.ckpt', 'Checkpoints of the sparse model.', affects_result=False
  )
  save_path_eval: str = option(
    './models_ws_eval/model', 'Exported sparse model, without ending.', affects_result=False
  )
  prune_ratio: float | None = option(
    None,
    'Share of zeros in the prunable kernels at the end; default: 0.75, or what ws_m_by_n gives.',
    low=0.0,
    high=1.0,
  )
  prune_ratio_init: float = option(
    0.0, 'Share of zeros in each kernel at the first mask update.', low=0.0, high=1.0
  )
  prune_ratio_prtl: str | None = option(
    None,
    'How the ratio is spread over the kernels: uniform, heurist (more from large ones), sensitivity '
    '(as much from each as harms alike, by a scan), or optimal (searched); default: uniform, but '
    'sensitivity where ws_schedule is iterative.',
    choices=_PROTOCOLS,
  )
  prune_ratio_exp: float = option(3.0, 'Exponent of the schedule.', low=0.0)
  schedule: str = option(
    'agp',
    'When weights go: agp (gradually while training), iterative (prune and retrain in rounds), or '
    'one-shot (all at once, then retrain).',
    choices=('agp', 'iterative', 'one-shot'),
  )
  nb_rounds: int = option(4, 'Rounds of iterative pruning.', low=1)
  iter_ratio_beg: float = option(
    0.1, 'Share of the steps behind which sparsity starts to rise, for agp.', low=0.0, high=1.0
  )
  iter_ratio_end: float = option(
    0.5, 'Share of the steps behind which sparsity has risen, for agp.', low=0.0, high=1.0
  )
  mask_update_step: int | None = option(
    None, 'Steps between two mask updates; default: 100, fewer where 20 updates need it.', low=1
  )
  dense_share: float = option(
    0.015,
    'The smallest kernels stay dense while together they hold no more than this share of all.',
    low=0.0,
    high=1.0,
  )
  block_size: str = option(
    '1x1', 'Zeros come in blocks of so many inputs times outputs of a kernel, such as 1x4.'
  )
  m_by_n: str | None = option(
    None, 'Of so many neighbouring inputs so many are zero, such as 2,4 for two of four.'
  )
  policy: str | None = option(
    None,
    'Which kernels are pruned: those that a runtime has sparse kernels for (xnnpack); default: all.',
    choices=('xnnpack',),
  )
  scan: str = option(
    'ratio',
    'What the sensitivity scan varies: ratio (shares of weights) or sigma (thresholds as multiples of '
    "a kernel's standard deviation).",
    choices=('ratio', 'sigma'),
  )
  nb_smpls_scan: int = option(2000, 'Images that scan and search judge on.', low=1)
  nb_rlouts: int = option(
    200, 'Candidates that optimal tries; 1 takes what the measured curves give.', low=1
  )
  nb_rlouts_min: int = option(50, 'Of these, how many are drawn at random first.', low=1)
  nb_iters_rg: int = option(20, 'Steps of layer-wise regression in a trial.', low=0)
  lrn_rate_rg: float = option(
    1.0, 'Their length, as a share of the longest that cannot diverge.', low=0.0, high=1.0
  )
  nb_iters_ft: int = option(100, 'Steps of training in a trial.', low=0)
  lrn_rate_ft: float = option(
    0.01, 'Peak learning rate of training in a trial, by the optimizer of the run.', low=0.0
  )
  nb_iters_feval: int | None = option(
    None, 'Batches that a trial is judged on; default: what ws_nb_smpls_scan gives.', low=1
  )
  reward_type: str = option(
    'single-obj',
    'What optimal looks for: accuracy (single-obj), or accuracy and few weights (multi-obj).',
    choices=tuple(OBJECTIVES),
  )

  def __post_init__(self) -> None:
    super().__post_init__()
    pattern = self.pattern
    if isinstance(pattern, MByN) and self.prune_ratio not in (None, pattern.ratio):
      raise UserError(
        f'--ws_m_by_n {self.m_by_n} makes {pattern.ratio:g} of the weights zero, but --ws_prune_ratio '
        f'{self.prune_ratio} was given: leave one of the two out.'
      )
    if isinstance(pattern, MByN) and self.protocol != 'uniform':
      raise UserError(
        f'--ws_m_by_n {self.m_by_n} makes the same share of every kernel zero, but '
        f'--ws_prune_ratio_prtl {self.protocol} was given: leave one of the two out.'
      )
    for low, first, high, last in (
      ('prune_ratio_init', self.prune_ratio_init, 'prune_ratio', self.ratio),
      ('iter_ratio_beg', self.iter_ratio_beg, 'iter_ratio_end', self.iter_ratio_end),
    ):
      if first > last:
        raise UserError(
          f'--ws_{low} must not exceed --ws_{high}, but {first} and {last} were given.'
        )

  @functools.cached_property
  def pattern(self) -> Pattern:
    """Where zeros may lie."""
    return parse_pattern(self.block_size, self.m_by_n)

  @property
  def ratio(self) -> float:
    """Share of zeros in the prunable kernels at the end."""
    if isinstance(self.pattern, MByN):
      return self.pattern.ratio
    return _DEFAULT_RATIO if self.prune_ratio is None else self.prune_ratio

  @property
  def protocol(self) -> str:
    """How the ratio is spread over the kernels."""
    if self.prune_ratio_prtl is not None:
      return self.prune_ratio_prtl
    fixed = isinstance(self.pattern, MByN)
    return 'sensitivity' if self.schedule == 'iterative' and not fixed else 'uniform'


def update_steps(nb_steps: int, config: WsConfig) -> list[int]:
  """Steps behind which masks are updated in a run of `nb_steps`: at least one, the last included.

  Where the schedule has room for it, there are at least 20 updates.
  """
  begin = max(round(config.iter_ratio_beg * nb_steps), 1)
  end = max(round(config.iter_ratio_end * nb_steps), begin)
  every = config.mask_update_step
  if every is None:
    every = max(min((end - begin) // _MIN_UPDATES, _MAX_UPDATE_STEP), 1)
  return sorted({*range(begin, end, every), end})


def sparsity_at(step: int, steps: list[int], config: WsConfig) -> float:
  """The target sparsity in [0, 1] behind a step, for a schedule with updates at `steps`.

  tfmot's PolynomialDecay computes the polynomial; it takes no ratio of 1, which the last update
  sets exactly.
  """
  begin, end = steps[0], steps[-1]
  if step < begin:
    return 0.0
  if step >= end:
    return config.ratio
  from tensorflow_model_optimization.sparsity.keras import PolynomialDecay

  first, last = (min(r, _BELOW_ONE) for r in (config.prune_ratio_init, config.ratio))
  schedule = PolynomialDecay(first, last, begin, end, config.prune_ratio_exp, frequency=1)
  return float(schedule(tf.constant(step, tf.int64))[1])


def round_density(number: int, nb_rounds: int, density: float) -> float:
  """Share of a kernel's weights that stay behind round `number` (from 1): geometric steps."""
  return density ** (number / nb_rounds)


@register
class WeightSparseLearner(CompressionLearner):
  """Trains the baseline on while its kernels' smallest weights are set to zero, ever more of them."""

  name = 'weight-sparse'
  Config = WsConfig
  # ResNet-20 on CIFAR-10 at 90 %, all kernels: 79.9 % after 6 epochs at a rate of 0.01, but 80.6 % and
  # 81.4 % after 3 epochs at 0.05 and 0.1.
  fine_tune_factor = 0.5
  leaves_zeros = True

  def compression_phases(self) -> list[Phase]:
    """Where the ratios come from, then the training in which sparsity rises and then stays."""
    config = self.config
    if config.ratio == 0:
      return [Phase('sparsify', lambda: self.say(self.notes()[0]))]
    phases = [Phase('allot', self._allot)]
    if config.schedule == 'iterative':
      return phases + [
        Phase(f'round{number}', functools.partial(self._round, number))
        for number in range(1, config.nb_rounds + 1)
      ]
    return [*phases, Phase('sparsify', self._sparsify)]

  def prepare(self) -> None:
    """Makes the masks, and asks for what a search will need."""
    if self.config.protocol == 'optimal' and 'kept' not in self.state['algorithm']:
      require_optuna(self.config.nb_rlouts)
    self._kernels = self.prunable(self.model)
    self._masks = MaskSet(list(self._kernels.values()), self.config.pattern)

  def prunable(self, model: keras.Model) -> dict[str, tf.Variable]:
    """The kernels that are made sparse: all that the pattern and the policy fit, but the smallest."""
    config = self.config
    kernels = prunable_kernels(model)
    if config.policy == 'xnnpack':
      chosen = xnnpack_kernels(model, kernels)
    else:
      sizes = {name: int(np.prod(kernel.shape)) for name, kernel in kernels.items()}
      chosen = set(kernels) - dense_kernels(sizes, config.dense_share)
    found = {
      n: k for n, k in kernels.items() if n in chosen and config.pattern.fits(tuple(k.shape))
    }
    if not found:
      raise UserError(
        f'No kernel of {self.helper.net} can have the zeros that --ws_block_size {config.block_size} '
        f'or --ws_m_by_n {config.m_by_n} ask for: choose smaller blocks.'
      )
    return found

  def extra_variables(self) -> Mapping[str, tf.Variable]:
    """Masks and the values behind them."""
    return self._masks.tensors(list(self._kernels))

  def requested(self) -> dict[str, Any]:
    """The sparsity over the prunable kernels."""
    return {'sparsity': self.config.ratio}

  def extra(self) -> dict[str, Any]:
    """The kept weights by kernel, and what they were chosen from."""
    keys = ('kept', 'sensitivity', 'divergence', 'search')
    return {key: self.state['algorithm'][key] for key in keys if key in self.state['algorithm']}

  def notes(self) -> list[str]:
    """What zeros alone do not do, and what extreme ratios do."""
    config = self.config
    if config.ratio == 0:
      return ['--ws_prune_ratio 0 prunes nothing: the model is the baseline.']
    notes = []
    if config.policy == 'xnnpack':
      notes.append(XNNPACK_NOTE)
    elif isinstance(config.pattern, Unstructured):
      notes.append(UNSTRUCTURED_NOTE)
    if config.ratio == 1:
      notes.insert(0, '--ws_prune_ratio 1 leaves one weight in each kernel.')
    dense = sorted(set(prunable_kernels(self.model)) - set(self._kernels))
    if dense:
      notes.append(f'Left dense: {", ".join(dense)}.')
    if config.protocol in ('sensitivity', 'optimal'):
      notes += judging_notes(self.helper)
    return notes

  # How much goes where.

  def _sizes(self) -> dict[str, int]:
    return {name: int(np.prod(kernel.shape)) for name, kernel in self._kernels.items()}

  def _allot(self) -> None:
    config, sizes = self.config, self._sizes()
    if config.ratio == 1:
      self.say(f'Warning: {self.notes()[0]}')
    if not self.fine_tune_steps():
      raise UserError(
        'weight-sparse prunes while it trains, but --nb_epochs_ft or --nb_epochs_rat leaves it no '
        'step: give it some epochs.'
      )
    if config.protocol == 'uniform' or config.ratio == 1:
      kept = uniform(sizes, config.ratio)
    elif config.protocol == 'heurist':
      kept = heuristic(sizes, config.ratio)
    elif config.protocol == 'sensitivity':
      kept = self._by_sensitivity(sizes)
    else:
      kept = self._by_search(sizes)
    self.state['algorithm']['kept'] = kept

  def _judge(self, model: keras.Model) -> Judge:
    config, nb_samples = self.config, self.config.nb_smpls_scan
    if config.nb_iters_feval is not None:
      nb_samples = config.nb_iters_feval * self.batch_size
    return Judge(model, *judging_samples(self.helper, nb_samples), self.helper.criteria)

  def _by_sensitivity(self, sizes: dict[str, int]) -> dict[str, int]:
    judge = self._judge(self.model)
    self.say_judging()

    def tell(number: int, total: int, name: str, curve: Curve) -> None:
      losses = ', '.join(f'{ratio:.2f}: {loss:.3f}' for ratio, loss in curve[1::3])
      self.say(f'scan  kernel {number}/{total}  {name}: loss at sparsity {losses}')

    curves = scan(
      self._kernels,
      judge.loss,
      self.config.pattern,
      by_sigma=self.config.scan == 'sigma',
      progress=tell,
    )
    self.state['algorithm']['sensitivity'] = curves
    return equal_harm(curves, sizes, self.config.ratio)

  def _by_search(self, sizes: dict[str, int]) -> dict[str, int]:
    config, state = self.config, self.state['algorithm']
    path = self.trials_path()
    self.say_judging()
    # Trials run on a network of their own, so that nothing of them is left in the run's.
    model = self.in_float32(self.helper.build_model(self.run_config.seed))
    model.set_weights(self.model.get_weights())
    regression = self._regression(model)
    parts = kernel_parts(model, self.prunable(model), config.pattern, regression, config.ratio)
    if 'divergence' not in state:
      images, _ = judging_samples(self.helper, divergence.NB_IMAGES)
      state['divergence'] = divergence.scan(model, parts, images, self._say_curve)
      self.save_search()
    curves = state['divergence']
    trials = search(
      [*sizes, TOTAL] if config.reward_type == 'multi-obj' else list(sizes),
      lambda factors: propose(curves, sizes, config.ratio, factors),
      self._reward(model, regression),
      path,
      nb_trials=config.nb_rlouts,
      nb_random=config.nb_rlouts_min,
      seed=self.run_config.seed,
      say=self.say,
      save=self.save_search,
      every=5,
    )
    best = best_candidates(trials, 1)[0]
    state['search'] = {
      'trials': len(trials),
      'best_trial': best.number,
      'reward': best.reward,
      'reward_by_curves': trials[0].reward,
      'reward_uniform': trials[1].reward if len(trials) > 1 else None,
      'weights': best.cost,
      'split': judging_split(self.helper),
    }
    return best.counts

  def _say_curve(self, number: int, total: int, name: str, curve: divergence.Curve) -> None:
    shown = divergence.describe(curve)
    self.say(f'scan  kernel {number}/{total}  {name}: divergence with so many zeros  {shown}')

  def _regression(self, model: keras.Model) -> Regression:
    """Of the kernels' outputs over some images."""
    config = self.config
    index, nb_ranks = distributed.shard()
    samples = self.helper.train_batches(
      _GRAM_BATCH, self.stream_seed('gram'), augment=self.sample_augmentation
    )
    mine = samples.take(_GRAM_IMAGES // _GRAM_BATCH).shard(nb_ranks, index)
    batches = [images.numpy() for images, _ in mine]
    grams = gram_matrices(
      model, list(self._kernels), batches, seed=self.run_config.seed, points=_GRAM_POINTS
    )
    return Regression(grams, config.nb_iters_rg, config.lrn_rate_rg)

  def _reward(self, model: keras.Model, regression: Regression) -> Reward:
    """Of candidates on a model that it may change."""
    config, model = self.config, self.in_training_precision(model)
    kernels = self.prunable(model)
    masks = MaskSet(list(kernels.values()), config.pattern)
    objective = self.classification(model)
    step = TrainStep(
      objective,
      model.trainable_variables,
      # As the run itself trains, so that what is best for the one is so for the other.
      self.fine_tune_optimizer(config.nb_iters_ft, masks, self.scaled_rate(config.lrn_rate_ft)),
      weight_decay=self.weight_decay,
      decayed=self.decayed_variables(model),
      masks=masks,
      compression=self.train_config.grad_compression,
    )
    batches = self.helper.train_batches(
      self.batch_size,
      self.stream_seed('search'),
      augment=self.augmentation,
      shard=distributed.shard(),
    )
    return Reward(
      model,
      kernels,
      masks,
      regression,
      step,
      remembered(objective, batches, config.nb_iters_ft),
      self._judge(model),
      config.nb_iters_ft,
      OBJECTIVES[config.reward_type],
    )

  # Pruning and training.

  def _ratios(self) -> list[float]:
    """Final sparsity of each kernel."""
    kept = self.state['algorithm']['kept']
    return [1 - kept[name] / size for name, size in self._sizes().items()]

  def _sparsify(self) -> None:
    """Sparsity rises along the schedule, in each kernel in proportion to its final one."""
    config, nb_steps = self.config, self.fine_tune_steps()
    ratios = self._ratios()
    if config.schedule == 'one-shot':
      if self.starts_over('sparsify'):
        self._masks.update(ratios)
      self._train('sparsify', nb_steps)
      return
    steps = update_steps(nb_steps, config)

    def update(step: int, means: dict[str, float]) -> None:
      del means
      progress = sparsity_at(step, steps, config) / config.ratio
      self._masks.update([progress * ratio for ratio in ratios])

    self._train('sparsify', nb_steps, [Event(update, at=steps)])

  def _round(self, number: int) -> None:
    """One round of iterative pruning: what has gone stays gone, survivors keep their values."""
    config, phase = self.config, f'round{number}'
    nb_steps = self.fine_tune_steps() // config.nb_rounds
    if number == config.nb_rounds:
      nb_steps = self.fine_tune_steps() - (number - 1) * nb_steps
    if self.starts_over(phase):
      densities = [1 - ratio for ratio in self._ratios()]
      self._masks.update(
        [1 - round_density(number, config.nb_rounds, density) for density in densities],
        revive=False,
      )
    if nb_steps:
      self._train(phase, nb_steps)

  def _train(self, phase: str, nb_steps: int, events: list[Event] | None = None) -> None:
    self.fit(
      phase,
      self.classification(),
      self.fine_tune_optimizer(nb_steps, self._masks),
      nb_steps=nb_steps,
      masks=self._masks,
      events=events or [],
      extra_metrics=lambda: {'sparsity': self._masks.sparsity()},
    )
