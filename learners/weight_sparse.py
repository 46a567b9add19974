"""WeightSparseLearner: gradual magnitude pruning of single weights.

Zhu & Gupta 2017, "To prune, or not to prune" (arXiv:1710.01878), equation 1: over n updates, every
dt steps from step t0 on, the sparsity rises from s_i to s_f as

  s_t = s_f + (s_i - s_f) * (1 - (t - t0) / (n dt)) ^ 3

and each update keeps the weights of the greatest magnitude in each kernel. Deviations: a pruned weight
keeps its last value in a backup, from which later updates choose (the paper's implementation hides the
weight behind a mask instead, where it goes on being decayed); the exponent is a flag; the last update
is always at the last step of the schedule, so that short runs reach the target, too. The paper leaves
a MobileNet's first and depthwise kernels dense, because they hold few of its weights (1.1 %); here the
same reason holds for any network (`dense_kernels`).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

from secateurs.learners import register
from secateurs.learners.abstract_learner import Phase
from secateurs.learners.compression import CompressionLearner
from secateurs.learners.measuring import prunable_kernels
from secateurs.utils.config import Config, option
from secateurs.utils.deploy import UNSTRUCTURED_NOTE
from secateurs.utils.errors import UserError
from secateurs.utils.training.loop import Event
from secateurs.utils.training.masks import MaskSet

_MIN_UPDATES = 20
_MAX_UPDATE_STEP = 100
_BELOW_ONE = math.nextafter(1.0, 0.0)


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
  prune_ratio: float = option(0.75, 'Share of zeros in each kernel at the end.', low=0.0, high=1.0)
  prune_ratio_init: float = option(
    0.0, 'Share of zeros in each kernel at the first mask update.', low=0.0, high=1.0
  )
  prune_ratio_prtl: str = option(
    'uniform', 'How the ratio is spread over the layers.', choices=('uniform',)
  )
  prune_ratio_exp: float = option(3.0, 'Exponent of the schedule.', low=0.0)
  iter_ratio_beg: float = option(
    0.1, 'Share of the steps behind which sparsity starts to rise.', low=0.0, high=1.0
  )
  iter_ratio_end: float = option(
    0.5, 'Share of the steps behind which sparsity has risen.', low=0.0, high=1.0
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

  def __post_init__(self) -> None:
    super().__post_init__()
    for low, high in (
      ('prune_ratio_init', 'prune_ratio'),
      ('iter_ratio_beg', 'iter_ratio_end'),
    ):
      if getattr(self, low) > getattr(self, high):
        raise UserError(
          f'--ws_{low} must not exceed --ws_{high}, but {getattr(self, low)} and '
          f'{getattr(self, high)} were given.'
        )


def dense_kernels(sizes: Mapping[str, int], share: float) -> set[str]:
  """Names of the smallest kernels that together hold at most `share` of all weights.

  Kernels of one size all stay dense or none does, so that nothing hangs on their order.

  Args:
    sizes: number of weights by kernel name.
    share: in [0, 1).
  """
  dense: set[str] = set()
  room = share * sum(sizes.values())
  for size in sorted(set(sizes.values())):
    alike = {name for name, other in sizes.items() if other == size}
    room -= size * len(alike)
    if room < 0 or len(dense) + len(alike) == len(sizes):
      break
    dense |= alike
  return dense


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
    return config.prune_ratio
  from tensorflow_model_optimization.sparsity.keras import PolynomialDecay

  first, last = (min(r, _BELOW_ONE) for r in (config.prune_ratio_init, config.prune_ratio))
  schedule = PolynomialDecay(first, last, begin, end, config.prune_ratio_exp, frequency=1)
  return float(schedule(tf.constant(step, tf.int64))[1])


@register
class WeightSparseLearner(CompressionLearner):
  """Trains the baseline on while its kernels' smallest weights are set to zero, ever more of them."""

  name = 'weight-sparse'
  Config = WsConfig
  # ResNet-20 on CIFAR-10 at 90 %, all kernels: 79.9 % after 6 epochs at a rate of 0.01, but 80.6 % and
  # 81.4 % after 3 epochs at 0.05 and 0.1.
  fine_tune_factor = 0.5

  def compression_phases(self) -> list[Phase]:
    """One training in which sparsity first rises and then stays."""
    return [Phase('sparsify', self._sparsify)]

  def prepare(self) -> None:
    """Makes the masks."""
    self._kernels = self.prunable(self.model)
    self._masks = MaskSet(list(self._kernels.values()))

  def prunable(self, model: keras.Model) -> dict[str, tf.Variable]:
    """The kernels that are made sparse: all but the smallest."""
    kernels = prunable_kernels(model)
    sizes = {name: int(np.prod(kernel.shape)) for name, kernel in kernels.items()}
    dense = dense_kernels(sizes, self.config.dense_share)
    return {name: kernel for name, kernel in kernels.items() if name not in dense}

  def extra_variables(self) -> Mapping[str, tf.Variable]:
    """Masks and the values behind them."""
    return self._masks.tensors(list(self._kernels))

  def requested(self) -> dict[str, Any]:
    """The sparsity of each kernel."""
    return {'sparsity': self.config.prune_ratio}

  def notes(self) -> list[str]:
    """What zeros alone do not do, and what extreme ratios do."""
    if self.config.prune_ratio == 0:
      return ['--ws_prune_ratio 0 prunes nothing: the model is the baseline.']
    notes = [UNSTRUCTURED_NOTE]
    if self.config.prune_ratio == 1:
      notes.insert(0, '--ws_prune_ratio 1 leaves one weight in each kernel.')
    dense = sorted(set(prunable_kernels(self.model)) - set(self._kernels))
    if dense:
      share = f'{self.config.dense_share:.1%}'
      notes.append(
        f'Left dense, as they hold less than {share} of the weights: {", ".join(dense)}.'
      )
    return notes

  def _sparsify(self) -> None:
    config = self.config
    if config.prune_ratio == 0:
      self.say(self.notes()[0])
      return
    if config.prune_ratio == 1:
      self.say(f'Warning: {self.notes()[0]}')
    nb_steps = self.fine_tune_steps()
    if not nb_steps:
      raise UserError(
        'weight-sparse prunes while it trains, but --nb_epochs_ft or --nb_epochs_rat leaves it no '
        'step: give it some epochs.'
      )
    steps = update_steps(nb_steps, config)

    def update(step: int, means: dict[str, float]) -> None:
      del means
      self._masks.update([sparsity_at(step, steps, config)] * len(self._masks.variables))

    self.fit(
      'sparsify',
      self.classification(),
      self.sgd(self.fine_tune_schedule(nb_steps)),
      nb_steps=nb_steps,
      masks=self._masks,
      events=[Event(update, at=steps)],
      extra_metrics=lambda: {'sparsity': self._masks.sparsity()},
    )
