"""Flags that learners of channels share; each learner puts its prefix before their names."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from secateurs.learners.channels.allocation.amc_config import AMC, AmcConfig
from secateurs.learners.channels.allocation.registry import ALLOCATIONS
from secateurs.learners.channels.cuts.units import TRUNKS
from secateurs.learners.channels.repair.method import Method, nb_points
from secateurs.learners.channels.targets import (
  refuse_targets_of_agent,
  refuse_two_targets,
  require_target,
)
from secateurs.learners.run.training.jobs import jobs_option
from secateurs.utils.config import Config, option
from secateurs.utils.errors import UserError
from secateurs.utils.graph.groups.channel_graph import HEADS, NORMS
from secateurs.utils.training.layerwise.maps import MapStore


def latency_table_option() -> Any:
  """The option `latency_table` of learners that have `target_latency`."""
  return option(
    None,
    'Table of latencies of python -m secateurs.utils.deploy.latency_table: the target in latency is '
    'allocated by it, for the least loss.',
  )


def target_ram_option() -> Any:
  """The option `target_ram` of learners that have `target_latency`."""
  return option(
    None,
    "Fraction of the original's peak activation memory (RAM of the .tflite file, by a planner) to "
    'reach: layers that hold the peak are narrowed, for the least loss, and no others.',
    low=0.01,
    high=1.0,
  )


@dataclasses.dataclass(frozen=True)
class ChannelConfig(Config):
  """Which channels may be pruned."""

  trunk: str = option(
    'keep',
    'Channels joined by residual additions: keep all, couple (drop for all layers of the trunk), or '
    'gather (each convolution chooses its own).',
    choices=TRUNKS,
  )
  skip: str | None = option(
    None, 'Names or patterns of layers, separated by commas, whose channels stay whole.'
  )
  norms: str = option(
    'keep',
    'Channels that a LayerNormalization or the like runs over: keep all, or cut. A cut changes the '
    'statistics, and so the outputs; scale and offset are fitted to reduce this.',
    choices=NORMS,
  )
  heads: str = option(
    'width',
    'What is removed inside an attention: width (the same channels of every head) or whole (heads).',
    choices=HEADS,
  )
  even_splits: bool = option(
    True,
    'Keep the parts of a split equally wide where they were, so that the runtime can use its fast '
    'operator; for this up to an eighth of the channels of a layer may go, or stay, in addition.',
  )

  @property
  def skipped(self) -> list[str]:
    """Patterns of layers to leave whole."""
    return [name.strip() for name in (self.skip or '').split(',') if name.strip()]

  @property
  def keeps_all(self) -> str | None:
    """The flag that asks for all channels to stay, as it is written; None where some may go."""
    return None

  @property
  def trunk_choices(self) -> tuple[str, ...]:
    """What `trunk` may be."""
    (field,) = (one for one in dataclasses.fields(self) if one.name == 'trunk')
    return tuple(field.metadata['choices'])


@dataclasses.dataclass(frozen=True)
class WidthConfig(ChannelConfig, AmcConfig):
  """How many channels of each layer stay.

  A subclass has `prune_option`, `preserve_ratio` and `prune_list_file` with its own defaults.
  """

  settled_by: ClassVar[Mapping[str, str]] = {
    'searches': '--{prefix}nb_rlouts above 1',
    'scans': '--{prefix}prune_option auto, --{prefix}latency_table or --{prefix}target_ram',
  }

  prune_option: str = option(
    'uniform',
    'Where ratios come from: uniform (one for all layers), list (a file), auto (measured for each '
    'layer, given the fraction of MACs that stays), or amc (an agent learns them, given the same).',
    choices=('uniform', 'list', 'auto', AMC),
  )
  target_latency: float | None = option(
    None,
    "Fraction of the original's measured .tflite latency to reach; replaces the ratio of uniform or "
    'auto.',
    low=0.01,
    high=1.0,
  )
  latency_table: str | None = latency_table_option()
  target_ram: float | None = target_ram_option()
  quadruple: bool = option(False, 'Round numbers of kept channels up to multiples of four.')
  nb_rlouts: int = option(
    1,
    'Candidates that auto tries: 1 takes what the measured curves give, more are searched by Optuna.',
    low=1,
    used_with={'prune_option': 'auto'},
  )
  nb_rlouts_min: int = option(
    50,
    "Number of initial random trials, before Optuna's sampler takes over.",
    low=1,
    used_with={'prune_option': 'auto', 'searches': True},
  )
  jobs: int = jobs_option('Candidates of auto, and layers of scans,', {'scans': True})
  nb_smpls_reward: int = option(
    2000, 'Images that candidates are judged on.', low=1, used_with={'prune_option': ('auto', AMC)}
  )

  def __post_init__(self) -> None:
    super().__post_init__()
    require_target(self)
    refuse_targets_of_agent(self)
    refuse_two_targets(self)
    for name in ('target_latency', 'target_ram'):
      if getattr(self, name) is not None and self.prune_option == 'list':
        raise UserError(
          f'--{self.prefix}{name} chooses how much stays, but --{self.prefix}prune_option list '
          'gives that: leave one of the two out.'
        )

  @property
  def searches(self) -> bool:
    """Whether several candidates are tried."""
    return self.nb_rlouts > 1

  @property
  def measures(self) -> bool:
    """Whether widths follow from what each layer loses, or from candidates that are judged."""
    tables = self.latency_table, self.target_ram
    return tables != (None, None) or ALLOCATIONS.find(self.prune_option).by_budget

  @property
  def scans(self) -> bool:
    """Whether each layer is pruned alone, to measure what it loses."""
    return self.measures and self.prune_option != AMC

  @property
  def step(self) -> int:
    """Numbers of channels, where not all stay, are multiples of it."""
    return 4 if self.quadruple else 1

  @property
  def keeps_all(self) -> str | None:
    """A fraction of all MACs for auto, or a ratio for uniform, that leaves nothing to go."""
    if (
      self.target_latency is None
      and self.target_ram is None
      and self.prune_option != 'list'
      and self.preserve_ratio == 1
    ):
      return f'--{self.prefix}preserve_ratio 1'
    return None


@dataclasses.dataclass(frozen=True)
class RefitConfig(Config):
  """How layers are refit by least squares, and over which samples."""

  refit: bool = option(
    True,
    'Refit the kept weights by least squares; otherwise lasso scales them by its coefficients, and '
    'other selections leave them as they are.',
  )
  refit_all: bool = option(
    True,
    'Refit layers that keep all of their inputs, too, where these have changed.',
    used_with={'refit': True},
  )
  nb_points_per_layer: int | None = option(
    None, 'Points sampled per image and layer; default: 10, more where batches are fewer.', low=1
  )
  nb_batches: int | None = option(
    None,
    'Batches of training images to sample from; default: 30, fewer where a feature map of all their '
    'images would take more than 1 GiB.',
    low=1,
  )
  batch_size: int = option(64, 'Images in each of the nb_batches batches.', low=1)
  ridge: float = option(
    1e-4, 'Penalty of least squares, relative to the mean energy of an input.', low=0.0, high=1.0
  )

  def method(
    self,
    selection: str,
    seed: int,
    nb_batches: int,
    store: Callable[[], MapStore],
    *,
    alternating: bool = False,
    scalar: bool = False,
    keep_zeros: bool = False,
  ) -> Method:
    """How channels are chosen and layers refit.

    Args:
      selection: a criterion.
      seed: of the sampled positions and of random selection.
      nb_batches: batches that are sampled from.
      store: gives a store of feature maps.
      alternating: for lasso, the alternating scheme.
      scalar: whether layers are refit by one factor for each channel.
      keep_zeros: whether weights that are zero stay zero.
    """
    return Method(
      selection=selection,
      alternating=alternating,
      refit=self.refit,
      scalar=scalar,
      refit_all=self.refit and self.refit_all,
      ridge=self.ridge,
      keep_zeros=keep_zeros,
      seed=seed,
      nb_points=self.nb_points_per_layer or nb_points(nb_batches),
      store=store,
    )
