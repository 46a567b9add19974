"""Flags of chn-pruned."""

from __future__ import annotations

import dataclasses

from secateurs.learners.channels.allocation.amc_config import AMC
from secateurs.learners.channels.configs import RefitConfig, WidthConfig
from secateurs.learners.channels.criteria import registry as criteria
from secateurs.learners.channels.targets import refuse_beside_targets
from secateurs.utils.config import option


@dataclasses.dataclass(frozen=True)
class CpConfig(WidthConfig, RefitConfig):
  """Hyper-parameters of `chn-pruned`."""

  prefix = 'cp_'

  save_path: str = option(
    './models_cp/model.ckpt', 'Checkpoints of the pruned model.', affects_result=False
  )
  save_path_eval: str = option(
    './models_cp_eval/model', 'Exported slim model, without ending.', affects_result=False
  )
  uniform_preserve_ratio: float = option(
    0.5,
    'Fraction of its input channels that each layer keeps, for uniform.',
    low=0.0,
    high=1.0,
    used_with={'prune_option': 'uniform'},
  )
  prune_list_file: str = option(
    'ratio.list',
    'File of preserve ratios, one a layer, for list.',
    used_with={'prune_option': 'list'},
  )
  preserve_ratio: float | None = option(
    None,
    'Fraction of all MACs that stays, whatever cp_prune_option but list: for uniform at one ratio for '
    'all layers; default: 0.5 for auto and amc.',
    low=0.0,
    high=1.0,
    used_with={'prune_option': ('uniform', 'auto', AMC)},
  )
  select: str = option(
    'backward',
    'How channels are chosen: lasso, backward, thinet, thinet-ls, magnitude, random (by readers); or '
    'l1, l2, bn_gamma, fpgm, lamp, taylor, taylor_fo, apoz, entropy, rank (by scores).',
    choices=lambda: criteria.names('moments', 'score'),
  )
  lasso: bool = option(True, 'If unset, channels are chosen by magnitude, whatever cp_select says.')
  repair: str = option(
    'least-squares',
    'How kept weights are refit: least-squares (each weight), or scalar (one factor a channel).',
    choices=('least-squares', 'scalar'),
  )
  scheme: str = option(
    'two-step',
    'For lasso: choose, then refit; or both alternately with a growing penalty.',
    choices=('two-step', 'alternating'),
    used_with={'select': 'lasso'},
  )
  finetune: bool = option(False, 'Fine-tune after every group of layers.')
  list_group: int = option(
    1000, 'Number of layers in a group, for cp_finetune.', low=1, used_with={'finetune': True}
  )
  nb_iters_ft_ratio: float = option(
    0.2,
    'Steps after one group, as a fraction of those of the final fine-tuning.',
    low=0.0,
    high=1.0,
    used_with={'finetune': True},
  )
  lrn_rate_ft: float = option(
    1e-4, 'Learning rate after a group, for SGD.', low=0.0, used_with={'finetune': True}
  )
  compare: bool = option(
    False,
    'Report what magnitude and random selection give at the same numbers of channels; with --exec_mode '
    'sensitivity, curves of five selections for each layer alone, refit and as it is.',
  )

  def __post_init__(self) -> None:
    super().__post_init__()
    refuse_beside_targets(self, ('uniform_preserve_ratio',))

  @property
  def selection(self) -> str:
    """How channels are chosen."""
    return self.select if self.lasso else 'magnitude'

  @property
  def keeps_all(self) -> str | None:
    """As of all widths, or a ratio of 1 for uniform."""
    if self.prune_option == 'uniform' and self.uniform_preserve_ratio == 1:
      return '--cp_uniform_preserve_ratio 1'
    return super().keeps_all
