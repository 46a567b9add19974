"""Hyper-parameters of `prune-regrow`."""

from __future__ import annotations

import dataclasses
from typing import ClassVar

from secateurs.learners.pressure.budget_config import BudgetConfig
from secateurs.utils.config import option

SCRATCH, TRAINED = 'scratch', 'trained'
ALL, RANDOM = 'all', 'random'
PR_CRITERIA = ('bn_gamma', 'l1', 'l2')
PR_TRUNKS = ('keep', 'couple')


@dataclasses.dataclass(frozen=True)
class PrConfig(BudgetConfig):
  """Hyper-parameters of `prune-regrow`."""

  prefix = 'pr_'
  # What `filter-pruned` has flags for.
  repair: ClassVar[str] = 'none'

  save_path: str = option(
    './models_pr/model.ckpt', 'Checkpoints of the pruned model.', affects_result=False
  )
  save_path_eval: str = option(
    './models_pr_eval/model', 'Exported slim model, without ending.', affects_result=False
  )
  trunk: str = option(
    'keep',
    'Channels joined by residual additions: keep all, or couple (drop for all layers of the trunk).',
    choices=PR_TRUNKS,
  )
  start: str = option(
    TRAINED,
    "Where training begins: trained weights (steps of --nb_epochs_ft), or scratch (the recipe's whole "
    'schedule, as published).',
    choices=(TRAINED, SCRATCH),
  )
  first: str = option(
    ALL,
    'First sub-model: all channels (as the official code), or random widths at the target.',
    choices=(ALL, RANDOM),
  )
  every: float | None = option(
    None,
    'Epochs between two changes of the structure; default: a fortieth of the training.',
    low=0.0,
  )
  until: float = option(
    0.5,
    'Fraction of the training after which the structure is final; published: 0.72.',
    low=0.0,
    high=1.0,
  )
  regrow: float = option(
    0.3,
    'Fraction of the channels that regrow after the first change; it falls to zero along a cosine.',
    low=0.0,
    high=1.0,
  )
  criterion: str = option(
    'l1',
    'What ranks all channels of the network for the widths of layers: bn_gamma (as published), or the '
    "l1 or l2 norms of filters in units of their layer's mean.",
    choices=PR_CRITERIA,
  )
  prune_option: str = option(
    'global',
    'How many channels go: global (the lowest of the network, again at each change), per-mac (the '
    'lowest for the MACs that they save), uniform (one ratio for all layers), or auto (an equal '
    'divergence per MAC, measured once for each layer alone).',
    choices=('global', 'per-mac', 'uniform', 'auto'),
  )
  prune_ratio: float = option(
    0.5,
    'Fraction of the channels that go: of all for global, of each layer for uniform; for per-mac and '
    'auto the MACs that it leaves are the budget.',
    low=0.0,
    high=1.0,
  )
  slice: bool = option(
    True, 'Slice the pruned channels away at the end; otherwise they stay as structured zeros.'
  )
  nb_batches: int | None = option(
    None, 'Batches of training images that auto measures on; default: 10.', low=1
  )
  batch_size: int = option(64, 'Images in each of the nb_batches batches.', low=1)

  @property
  def begins_anew(self) -> bool:
    """Whether training begins with random weights."""
    return self.start == SCRATCH
