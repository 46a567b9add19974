"""Hyper-parameters of `reg-pruned`."""

from __future__ import annotations

import dataclasses

from secateurs.learners.channels.criteria.registry import of_filters
from secateurs.learners.channels.cuts.filter_units import FILTER_TRUNKS
from secateurs.learners.channels.filter_config import FILTER_REPAIRS
from secateurs.learners.channels.targets import TARGETS
from secateurs.learners.pressure.budget_config import BudgetConfig
from secateurs.learners.pressure.places import WITHIN
from secateurs.utils.config import option
from secateurs.utils.errors import UserError

BN_GAMMA, GROUP_LASSO, DEPENDENCY, GROWING = PENALTIES = (
  'bn_gamma',
  'group_lasso',
  'dependency',
  'growing',
)
LAYERS = 'layers'
LASSO_GROUPS = ('filters', 'channels', *WITHIN, LAYERS)
ZEROS = 'zeros'
PROXIMAL, SUBGRADIENT = 'proximal', 'subgradient'


@dataclasses.dataclass(frozen=True)
class RpConfig(BudgetConfig):
  """Hyper-parameters of `reg-pruned`."""

  prefix = 'rp_'
  # What `filter-pruned` has flags for.

  save_path: str = option(
    './models_rp/model.ckpt', 'Checkpoints of the pruned model.', affects_result=False
  )
  save_path_eval: str = option(
    './models_rp_eval/model', 'Exported slim model, without ending.', affects_result=False
  )
  trunk: str = option(
    'keep',
    'Channels joined by residual additions: keep all, couple (drop for all layers of the trunk), '
    "follow (the shortcut's projection alone ranks them), or gather (each convolution chooses its "
    'own).',
    choices=FILTER_TRUNKS,
  )
  penalty: str = option(
    DEPENDENCY,
    "What the loss is charged for: bn_gamma (L1 of BN's scales), group_lasso (norms of rp_groups), "
    'dependency (one norm over all weights that go with a channel), or growing (a factor that rises '
    'for the channels that rp_criterion has chosen to go).',
    choices=PENALTIES,
  )
  groups: str = option(
    'filters,channels',
    'Groups of the group lasso, separated by commas: filters, channels, shapes (a position of all '
    'filters), kernels (the square of one filter that reads one channel), layers.',
    used_with={'penalty': GROUP_LASSO},
  )
  update: str = option(
    PROXIMAL,
    'How the penalty acts: proximal (after each step of the optimizer; makes exact zeros) or '
    'subgradient (with the gradient of the loss, as published for Slimming).',
    choices=(PROXIMAL, SUBGRADIENT),
  )
  strength: float = option(
    0.5,
    'Strength of the penalty: the fraction of its average norm that a group would lose in the training '
    'under pressure if the loss did not depend on it; for growing, 1 leaves a hundredth.',
    low=0.0,
  )
  factor: float | None = option(
    None,
    'Factor of the penalty in the loss, as papers state it; replaces rp_strength. Norms are then '
    "ranked as they are, and not in units of their layer's mean.",
    low=0.0,
  )
  nb_rises: int = option(
    10,
    'Equal steps in which the factor of growing rises.',
    low=1,
    used_with={'penalty': GROWING},
  )
  criterion: str = option(
    'l1',
    'What chooses the channels that growing removes, and ranks them where prune_option is auto: a '
    'criterion of filter-pruned.',
    choices=of_filters,
  )
  press_ratio: float = option(
    0.4,
    'Fraction of the training steps that run under the penalty, over all passes; the others fine-tune.',
    low=0.0,
    high=1.0,
  )
  nb_passes: int = option(
    1, 'How often the penalty, the cut and the fine-tuning are repeated.', low=1
  )
  from_scratch: bool = option(
    False,
    "Train under the penalty from random weights with the recipe's schedule and scales of 0.5, as "
    'published; all steps of --nb_epochs_ft then fine-tune.',
  )
  prune_option: str = option(
    'global',
    'How many channels go: global (the smallest norms of the network), per-mac (the smallest for the '
    'MACs that they save), uniform (one ratio for all layers), auto (an equal divergence per MAC, '
    'measured for each layer alone), or zeros (those that are exactly zero, and residual blocks of '
    'which nothing is left).',
    choices=('global', 'per-mac', 'uniform', 'auto', ZEROS),
  )
  prune_ratio: float = option(
    0.5,
    'Fraction of the channels that go: of all for global, of each layer for uniform; for per-mac and '
    'auto the MACs that it leaves are the budget.',
    low=0.0,
    high=1.0,
  )
  nb_blocks: int | None = option(
    None,
    'Residual blocks that go, those of the smallest norms; default: those that are exactly zero.',
    low=0,
    used_with={'prune_option': ZEROS},
  )
  repair: str = option(
    'least-squares',
    'What follows a cut before any training: none, batch-norm (its statistics are re-estimated), or '
    'least-squares (layers are refit to the outputs of the network before the cut).',
    choices=FILTER_REPAIRS,
  )
  nb_batches: int | None = option(
    None,
    'Batches of training images for criteria and refits; default: 10 for criteria and 30 for refits, '
    'fewer where a feature map of all their images would take more than 1 GiB.',
    low=1,
  )
  batch_size: int = option(64, 'Images in each of the nb_batches batches.', low=1)

  def __post_init__(self) -> None:
    super().__post_init__()
    unknown = [kind for kind in self.kinds if kind not in (*LASSO_GROUPS, *PENALTIES)]
    if unknown or not self.kinds:
      raise UserError(
        f'--rp_groups takes some of {", ".join(LASSO_GROUPS)}, separated by commas, but '
        f'{self.groups!r} was given.'
      )
    if self.prune_option == ZEROS:
      self._check_zeros()
    elif self.has_layers or set(self.kinds) <= set(WITHIN):
      raise UserError(
        f'--rp_groups {self.groups} has no channels to rank: add filters or channels, or set '
        '--rp_prune_option zeros.'
        if not self.has_layers
        else '--rp_groups layers removes whole residual blocks and needs --rp_prune_option zeros.'
      )

  def _check_zeros(self) -> None:
    for name in TARGETS:
      if getattr(self, name) is not None:
        raise UserError(
          f'--rp_{name} says how much stays, but --rp_prune_option zeros cuts what is zero: leave one '
          'of the two out.'
        )
    if self.penalty == GROWING or self.update == SUBGRADIENT:
      raise UserError(
        '--rp_prune_option zeros needs a penalty that makes exact zeros: set --rp_update proximal and '
        'a --rp_penalty other than growing.'
      )
    if self.nb_blocks is not None and not self.has_layers:
      raise UserError('--rp_nb_blocks needs the norms of blocks: add layers to --rp_groups.')

  @property
  def has_floor(self) -> bool:
    """Whether anything but one ratio for all layers decides how many channels of a layer stay."""
    targets = (getattr(self, name) for name in TARGETS)
    return self.prune_option != 'uniform' or any(target is not None for target in targets)

  @property
  def begins_anew(self) -> bool:
    """Whether training begins with random weights."""
    return self.from_scratch

  @property
  def kinds(self) -> list[str]:
    """Names of the groups that the penalty is taken over."""
    if self.penalty == GROUP_LASSO:
      return [name.strip() for name in self.groups.split(',') if name.strip()]
    return [BN_GAMMA if self.penalty == BN_GAMMA else DEPENDENCY]

  @property
  def has_layers(self) -> bool:
    """Whether whole residual blocks are penalised."""
    return LAYERS in self.kinds
