"""Hyper-parameters of `filter-pruned`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import ClassVar

from secateurs.learners.channels.allocation.amc_config import AMC, AmcConfig
from secateurs.learners.channels.allocation.colony import Constants
from secateurs.learners.channels.allocation.registry import ALLOCATIONS
from secateurs.learners.channels.configs import (
  ChannelConfig,
  latency_table_option,
  target_ram_option,
)
from secateurs.learners.channels.criteria.hrank import LAYOUTS
from secateurs.learners.channels.criteria.ranking import NORMALIZATIONS, ORDERS
from secateurs.learners.channels.criteria.registry import of_filters
from secateurs.learners.channels.cuts.filter_units import FILTER_TRUNKS
from secateurs.learners.channels.targets import (
  TARGETS,
  keeps_all_filters,
  refuse_beside_targets,
  refuse_targets_of_agent,
  refuse_two_targets,
  require_target,
)
from secateurs.learners.run.training.jobs import jobs_option
from secateurs.utils.config import option
from secateurs.utils.errors import UserError

FILTER_SCHEDULES = ('one-shot', 'layer-by-layer', 'end-to-end')
FILTER_REPAIRS = ('none', 'batch-norm', 'least-squares')
FITNESSES = ('quick', 'epochs')
_BY_RATIO = ('uniform', 'global', 'per-mac', 'auto', 'abc', AMC)
_ABC, _LIST = {'prune_option': 'abc'}, {'prune_option': 'list'}


@dataclasses.dataclass(frozen=True)
class FpConfig(ChannelConfig, AmcConfig):
  """Hyper-parameters of `filter-pruned`."""

  prefix = 'fp_'
  settled_by: ClassVar[Mapping[str, str]] = {
    'has_floor': '--{prefix}preserve_ratio, or a --{prefix}prune_option but uniform and list'
  }

  save_path: str = option(
    './models_fp/model.ckpt', 'Checkpoints of the pruned model.', affects_result=False
  )
  save_path_eval: str = option(
    './models_fp_eval/model', 'Exported slim model, without ending.', affects_result=False
  )
  trunk: str = option(
    'keep',
    'Channels joined by residual additions: keep all, couple (scores of all layers of the trunk are '
    "added), follow (the shortcut's projection alone ranks them), or gather (each convolution chooses "
    'its own).',
    choices=FILTER_TRUNKS,
  )
  criterion: str = option(
    'l1',
    'What a filter is worth: l1, l2, bn_gamma, fpgm, lamp (its weights), taylor, taylor_fo (the '
    "loss's gradient), apoz, entropy, rank (its feature maps), or random.",
    choices=of_filters,
  )
  order: str = option(
    'best',
    'Which filters stay: best (those of the highest scores), or the controls reverse (the lowest) and '
    'edge (those in the middle).',
    choices=ORDERS,
  )
  normalize: str = option(
    'source',
    "Unit of a layer's scores where layers are ranked together: source (as the criterion's paper), "
    'mean, l2 or none.',
    choices=('source', *NORMALIZATIONS),
  )
  prune_option: str = option(
    'uniform',
    'How many filters of each layer go. By no measuring: uniform (one ratio), list (a file), global '
    '(the lowest scores of the network), or per-mac (the lowest for the MACs that they save). By '
    'measuring each layer alone: sensitivity (an equal drop of the score), or auto (an equal '
    'divergence per MAC). By a search: abc (a bee colony), or amc (an agent).',
    choices=tuple(ALLOCATIONS),
  )
  prune_ratio: float = option(
    0.5,
    'Fraction of the filters that go: of each layer for uniform, of all for global; for per-mac, auto, '
    'abc and amc the MACs that it leaves are the budget.',
    low=0.0,
    high=1.0,
    used_with={'prune_option': _BY_RATIO},
  )
  prune_list_file: str = option(
    'ratio.list',
    'File of prune ratios for list: one for each layer, or as fp_list_layout says.',
    used_with=_LIST,
  )
  list_layout: str = option(
    'units',
    'Meaning of the list: units (a ratio for each layer that is pruned), hrank (a rate for each '
    'convolution), or hrank-plus (stem, stages but the last, inside of each block).',
    choices=LAYOUTS,
    used_with=_LIST,
  )
  preserve_ratio: float | None = option(
    None,
    'Fraction of all MACs that stays, whatever fp_prune_option: the ratios are scaled to it.',
    low=0.0,
    high=1.0,
  )
  target_latency: float | None = option(
    None,
    "Fraction of the original's measured .tflite latency to reach, whatever fp_prune_option.",
    low=0.01,
    high=1.0,
  )
  latency_table: str | None = latency_table_option()
  target_ram: float | None = target_ram_option()
  quadruple: bool = option(False, 'Round numbers of kept filters up to multiples of four.')
  floor: float = option(
    0.1,
    'Fraction of its filters that each layer keeps at least, where a budget, global, sensitivity, '
    'auto, abc or amc decides.',
    low=0.0,
    high=1.0,
    used_with={'has_floor': True},
  )
  max_drop: float = option(
    0.01,
    'Drop of the score, in [0, 1], that each layer alone may cost, for sensitivity.',
    low=0.0,
    used_with={'prune_option': 'sensitivity'},
  )
  schedule: str = option(
    'one-shot',
    'When filters go: one-shot; layer-by-layer (rank, cut and fine-tune one layer after the other); or '
    'end-to-end (rank, cut and fine-tune all of them, in rounds).',
    choices=FILTER_SCHEDULES,
  )
  nb_rounds: int = option(
    1, 'Rounds in which the ratios grow to their end, for layer-by-layer and end-to-end.', low=1
  )
  nb_iters_ft_ratio: float = option(
    0.2,
    'Steps after each cut but the last, as a fraction of those of the final fine-tuning.',
    low=0.0,
    high=1.0,
    used_with={'schedule': ('layer-by-layer', 'end-to-end')},
  )
  repair: str = option(
    'least-squares',
    'What follows a cut before any training: none, batch-norm (its statistics are re-estimated), or '
    'least-squares (layers are refit to the outputs of the original network).',
    choices=FILTER_REPAIRS,
  )
  nb_batches: int | None = option(
    None,
    'Batches of training images for criteria and refits; default: 10 for criteria and 30 for refits, '
    'fewer where a feature map of all their images would take more than 1 GiB.',
    low=1,
  )
  batch_size: int = option(64, 'Images in each of the nb_batches batches.', low=1)
  nb_smpls_reward: int = option(
    1000, 'Images that sensitivity and candidates of abc are judged on.', low=1
  )
  jobs: int = jobs_option(
    'Candidates of abc, and layers of the scans of sensitivity and auto,',
    {'prune_option': ('sensitivity', 'auto', 'abc')},
  )
  abc_nb_sources: int = option(10, 'Food sources of the bee colony.', low=1, used_with=_ABC)
  abc_nb_cycles: int = option(10, 'Cycles of the bee colony.', low=0, used_with=_ABC)
  abc_nb_failures: int = option(
    5,
    'Attempts without success after which a food source is given up.',
    low=1,
    used_with=_ABC,
  )
  abc_max_tenths: int = option(
    10,
    'Upper bound of the filters of a layer that stay, in tenths.',
    low=1,
    high=10,
    used_with=_ABC,
  )
  abc_fitness: str = option(
    'quick',
    'How candidates are trained before they are judged: quick (batch normalisation re-estimated, then '
    'fp_abc_nb_steps), or epochs (fp_abc_nb_epochs, as published).',
    choices=FITNESSES,
    used_with=_ABC,
  )
  abc_nb_steps: int = option(
    50,
    'Training steps of a candidate, for quick.',
    low=0,
    used_with={**_ABC, 'abc_fitness': 'quick'},
  )
  abc_nb_epochs: float = option(
    2.0,
    'Training epochs of a candidate, for epochs.',
    low=0.0,
    used_with={**_ABC, 'abc_fitness': 'epochs'},
  )

  def __post_init__(self) -> None:
    super().__post_init__()
    refuse_beside_targets(self, ('prune_ratio', 'max_drop'))
    require_target(self)
    refuse_two_targets(self)
    refuse_targets_of_agent(self)
    if self.nb_rounds > 1 and self.schedule == 'one-shot':
      raise UserError(
        f'--fp_nb_rounds {self.nb_rounds} needs rounds, but --fp_schedule is one-shot: add '
        '--fp_schedule end-to-end or layer-by-layer.'
      )
    if self.list_layout != 'units' and self.quadruple and self.prune_option == 'list':
      raise UserError(
        f'--fp_quadruple rounds widths, but lists in the layout {self.list_layout} give them exactly: '
        'leave one of the two out.'
      )

  @property
  def has_floor(self) -> bool:
    """Whether anything but a given ratio decides how many filters of a layer stay."""
    decided = self.prune_option not in ('uniform', 'list')
    return decided or any(getattr(self, name) is not None for name in TARGETS)

  @property
  def step(self) -> int:
    """Numbers of filters, where not all stay, are multiples of it."""
    return 4 if self.quadruple else 1

  @property
  def keeps_all(self) -> str | None:
    """The flag that leaves all filters."""
    return keeps_all_filters(self, _BY_RATIO)

  @property
  def constants(self) -> Constants:
    """Of the bee colony."""
    return Constants(
      self.abc_nb_sources, self.abc_nb_cycles, self.abc_nb_failures, self.abc_max_tenths
    )
