"""Flags of uniform-quant and non-uniform-quant."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

from secateurs.learners.quant.clusters import INITS, LOG
from secateurs.learners.quant.codebooks import MODES
from secateurs.learners.run.training.jobs import jobs_option
from secateurs.utils.config import Config, option
from secateurs.utils.errors import UserError

_BUCKETS = ('channel', 'split')
FLOAT_BITS = 32
_BUCKETED: Mapping[str, Any] = {'use_buckets': True}
_SPLIT: Mapping[str, Any] = {'use_buckets': True, 'bucket_type': 'split'}
_BUDGET: Mapping[str, Any] = {'allocates': True}
_SEARCH: Mapping[str, Any] = {'enbl_search': True}
_PRUNING: Mapping[str, Any] = {'prunes': True}


@dataclasses.dataclass(frozen=True)
class UqlConfig(Config):
  """Hyper-parameters of `uniform-quant`."""

  prefix = 'uql_'
  settled_by: ClassVar[Mapping[str, str]] = {
    'allocates': '--{prefix}equivalent_bits or --{prefix}target_bytes'
  }

  save_path: str = option(
    './models_uql/model.ckpt', 'Checkpoints of the quantised model.', affects_result=False
  )
  save_path_eval: str = option(
    './models_uql_eval/model', 'Exported quantised model, without ending.', affects_result=False
  )
  weight_bits: int = option(
    8,
    'Bits of the weights of all layers; 1: the sign times the mean magnitude of the bucket.',
    low=1,
    high=16,
  )
  activation_bits: int = option(
    8,
    'Bits of the activations, 2 to 16, or 32 for none; the file holds them in 8 or 16 bits.',
    low=2,
    high=32,
  )
  use_buckets: bool = option(True, 'Fit a grid to each bucket of weights, not to each layer.')
  bucket_type: str = option(
    'channel',
    'What a bucket is: an output channel (channel) or uql_bucket_size neighbouring weights (split).',
    choices=_BUCKETS,
    used_with=_BUCKETED,
  )
  bucket_size: int = option(
    256, 'Weights of a bucket of uql_bucket_type split.', low=1, used_with=_SPLIT
  )
  symmetric: bool = option(
    True, 'Grids of weights are symmetric about zero, as TensorFlow Lite holds them.'
  )
  clip: bool = option(
    True, 'Fit the range of a grid to the least squared error, not to the greatest weight.'
  )
  equivalent_bits: float | None = option(
    None,
    'Mean bits of all weights: bits by layer follow from measured divergence; default: uql_weight_bits '
    'everywhere.',
    low=2.0,
    high=16.0,
  )
  target_bytes: int | None = option(
    None, 'Bytes of the quantised .tflite that bits by layer must meet.', low=1
  )
  w_bit_min: int = option(2, 'Least bits of a layer.', low=2, high=16, used_with=_BUDGET)
  w_bit_max: int = option(8, 'Greatest bits of a layer.', low=2, high=16, used_with=_BUDGET)
  enbl_search: bool = option(
    False, 'Search bits by layer with Optuna, starting from those of the measured divergence.'
  )
  nb_rlouts: int = option(50, 'Candidates that the search tries.', low=1, used_with=_SEARCH)
  nb_rlouts_min: int = option(
    10,
    "Number of initial random trials, before Optuna's sampler takes over.",
    low=1,
    used_with=_SEARCH,
  )
  jobs: int = jobs_option('Candidates of the search, and kernels of the scan,', _BUDGET)
  nb_iters_ft: int = option(50, 'Steps of training in a trial.', low=0, used_with=_SEARCH)
  lrn_rate_ft: float = option(
    0.01,
    'Peak learning rate of training in a trial, by the optimizer of the run.',
    low=0.0,
    used_with=_SEARCH,
  )
  nb_smpls_scan: int = option(2000, 'Images that the search judges on.', low=1, used_with=_SEARCH)

  def __post_init__(self) -> None:
    super().__post_init__()
    if 16 < self.activation_bits < FLOAT_BITS:
      raise UserError(
        f'--uql_activation_bits takes 2 to 16, or 32 for none, but {self.activation_bits} was given.'
      )
    if self.weight_bits == 1 and not (self.symmetric and self.clip):
      raise UserError(
        '--uql_weight_bits 1 makes all weights two values about zero: leave --nouql_symmetric and '
        '--nouql_clip out.'
      )
    if self.allocates and self.weight_bits != type(self).weight_bits:
      raise UserError(
        f'--uql_weight_bits {self.weight_bits} gives every layer the same bits, but '
        f'--uql_{"target_bytes" if self.equivalent_bits is None else "equivalent_bits"} chooses them '
        'by layer: leave one of the two out.'
      )
    if self.w_bit_min > self.w_bit_max:
      raise UserError(
        f'--uql_w_bit_min must not exceed --uql_w_bit_max, but {self.w_bit_min} and '
        f'{self.w_bit_max} were given.'
      )
    mean = self.equivalent_bits
    if mean is not None and self.target_bytes is not None:
      raise UserError(
        '--uql_equivalent_bits and --uql_target_bytes are two budgets: give only one of them.'
      )
    if mean is not None and mean < self.w_bit_min:
      raise UserError(
        f'--uql_equivalent_bits {mean} cannot be met, since no layer takes less than --uql_w_bit_min '
        f'{self.w_bit_min} bits: lower the one or raise the other.'
      )
    if self.enbl_search and not self.allocates:
      raise UserError(
        '--uql_enbl_search needs a budget: give --uql_equivalent_bits or --uql_target_bytes.'
      )

  @property
  def allocates(self) -> bool:
    """Whether bits by layer follow from a budget."""
    return self.equivalent_bits is not None or self.target_bytes is not None

  @property
  def bucket_kind(self) -> str:
    """What has its own grid: `layer`, `channel` or `split`."""
    return self.bucket_type if self.use_buckets else 'layer'

  @property
  def container_bits(self) -> int:
    """Bits of activations in the file: 8, 16 or 32."""
    return next(bits for bits in (8, 16, FLOAT_BITS) if self.activation_bits <= bits)


@dataclasses.dataclass(frozen=True)
class NuqlConfig(Config):
  """Hyper-parameters of `non-uniform-quant`."""

  prefix = 'nuql_'
  settled_by: ClassVar[Mapping[str, str]] = {'prunes': '--{prefix}prune_ratio above 0'}

  save_path: str = option(
    './models_nuql/model.ckpt', 'Checkpoints of the quantised model.', affects_result=False
  )
  save_path_eval: str = option(
    './models_nuql_eval/model', 'Exported quantised model, without ending.', affects_result=False
  )
  weight_bits: int = option(4, 'Bits of a weight: a codebook has 2^bits entries.', low=1, high=8)
  dense_bits: int | None = option(
    None, 'Bits of the weights of dense layers; default: nuql_weight_bits.', low=1, high=8
  )
  init_style: str = option(
    'kmeans',
    'Where codebooks start: kmeans (from a linear start), quantile, uniform, or log (zero and powers '
    'of two, which stay with nuql_opt_mode weights).',
    choices=INITS,
  )
  opt_mode: str = option(
    'both',
    'What trains: centroids (codebooks, each weight keeps its entry), weights (which entry a weight '
    'takes), or both.',
    choices=MODES,
  )
  centroid_step: str = option(
    'mean',
    "An entry's step: the mean or the sum of the steps of its weights.",
    choices=('mean', 'sum'),
    used_with={'opt_mode': ('both', 'centroids')},
  )
  use_buckets: bool = option(False, 'A codebook for each bucket of weights, not for each layer.')
  bucket_type: str = option(
    'split',
    'What a bucket is: an output channel (channel) or nuql_bucket_size neighbouring weights (split).',
    choices=_BUCKETS,
    used_with=_BUCKETED,
  )
  bucket_size: int = option(
    4096, 'Weights of a bucket of nuql_bucket_type split.', low=1, used_with=_SPLIT
  )
  prune_ratio: float = option(
    0.0, 'Fraction of weights that are pruned first, in rounds.', low=0.0, high=0.99
  )
  nb_rounds: int = option(3, 'Rounds of pruning.', low=1, used_with=_PRUNING)
  prune_share: float = option(
    0.5,
    "Fraction of the training's steps that the rounds of pruning take.",
    low=0.01,
    high=0.99,
    used_with=_PRUNING,
  )
  nb_smpls_scan: int = option(
    2000, 'Images that the sensitivity scan judges on.', low=1, used_with=_PRUNING
  )

  def __post_init__(self) -> None:
    super().__post_init__()
    if self.init_style == LOG and self.opt_mode != 'weights':
      raise UserError(
        f'--nuql_init_style log makes weights powers of two, but --nuql_opt_mode {self.opt_mode} moves '
        'them away: add --nuql_opt_mode weights.'
      )

  @property
  def prunes(self) -> bool:
    """Whether weights are pruned first."""
    return self.prune_ratio > 0

  @property
  def bucket_kind(self) -> str:
    """What has its own codebook: `layer`, `channel` or `split`."""
    return self.bucket_type if self.use_buckets else 'layer'
