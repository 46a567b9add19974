"""Flags of weight-sparse."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import ClassVar

from secateurs.learners.run.training.jobs import jobs_option
from secateurs.learners.weights.patterns import parse_pattern
from secateurs.learners.weights.schedule import Rise
from secateurs.learners.weights.search import OBJECTIVES
from secateurs.utils.config import Config, option
from secateurs.utils.errors import UserError
from secateurs.utils.training.engine.patterns import MByN, OneByN, Pattern

_DEFAULT_RATIO = 0.75
_SEARCH = {'protocol': 'optimal'}
PROTOCOLS = ('uniform', 'heurist', 'sensitivity', 'optimal')


@dataclasses.dataclass(frozen=True)
class WsConfig(Config):
  """Hyper-parameters of `weight-sparse`."""

  prefix = 'ws_'
  settled_by: ClassVar[Mapping[str, str]] = {
    'protocol': 'prune_ratio_prtl',
    'sorts': '--{prefix}pattern 1x<outputs>, such as 1x4',
  }

  save_path: str = option(
    './models_ws/model.ckpt', 'Checkpoints of the sparse model.', affects_result=False
  )
  save_path_eval: str = option(
    './models_ws_eval/model', 'Exported sparse model, without ending.', affects_result=False
  )
  prune_ratio: float | None = option(
    None,
    'Fraction of zeros in the prunable kernels at the end; default: 0.75, or what ws_m_by_n gives.',
    low=0.0,
    high=1.0,
  )
  prune_ratio_init: float = option(
    0.0,
    'Fraction of zeros in each kernel at the first mask update.',
    low=0.0,
    high=1.0,
    used_with={'schedule': 'agp'},
  )
  prune_ratio_prtl: str | None = option(
    None,
    'How the ratio is allocated to the kernels: uniform, heurist (more from large ones), sensitivity '
    '(each until the loss rises equally, measured by a scan), or optimal (searched); default: uniform, '
    'but sensitivity where ws_schedule is iterative.',
    choices=PROTOCOLS,
  )
  prune_ratio_exp: float = option(
    3.0, 'Exponent of the schedule.', low=0.0, used_with={'schedule': 'agp'}
  )
  schedule: str = option(
    'agp',
    'When weights are pruned: agp (gradually while training), iterative (prune and retrain in rounds), '
    'or one-shot (all at once, then retrain).',
    choices=('agp', 'iterative', 'one-shot'),
  )
  nb_rounds: int = option(
    4, 'Rounds of iterative pruning.', low=1, used_with={'schedule': 'iterative'}
  )
  iter_ratio_beg: float = option(
    0.1,
    'Fraction of training steps at which sparsity starts to rise, for agp.',
    low=0.0,
    high=1.0,
    used_with={'schedule': 'agp'},
  )
  iter_ratio_end: float = option(
    0.5,
    'Fraction of training steps at which sparsity stops rising, for agp.',
    low=0.0,
    high=1.0,
    used_with={'schedule': 'agp'},
  )
  mask_update_step: int | None = option(
    None,
    'Steps between two mask updates; default: 100, or fewer so that at least 20 updates fit.',
    low=1,
    used_with={'schedule': 'agp'},
  )
  dense_share: float = option(
    0.015,
    'The smallest kernels stay dense while together they hold at most this fraction of all weights.',
    low=0.0,
    high=1.0,
  )
  block_size: str = option('1x1', 'Block sparsity: <inputs>x<outputs> of a kernel, such as 1x4.')
  m_by_n: str | None = option(
    None, 'N:M sparsity as N,M: N zeros in every M consecutive inputs, such as 2,4.'
  )
  pattern: str | None = option(
    None,
    'Blocks of whole kernels as 1x<outputs>, such as 1x4: so many neighbouring outputs of one input '
    'are kept or pruned together; kernel: each k x k kernel by itself.',
  )
  rearrange: bool = option(
    True,
    'Before ws_pattern prunes, sort output channels by the L1 norm of their filters.',
    used_with={'sorts': True},
  )
  policy: str | None = option(
    None,
    'Which kernels are pruned: those that a runtime has sparse kernels for (xnnpack); default: all.',
    choices=('xnnpack',),
  )
  scan: str = option(
    'ratio',
    'What the sensitivity scan varies: ratio (fractions of weights) or sigma (thresholds as multiples '
    "of a kernel's standard deviation).",
    choices=('ratio', 'sigma'),
    used_with={'protocol': 'sensitivity'},
  )
  nb_smpls_scan: int = option(
    2000,
    'Images that scan and search judge on.',
    low=1,
    used_with={'protocol': ('sensitivity', 'optimal')},
  )
  nb_rlouts: int = option(
    200,
    'Candidates that optimal tries; 1 takes what the measured curves give.',
    low=1,
    used_with=_SEARCH,
  )
  nb_rlouts_min: int = option(
    50,
    "Number of initial random trials, before Optuna's sampler takes over.",
    low=1,
    used_with=_SEARCH,
  )
  jobs: int = jobs_option(
    'Candidates of optimal, and kernels of scans,', {'protocol': ('sensitivity', 'optimal')}
  )
  nb_iters_rg: int = option(
    20, 'Steps of layer-wise regression in a trial.', low=0, used_with=_SEARCH
  )
  lrn_rate_rg: float = option(
    1.0,
    'Step size of the regression, as a fraction of the largest stable step.',
    low=0.0,
    high=1.0,
    used_with=_SEARCH,
  )
  nb_iters_ft: int = option(100, 'Steps of training in a trial.', low=0, used_with=_SEARCH)
  lrn_rate_ft: float = option(
    0.01,
    'Peak learning rate of training in a trial, by the optimizer of the run.',
    low=0.0,
    used_with=_SEARCH,
  )
  nb_iters_feval: int | None = option(
    None,
    'Batches that a trial is judged on; default: what ws_nb_smpls_scan gives.',
    low=1,
    used_with=_SEARCH,
  )
  reward_type: str = option(
    'single-obj',
    'What optimal looks for: the score (single-obj), or the score and few weights (multi-obj).',
    choices=tuple(OBJECTIVES),
    used_with=_SEARCH,
  )

  def __post_init__(self) -> None:
    super().__post_init__()
    pattern = self.zeros
    if isinstance(pattern, MByN) and self.prune_ratio not in (None, pattern.ratio):
      raise UserError(
        f'--ws_m_by_n {self.m_by_n} makes {pattern.ratio:g} of the weights zero, but --ws_prune_ratio '
        f'{self.prune_ratio} was given: leave one of the two out.'
      )
    if isinstance(pattern, MByN) and self.protocol != 'uniform':
      raise UserError(
        f'--ws_m_by_n {self.m_by_n} makes the same fraction of every kernel zero, but '
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
  def zeros(self) -> Pattern:
    """Where zeros may lie."""
    return parse_pattern(self.block_size, self.m_by_n, self.pattern)

  @property
  def sorts(self) -> bool:
    """Whether zeros lie in blocks whose outputs can be sorted."""
    return isinstance(self.zeros, OneByN) and self.zeros.n > 1

  @property
  def ratio(self) -> float:
    """Fraction of zeros in the prunable kernels at the end."""
    if isinstance(self.zeros, MByN):
      return self.zeros.ratio
    return _DEFAULT_RATIO if self.prune_ratio is None else self.prune_ratio

  @property
  def protocol(self) -> str:
    """How the ratio is allocated to the kernels."""
    if self.prune_ratio_prtl is not None:
      return self.prune_ratio_prtl
    fixed = isinstance(self.zeros, MByN)
    return 'sensitivity' if self.schedule == 'iterative' and not fixed else 'uniform'

  def nb_judged(self, batch_size: int) -> int:
    """How many samples the scan and the search judge on."""
    nb_batches = self.nb_iters_feval
    return self.nb_smpls_scan if nb_batches is None else nb_batches * batch_size

  @property
  def rise(self) -> Rise:
    """How sparsity rises, for agp."""
    return Rise(
      self.prune_ratio_init,
      self.ratio,
      self.iter_ratio_beg,
      self.iter_ratio_end,
      self.mask_update_step,
      self.prune_ratio_exp,
    )
