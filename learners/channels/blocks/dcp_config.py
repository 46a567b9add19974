"""Flags of dis-chn-pruned."""

from __future__ import annotations

import dataclasses

from secateurs.learners.channels.allocation.amc_config import AMC
from secateurs.learners.channels.blocks.block_learner import BlockConfig
from secateurs.learners.channels.blocks.greedy import SELECTIONS
from secateurs.learners.channels.blocks.greedy_scores import SCORES
from secateurs.learners.channels.targets import TARGETS, refuse_beside_targets
from secateurs.utils.config import option
from secateurs.utils.errors import UserError
from secateurs.utils.training.layerwise.gradient_choice import GREEDY


@dataclasses.dataclass(frozen=True)
class DcpConfig(BlockConfig):
  """Hyper-parameters of `dis-chn-pruned`."""

  prefix = 'dcp_'

  save_path: str = option(
    './models_dcp/model.ckpt', 'Checkpoints of the pruned model.', affects_result=False
  )
  save_path_eval: str = option(
    './models_dcp_eval/model', 'Exported slim model, without ending.', affects_result=False
  )
  prune_ratio: float = option(
    0.5,
    'Fraction of its input channels that each layer loses; at least one stays.',
    low=0.0,
    high=1.0,
  )
  preserve_ratio: float | None = option(
    None,
    'Fraction of all MACs that stays, whatever dcp_prune_option but list: for uniform at one ratio for '
    'all layers; default: what dcp_prune_ratio for all layers that auto can measure leaves.',
    low=0.0,
    high=1.0,
    used_with={'prune_option': ('uniform', 'auto', AMC)},
  )
  prune_list_file: str | None = option(
    None, 'File of prune ratios, one a layer, for list.', used_with={'prune_option': 'list'}
  )
  nb_iters_layer: int = option(
    10, 'Steps of layer-wise training after each step of the selection.', low=0
  )
  chns_per_step: int | None = option(
    None, 'Channels that change in one step; default: 2, in wide layers a sixteenth of all.', low=1
  )
  greedy: str = option(
    'remove',
    'remove (starts with all channels, the worst go) or add (starts with none, the best come).',
    choices=GREEDY,
  )
  select: str = option(
    'gradient',
    'What channels are scored by: gradient; magnitude and random are for comparison.',
    choices=SELECTIONS,
  )
  score: str = option(
    'off',
    'Where the gradient judges a channel that may go: where it is off, group by group, or where it is '
    'on (as the algorithm is usually described; all channels that are left, by every batch).',
    choices=SCORES,
    used_with={'greedy': 'remove', 'select': 'gradient'},
  )
  epsilon: float | None = option(
    None,
    'Each layer takes channels until another one changes its loss by no more than this fraction of '
    'the loss without any channel; replaces ratios.',
    low=0.0,
    used_with={'greedy': 'add'},
  )
  floor: float = option(
    0.1,
    'Fraction of its channels that each layer keeps at least, with dcp_epsilon.',
    low=0.0,
    high=1.0,
  )
  ceiling: float = option(
    1.0,
    'Fraction of its channels that each layer keeps at most, with dcp_epsilon.',
    low=0.0,
    high=1.0,
  )
  refit: bool = option(
    True,
    "After the selection, refit what is left to the original network's outputs, layer by layer, by "
    'least squares.',
  )
  nb_batches_score: int = option(
    16,
    'Batches that gradients are taken over for a choice; with dcp_greedy remove, every batch scores a '
    'different group of channels, with that group masked out.',
    low=1,
  )

  def __post_init__(self) -> None:
    super().__post_init__()
    if self.prune_option == 'list' and self.prune_list_file is None:
      raise UserError('--dcp_prune_option list needs a file of ratios: add --dcp_prune_list_file.')
    self._check_epsilon()
    refuse_beside_targets(self, ('prune_ratio',))

  @property
  def keeps_all(self) -> str | None:
    """As of all widths, or a ratio of 0 for uniform."""
    if self.epsilon is None and self.prune_option == 'uniform' and self.prune_ratio == 0:
      return '--dcp_prune_ratio 0'
    return super().keeps_all

  def _check_epsilon(self) -> None:
    if self.epsilon is None:
      for name in ('floor', 'ceiling'):
        if getattr(self, name) != getattr(DcpConfig, name):
          raise UserError(f'--dcp_{name} has an effect only with --dcp_epsilon: add it.')
      return
    names = 'prune_option', 'prune_ratio', *TARGETS
    given = [name for name in names if getattr(self, name) != getattr(DcpConfig, name)]
    if given:
      raise UserError(
        f'With --dcp_epsilon each layer decides how many channels it keeps, but --dcp_{given[0]} '
        f'{getattr(self, given[0])} was given: leave one of them out.'
      )
    if self.floor > self.ceiling:
      raise UserError(
        f'--dcp_floor {self.floor:g} lies above --dcp_ceiling {self.ceiling:g}: give a smaller floor.'
      )
