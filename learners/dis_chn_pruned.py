"""DisChnPrunedLearner: drops the input channels that discriminate least.

Zhuang et al. 2018, "Discrimination-aware Channel Pruning for Deep Neural Networks" (NIPS 2018). The
network is divided into P + 1 blocks; each of the first P gets an auxiliary head with a loss L_p, the
last one has the loss L of the network. For each block in turn

  1. the network is trained with L_p + L;
  2. for each convolution of the block in order, channels go (or come) by the Frobenius norm of the
     gradient of L^(R) + L_p by the kernel, and the layer is trained over those that are left.

L^(R) is the distance of the layer's output to that in the original network. Then the slim network is
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

import numpy as np

from secateurs.learners import register
from secateurs.learners.channels.allocation.ratios import nb_left
from secateurs.learners.channels.blocks.block_learner import BlockLearner
from secateurs.learners.channels.blocks.block_selection import BlockSelection
from secateurs.learners.channels.blocks.dcp_config import DcpConfig
from secateurs.learners.channels.blocks.discrimination import Block
from secateurs.learners.channels.blocks.greedy import Greedy
from secateurs.learners.channels.cuts.cutting import unit_masks
from secateurs.learners.channels.repair.even import evened_by_norms
from secateurs.learners.channels.repair.method import NB_BATCHES, Method, nb_points
from secateurs.learners.channels.repair.reconstruct import prune
from secateurs.learners.channels.state import ChannelState
from secateurs.learners.channels.widths import Widths
from secateurs.learners.run.phases import Phase
from secateurs.utils import nested
from secateurs.utils.training import distributed
from secateurs.utils.training.layerwise.linear import MAX_ROWS

_RIDGE, _BATCH = 1e-4, 64


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
    """None, but where each layer is refit to measure it."""
    return MAX_ROWS if self.config.measures else None

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
    state.samples = nested.size(targets) * distributed.size()
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
    if block is [one for one in self.blocks if one.units][-1] and config.even_splits:
      self._even()

  def _even(self) -> None:
    """The choice with parts of splits equally wide; without a refit no channel can be added."""
    state, units, original = self.state, self.found_units.units, self.original()
    chosen, drop_only = unit_masks(units, state.kept), not self.config.refit
    found = evened_by_norms(self.graph(original), units, {}, chosen, drop_only=drop_only)
    state.kept = {name: np.flatnonzero(mask).tolist() for name, mask in found.items()}

  def _reconstruct(self) -> None:
    """Refits all layers that see a change, in order, with the channels that were chosen."""
    self.forget_samples()
    units, original = self.found_units.units, self.original()
    model, images = self.working_model(), [batch[0] for batch in self.refit_batches()]
    kept = unit_masks(units, self.state.kept)
    refit = self.config.refit
    method = dataclasses.replace(self.refit_method(), refit=refit, refit_all=refit)
    _, records = prune(original, model, units, {}, images, method, given=kept)
    self.model.set_weights(model.get_weights())
    self.state.reconstruction = records
