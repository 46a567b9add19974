"""DisChnPrunedLearner: drops the input channels that discriminate least.

Zhuang et al. 2018, "Discrimination-aware Channel Pruning for Deep Neural Networks" (NIPS 2018). The
network is divided into P + 1 blocks; each of the first P gets an auxiliary head with a loss L_p, the
last one has the loss L of the network. For each block in turn

  the network is trained with L_p + L, then, for each convolution of the block in order,
  channels go (or come) by the Frobenius norm of the gradient of L^(R) + L_p by the kernel, and the
  layer is trained over those that are left,

with L^(R) the distance of the layer's output to that in the original network. Then the slim network is
trained.

Deviations. Channels are removed, as the document has it, unless `dcp_greedy add`: the paper starts with
none and adds the best. A channel that may go is judged as one that may come: by the gradient where it
is off, because at a minimum the gradient by weights that are on vanishes, whatever they are worth; the
channels are off in groups, each in another batch (`dcp_score on` judges them where they are on, as the
document has it). Block-wise training minimises the sum of both
losses; the paper steps on one after the other. Heads start from a logistic regression, not at
random. While a layer is pruned nothing before it changes: the tensors that cross the cut before it are
computed once, and only the layers from there to the end of the block are run, over sampled images and
with normalisation at its moving statistics. Several channels change in one step. After the selection
every layer that sees a change is refit to the original network's outputs by least squares, as in He et
al. 2017 (`dcp_refit`): training over few images is a worse start. At ratio 1 one channel of each layer
stays, because a layer of none has no output. Measured: docs/dis_chn_pruned.md.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

from secateurs.learners import register
from secateurs.learners.channels.block_learner import BlockConfig, BlockLearner
from secateurs.learners.channels.block_selection import BlockSelection
from secateurs.learners.channels.cutting import unit_masks
from secateurs.learners.channels.discrimination import Block
from secateurs.learners.channels.greedy import SELECTIONS, Greedy
from secateurs.learners.channels.greedy_scores import SCORES
from secateurs.learners.channels.ratios import nb_left
from secateurs.learners.channels.reconstruct import NB_BATCHES, Method, nb_points, prune
from secateurs.learners.channels.state import ChannelState
from secateurs.learners.channels.widths import Widths
from secateurs.learners.run.phases import Phase
from secateurs.utils.config import option
from secateurs.utils.errors import UserError
from secateurs.utils.training import distributed
from secateurs.utils.training.layerwise.gradient_choice import GREEDY
from secateurs.utils.training.layerwise.linear import MAX_ROWS

_RIDGE, _BATCH = 1e-4, 64


@dataclasses.dataclass(frozen=True)
class DcpConfig(BlockConfig):
  """Hyper-parameters of `dis-chn-pruned`."""

  prefix = 'dcp_'

  save_path: str = option('./models_dcp/model.ckpt', 'Checkpoints.', affects_result=False)
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
    'Fraction of all MACs that stays, for auto; default: what dcp_prune_ratio for all layers that auto '
    'can measure leaves.',
    low=0.0,
    high=1.0,
    used_with={'prune_option': 'auto'},
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
    'Each layer decides by itself how many channels come: as many as it takes until another one '
    'changes its loss by no more than this fraction of the loss without any; replaces ratios.',
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

  @property
  def keeps_all(self) -> str | None:
    """As of all widths, or a ratio of 0 for uniform."""
    if self.epsilon is None and self.prune_option == 'uniform' and self.prune_ratio == 0:
      return None if self.target_latency else '--dcp_prune_ratio 0'
    return super().keeps_all

  def _check_epsilon(self) -> None:
    if self.epsilon is None:
      for name in ('floor', 'ceiling'):
        if getattr(self, name) != getattr(DcpConfig, name):
          raise UserError(f'--dcp_{name} has an effect only with --dcp_epsilon: add it.')
      return
    if self.prune_option != 'uniform' or self.target_latency is not None:
      raise UserError(
        'With --dcp_epsilon each layer decides how many channels it keeps: leave --dcp_prune_option '
        'and --dcp_target_latency out.'
      )
    if self.floor > self.ceiling:
      raise UserError(
        f'--dcp_floor {self.floor:g} lies above --dcp_ceiling {self.ceiling:g}: give a smaller floor.'
      )


@dataclasses.dataclass
class DcpState(ChannelState):
  """What `dis-chn-pruned` remembers.

  Attributes:
    blocks: for each block its last layer (`output`) and the names of its units (`units`).
    samples: images that layers were chosen and trained on, of all processes.
    reconstruction: a record of each layer that was refit after the selection.
  """

  blocks: list[dict[str, Any]] | None = None
  samples: int | None = None
  reconstruction: list[dict[str, Any]] | None = None


@register
class DisChnPrunedLearner(BlockLearner):
  """Drops channels by discrimination-aware losses, block by block, then slices and fine-tunes."""

  name = 'dis-chn-pruned'
  Config, State = DcpConfig, DcpState
  list_of = 'prune_ratios'
  config: DcpConfig
  state: DcpState

  @property
  def max_rows(self) -> int | None:
    """None, but for `auto`, which refits each layer to measure it."""
    return MAX_ROWS if self.config.prune_option == 'auto' else None

  def compression_phases(self) -> list[Phase]:
    """For each block training and selection, then slicing, then training of the slim network."""
    phases = self.width_phases()
    if self.settings.run.plan is not None:
      phases.append(Phase('choose', self.take_plan))
    else:
      for block in self.blocks:
        if block.units:
          name = f'block{block.number}'
          phases += [
            Phase(f'{name}_finetune', functools.partial(self.finetune_block, block)),
            Phase(f'{name}_select', functools.partial(self._select, block)),
          ]
    if self.config.refit or self.settings.run.plan is not None:
      phases.append(Phase('reconstruct', self._reconstruct))
    finetune = Phase('finetune', self.finetune, self.rates.fine_tune_steps())
    return [*phases, Phase('slice', self.slice), finetune]

  def requested(self) -> dict[str, Any]:
    """As of all learners of widths; with an adaptive stop, its epsilon."""
    if self.config.epsilon is not None and self.settings.run.plan is None:
      return {'epsilon': self.config.epsilon}
    return super().requested()

  def channels_ratio(self) -> float:
    """What the prune ratio of uniform leaves."""
    return 1 - self.config.prune_ratio

  def extra(self) -> dict[str, Any]:
    """Kept channels, the blocks, and what each layer lost and gained."""
    own = {name: getattr(self.state, name) for name in ('blocks', 'samples', 'reconstruction')}
    return super().extra() | {name: value for name, value in own.items() if value is not None}

  def slice(self) -> None:
    """Slices, after which the heads and the samples are of no more use."""
    super().slice()
    self.forget_blocks()

  # What the widths are found with.

  @functools.cached_property
  def widths(self) -> Widths:
    """Prune ratios: what goes of each layer."""
    config = self.config
    return self.make_widths(
      width=lambda size, ratio: nb_left(size, ratio, config.quadruple),
      ratio=config.prune_ratio,
      budget=config.preserve_ratio,
    )

  def refit_batches(self) -> list[tuple]:
    """Samples that layers are refit over."""
    return self.samples('reconstruct', self.nb_batches_within(NB_BATCHES, _BATCH), _BATCH)

  def refit_method(self) -> Method:
    """How layers are refit, and channels chosen where layers are measured alone."""
    settings, nb_batches = self.settings, self.nb_batches_within(NB_BATCHES, _BATCH)
    return Method(
      selection='backward',
      refit_all=True,
      ridge=_RIDGE,
      keep_zeros=self.keeps_zeros,
      seed=settings.run.seed,
      nb_points=nb_points(nb_batches),
      store=self.map_store,
    )

  # Selection.

  def _select(self, block: Block) -> None:
    state, found, config = self.state, self.found_units, self.config
    state.left_whole, state.blocks = found.left, self.describe_blocks()
    inputs, targets = self.layer_samples
    state.samples = len(targets) * distributed.size()
    greedy = Greedy(
      config.select,
      config.greedy,
      config.chns_per_step,
      self.per_rank(config.nb_iters_layer),
      config.nb_batches_score,
      config.batch_size,
      config.lrn_rate_adam,
      self.settings.run.seed,
      config.score,
      config.epsilon,
      config.floor,
      config.ceiling,
    )
    selection = BlockSelection(
      block,
      self.heads.get(block.number),
      found.units,
      self.widths.counts(found.units),
      state.kept,
      greedy,
      self.helper.task,
      inputs,
      targets,
      self.budget,
    )

    def done(record: dict[str, Any]) -> None:
      state.layers.append(record)
      self.save(f'block{block.number}_select', 0)

    selection.run(self.original(), self.model, done)

  def _reconstruct(self) -> None:
    """Refits all layers that see a change, in order, with the channels that were chosen."""
    units, original = self.found_units.units, self.original()
    model, images = self.working_model(), [batch[0] for batch in self.refit_batches()]
    kept = unit_masks(units, self.state.kept)
    refit = self.config.refit
    method = dataclasses.replace(self.refit_method(), refit=refit, refit_all=refit)
    _, records = prune(original, model, units, {}, images, method, given=kept)
    self.model.set_weights(model.get_weights())
    self.state.reconstruction = records
