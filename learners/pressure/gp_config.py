"""Hyper-parameters of `gate-pruned`."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from secateurs.learners.channels.filter_config import FILTER_REPAIRS
from secateurs.learners.pressure.budget_config import BudgetConfig
from secateurs.learners.pressure.gates import GATE_INITS, STD
from secateurs.utils.config import option
from secateurs.utils.errors import UserError

JOINTLY, EACH = 'jointly', 'each'


@dataclasses.dataclass(frozen=True)
class GpConfig(BudgetConfig):
  """Hyper-parameters of `gate-pruned`."""

  prefix = 'gp_'
  # What `filter-pruned` has flags for.
  criterion: ClassVar[str] = 'l1'

  save_path: str = option(
    './models_gp/model.ckpt', 'Checkpoints of the pruned model.', affects_result=False
  )
  save_path_eval: str = option(
    './models_gp_eval/model', 'Exported slim model, without ending.', affects_result=False
  )
  trunk: str = option(
    'keep',
    'Channels joined by residual additions: keep all; they are not gated.',
    choices=('keep',),
  )
  groups: str = option(
    JOINTLY,
    'Which layers are gated at a time: jointly (all), each (one after the other), or patterns of layer '
    'names, separated by commas, one for each group in its turn.',
  )
  gate_ratio: float = option(
    0.4,
    'Fraction of the training steps with gates, over all groups; the others fine-tune.',
    low=0.0,
    high=1.0,
  )
  init: str = option(
    STD,
    "A gate's first weights: std (10 sqrt(2 / n) is their standard deviation, as in the official code) "
    'or variance (it is their variance, as in the paper).',
    choices=GATE_INITS,
  )
  alpha_first: float = option(0.1, 'Hardness of the gates at first.', low=0.0)
  alpha_last: float = option(100.0, 'Hardness of the gates at the end of their training.', low=0.0)
  nb_updates: int = option(40, 'Equal steps in which the hardness grows.', low=1)
  nudge: bool = option(
    True,
    'Let the hardness grow faster while few gates are near 0 or 1, and wait where too many are closed.',
  )
  pull: float | None = option(
    None,
    'Weight of the term that holds the number of open gates; default: 100 times how far it is from its '
    'target, as published.',
    low=0.0,
  )
  clip_norm: float = option(
    1.0,
    'Largest norm of the gradient of all weights while gates train; 0: no limit, as published.',
    low=0.0,
  )
  prune_option: str = option(
    'uniform',
    'Targets of the gates: uniform (one ratio for all layers) or auto (an equal divergence per MAC, '
    'measured for each layer alone).',
    choices=('uniform', 'auto'),
  )
  prune_ratio: float = option(
    0.5,
    'Fraction of the channels of each layer that go; for auto the MACs that it leaves are the budget.',
    low=0.0,
    high=1.0,
  )
  repair: str = option(
    'least-squares',
    'What follows a cut before any training: none, batch-norm (its statistics are re-estimated), or '
    'least-squares (the original network is cut, and its layers are refit).',
    choices=FILTER_REPAIRS,
  )
  nb_batches: int | None = option(
    None,
    'Batches of training images for refits; default: 30, fewer where a feature map of all their images '
    'would take more than 1 GiB.',
    low=1,
  )
  batch_size: int = option(64, 'Images in each of the nb_batches batches.', low=1)

  def __post_init__(self) -> None:
    super().__post_init__()
    if self.alpha_last < self.alpha_first:
      raise UserError(
        f'--gp_alpha_last {self.alpha_last:g} is below --gp_alpha_first {self.alpha_first:g}, but '
        'gates grow harder: raise it.'
      )
