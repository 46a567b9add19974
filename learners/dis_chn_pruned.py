"""DisChnPrunedLearner: drops the input channels that discriminate least.

Zhuang et al. 2018, "Discrimination-aware Channel Pruning for Deep Neural Networks" (NIPS 2018). The
network is divided into P + 1 blocks; each of the first P gets an auxiliary branch with a loss L_p, the
last one has the loss L of the network. For each block in turn

  the network is trained with L_p + L, then, for each convolution of the block in order,
  channels go (or come) by the Frobenius norm of the gradient of L^(R) + L_p by the kernel, and the
  layer is trained over those that are left,

with L^(R) the distance of the layer's output to that in the original network. Then the slim network is
trained.

Deviations. Channels are removed, as the document has it, unless `dcp_greedy add`: the paper starts with
none and adds the best. A channel that may go is judged as one that may come: by the gradient where it
is off, because at a minimum the gradient by weights that are on vanishes, whatever they are worth; the
channels are off in groups, each in another batch. Block-wise training minimises the sum of both
losses; the paper steps on one after the other. Branches start from a logistic regression, not at
random. While a layer is pruned nothing before it changes: the tensors that cross the cut before it are
computed once, and only the layers from there to the end of the block are run, over sampled images and
with normalisation at its moving statistics. Several channels change in one step (`dcp_chns_per_step`).
Behind the selection every layer that sees a change is refit to the original network's outputs by least
squares, as in He et al. 2017 (`dcp_refit`): what was trained layer by layer over few images is a worse
start for the final training. docs/dis_chn_pruned.md has what was measured.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

from secateurs.learners import register
from secateurs.learners.abstract_learner import Phase
from secateurs.learners.allocation import Allocation
from secateurs.learners.channel_learner import ChannelConfig, ChannelLearner
from secateurs.learners.channel_pass import Method, prune
from secateurs.learners.channel_sensitivity import losses_of
from secateurs.learners.channel_units import (
  MAX_ROWS,
  Unit,
  dropped_inputs,
  read_ratios,
  unit_masks,
)
from secateurs.learners.discrimination import (
  Block,
  BlockObjective,
  LayerObjective,
  find_blocks,
  make_branch,
  start_branch,
)
from secateurs.learners.frontier import Frontier, bytes_per_image
from secateurs.learners.greedy_channels import SELECTIONS, Greedy, UnitPruning, count_steps
from secateurs.learners.judging import judging_notes
from secateurs.utils.config import option
from secateurs.utils.errors import UserError
from secateurs.utils.graph import ChannelGraph
from secateurs.utils.graph.flat.cuts import first_calls
from secateurs.utils.graph.flat.walk import FlatModel, flatten_model
from secateurs.utils.training import distributed
from secateurs.utils.training.gradient_choice import GREEDY
from secateurs.utils.training.progress import format_seconds
from secateurs.utils.training.schedules import Cosine
from secateurs.utils.training.weights import named_weights

_MEGABYTE = 1 << 20
_RIDGE, _NB_POINTS, _NB_BATCHES, _BATCH = 1e-4, 10, 30, 64


@dataclasses.dataclass(frozen=True)
class DcpConfig(ChannelConfig):
  """Hyper-parameters of `dis-chn-pruned`."""

  prefix = 'dcp_'

  save_path: str = option(
    './models_dcp/model.ckpt', 'Checkpoints of the pruned model.', affects_result=False
  )
  save_path_eval: str = option(
    './models_dcp_eval/model', 'Exported slim model, without ending.', affects_result=False
  )
  prune_ratio: float = option(
    0.5, 'Share of its input channels that each layer loses; at least one stays.', low=0.0, high=1.0
  )
  prune_option: str = option(
    'uniform',
    'Where prune ratios come from: uniform (dcp_prune_ratio for all layers), list (a file), or auto '
    '(by what each layer was measured to lose, given the share of MACs).',
    choices=('uniform', 'list', 'auto'),
  )
  preserve_ratio: float | None = option(
    None,
    'Share of all MACs that may stay, for auto; default: what dcp_prune_ratio for all layers that auto '
    'can measure leaves.',
    low=0.0,
    high=1.0,
  )
  prune_list_file: str | None = option(None, 'File of prune ratios, one a layer, for list.')
  nb_stages: int = option(
    3,
    "Discrimination-aware losses beside the network's own; the network has one more block.",
    low=0,
  )
  lrn_rate_adam: float = option(
    1e-3, "Adam's learning rate for block-wise and layer-wise training.", low=0.0
  )
  nb_iters_block: int = option(20, 'Steps of block-wise training, for each block.', low=0)
  nb_iters_layer: int = option(
    10, 'Steps of layer-wise training, behind each step of the selection.', low=0
  )
  chns_per_step: int = option(2, 'Channels that change in one step of the selection.', low=1)
  greedy: str = option(
    'remove',
    'remove (starts with all channels, the worst go) or add (starts with none, the best come).',
    choices=GREEDY,
  )
  select: str = option(
    'gradient',
    'What channels are judged by: gradient; magnitude and random are for comparison.',
    choices=SELECTIONS,
  )
  refit: bool = option(
    True,
    "Behind the selection, refit what is left to the original network's outputs, layer by layer, by "
    'least squares.',
  )
  nb_batches_score: int = option(
    16,
    'Batches that gradients are taken over for a choice; where channels go, each batch judges another '
    'group of them, which is off.',
    low=1,
  )
  batch_size: int = option(64, 'Samples of a layer-wise step.', low=1)
  nb_smpls_layer: int = option(
    2048, 'Images sampled for layer-wise training; their feature maps are kept in memory.', low=1
  )
  cache_mb: int = option(
    1024, 'Memory for these feature maps, in megabytes; fewer images are sampled if need be.', low=1
  )

  def __post_init__(self) -> None:
    super().__post_init__()
    if (self.prune_list_file is not None) != (self.prune_option == 'list'):
      raise UserError(
        f'--dcp_prune_option {self.prune_option} was given with --dcp_prune_list_file '
        f'{self.prune_list_file}: a list of ratios takes --dcp_prune_option list and the file.'
      )
    if self.preserve_ratio is not None and self.prune_option != 'auto':
      raise UserError(
        f'--dcp_preserve_ratio {self.preserve_ratio:g} is a share of all MACs, which '
        f'--dcp_prune_option {self.prune_option} does not share out: add --dcp_prune_option auto, or '
        'give --dcp_prune_ratio in its place.'
      )


@register
class DisChnPrunedLearner(ChannelLearner):
  """Drops channels by discrimination-aware losses, block by block, then slices and fine-tunes."""

  name = 'dis-chn-pruned'
  Config = DcpConfig

  @property
  def max_rows(self) -> int | None:
    """None, but for `auto`, which refits each layer to measure it."""
    return MAX_ROWS if self.config.prune_option == 'auto' else None

  def compression_phases(self) -> list[Phase]:
    """For each block training and selection, then slicing, then training of the slim network."""
    phases = []
    if self.config.prune_option == 'auto':
      phases.append(Phase('allocate', self._allocate))
    for block in self._blocks():
      if block.units:
        phases += [
          Phase(f'block{block.number}_finetune', lambda block=block: self._finetune_block(block)),
          Phase(f'block{block.number}_select', lambda block=block: self._select(block)),
        ]
    if self.config.refit:
      phases.append(Phase('reconstruct', self._reconstruct))
    return [*phases, Phase('slim', self.slim), Phase('finetune', self.finetune)]

  def prepare(self) -> None:
    """Makes the auxiliary branches."""
    self._branches: dict[int, keras.Model] = {}
    if 'slim' in self.state['algorithm']:
      return
    flat, seed = flatten_model(self.model), self.run_config.seed
    for block in self._blocks():
      if block.tensor is not None and block.units:
        shape, classes = flat.shapes[block.tensor], self.helper.dataset.nb_classes
        name = f'branch{block.number}'
        self._branches[block.number] = make_branch(shape, classes, name, seed + block.number)

  def extra_variables(self) -> Mapping[str, tf.Variable]:
    """Those of the branches, while there are any."""
    return {
      f'{branch.name}/{name}': weight
      for branch in self._branches.values()
      for name, weight in named_weights(branch).items()
    }

  def requested(self) -> dict[str, Any]:
    """The part of the channels that stays, or the list of prune ratios."""
    config = self.config
    if config.prune_option == 'list':
      return {'prune_ratios': config.prune_list_file}
    if config.prune_option == 'auto':
      return {'macs_ratio': self.state['algorithm']['macs_ratio']}
    return {'channels_ratio': 1 - config.prune_ratio}

  def notes(self) -> list[str]:
    """What stayed whole, and where there were fewer blocks than asked for."""
    wanted, found = self.config.nb_stages, len(self._blocks()) - 1
    notes = super().notes()
    if self.config.prune_option == 'auto':
      notes += judging_notes(self.helper)
    if found < wanted:
      notes.append(
        f'The network falls into {found + 1} blocks only, so that there were {found} stages in place '
        f'of --dcp_nb_stages {wanted}.'
      )
    return notes

  def extra(self) -> dict[str, Any]:
    """Kept channels, the blocks, and what each layer lost and gained."""
    state = self.state['algorithm']
    keys = ('divergence', 'kept', 'blocks', 'layers', 'left_whole', 'samples', 'reconstruction')
    return {key: state[key] for key in keys if key in state}

  def slim(self) -> None:
    """Slices, behind which the branches are of no more use."""
    super().slim()
    self._branches = {}

  def _allocate(self) -> None:
    """Shares out the MACs that may stay, by what each layer was measured to lose."""
    config, state = self.config, self.state['algorithm']
    original, working = self.original(), self.original()
    graph = ChannelGraph(original)
    units, total = self.units(graph).units, graph.counts().macs
    allocation = Allocation(graph, units)
    if config.preserve_ratio is None:
      budget = allocation.macs(_left(units, [config.prune_ratio] * len(units)))
    else:
      budget = config.preserve_ratio * total
      allocation.check(budget, total, '--dcp_preserve_ratio', '--dcp_trunk')
    self.say_judging()
    self.scan(original, working, units, self._refit_images(), self._refit_method())
    prices = allocation.prices(losses_of(state['divergence'], units))
    state['counts'] = allocation.within(budget, prices)
    state['macs_ratio'] = budget / total

  # Blocks.

  def _blocks(self) -> list[Block]:
    """The blocks of the network before slicing; they follow from its structure alone."""
    if not hasattr(self, '_found_blocks'):
      graph = ChannelGraph(self.helper.build_model(self.run_config.seed))
      self._found_units = self.units(graph)
      self._found_blocks = find_blocks(
        graph.traced.flat, self.config.nb_stages, self._found_units.units
      )
    return self._found_blocks

  def _counts(self) -> dict[str, int]:
    """Channels to keep by unit name."""
    config = self.config
    if config.prune_option == 'auto':
      return self.state['algorithm']['counts']
    self._blocks()
    units = self._found_units.units
    ratios = [config.prune_ratio] * len(units)
    if config.prune_option == 'list':
      ratios = read_ratios(config.prune_list_file, units, 'dcp_prune_list_file')
    return _left(units, ratios)

  def _dropped(self) -> dict[str, np.ndarray]:
    units, kept = self._found_units.units, self.state['algorithm'].get('kept', {})
    return dropped_inputs(units, unit_masks(units, kept))

  def _finetune_block(self, block: Block) -> None:
    self._counts()  # A wrong list of ratios is told before any training.
    branch = self._branches.get(block.number)
    variables = list(self.model.trainable_variables)
    if branch is not None:
      variables += branch.trainable_variables
      if self.starts_over(f'block{block.number}_finetune'):
        self._start_branch(block, branch)
    nb_iters = self._per_rank(self.config.nb_iters_block)
    schedule = Cosine(self.config.lrn_rate_adam, nb_iters)
    self.fit(
      f'block{block.number}_finetune',
      BlockObjective(flatten_model(self.model), block, branch, self.classification()),
      keras.optimizers.Adam(schedule, jit_compile=False),
      nb_steps=nb_iters,
      variables=variables,
      masks=self.kernel_masks(self._dropped()),
    )

  def _start_branch(self, block: Block, branch: keras.Model) -> None:
    images, labels = self._samples
    frontier = Frontier(flatten_model(self.model), images)
    frontier.advance(block.end)
    start_branch(branch, frontier.tensors[block.tensor].astype(np.float32), labels)

  # Selection.

  def _select(self, block: Block) -> None:
    state, counts, name = self.state['algorithm'], self._counts(), f'block{block.number}_select'
    state.setdefault('kept', {})
    state.setdefault('layers', [])
    state['left_whole'] = self._found_units.left
    state['blocks'] = [
      {'output': self._last_layer(b), 'units': [u.name for u in b.units]} for b in self._blocks()
    ]
    flats = flatten_model(self.original()), flatten_model(self.model)
    images, labels = self._samples
    state['samples'] = len(labels) * distributed.size()
    before, now = (Frontier(flat, images) for flat in flats)
    first = first_calls(flats[1])
    clock = _Clock(count_steps(self._method(), block.units, counts))
    for unit in block.units:
      for frontier in (before, now):
        # Each cut in turn even where a resumed run needs the last alone: rounding must not differ.
        frontier.advance(first[unit.readers[0]])
      if unit.name in state['kept']:
        clock.skip(self._method().steps(unit.size, counts[unit.name]))
        continue
      record = self._prune(block, unit, counts[unit.name], before, now, labels)
      state['layers'].append(record)
      self.save(name, 0)
      clock.tick(self._method().steps(unit.size, counts[unit.name]))
      self.say(
        f'{name}  {unit.name}: {record["kept"]} of {record["of"]} input channels'
        f'{_losses(record)}{clock.eta()}'
      )

  def _prune(
    self,
    block: Block,
    unit: Unit,
    target: int,
    before: Frontier,
    now: Frontier,
    labels: np.ndarray,
  ) -> dict[str, Any]:
    """Chooses a unit's channels; returns its record."""
    end, branch = self._end(block, unit, now.flat)
    calls = now.flat.calls_by_layer()
    outputs = [calls[name][0].outputs[0] for name in unit.readers]
    wanted = before.peek(outputs)
    objective = LayerObjective(
      now.flat,
      now.position,
      end,
      branch,
      {number: tf.constant(array) for number, array in now.tensors.items()},
      {number: tf.constant(array) for number, array in wanted.items()},
      tf.constant(labels),
      self.helper.criteria,
    )
    pruning = UnitPruning(
      unit,
      now.flat.layers(),
      objective,
      len(labels),
      self._method(),
      dropped=self._dropped(),
      phase=f'block{block.number}_select of layer {unit.name}',
    )

    if target < unit.size:
      pruning.run(target)
    else:
      pruning.keep_all()
    kept = np.flatnonzero(pruning.mask).tolist()
    self.state['algorithm']['kept'][unit.name] = kept
    return {'name': unit.name, 'block': block.number, 'kept': len(kept), 'of': unit.size} | {
      name: value for name, value in pruning.means.items() if name != 'loss'
    }

  def _reconstruct(self) -> None:
    """Refits all layers that see a change, in order, with the channels that were chosen."""
    units, original = self._found_units.units, self.original()
    model, images = self.working_model(), self._refit_images()
    kept = unit_masks(units, self.state['algorithm']['kept'])
    _, records = prune(original, model, units, {}, images, self._refit_method(), given=kept)
    self.model.set_weights(model.get_weights())
    self.state['algorithm']['reconstruction'] = records

  def _refit_images(self) -> list[np.ndarray]:
    return self.images('reconstruct', self.nb_batches_within(_NB_BATCHES, _BATCH), _BATCH)

  def _refit_method(self) -> Method:
    nb_batches = self.nb_batches_within(_NB_BATCHES, _BATCH)
    return Method(
      selection='backward',
      refit_all=True,
      ridge=_RIDGE,
      seed=self.run_config.seed,
      nb_points=math.ceil(_NB_POINTS * _NB_BATCHES / nb_batches),
    )

  def _end(self, block: Block, unit: Unit, flat: FlatModel) -> tuple[int, keras.Model | None]:
    """The tensor that L_p is computed from, and what makes logits of it.

    For channels that a layer behind the block reads, too, L stands in for L_p.
    """
    last = max(first_calls(flat)[name] for name in unit.readers)
    if block.tensor is None or last >= block.end:
      return flat.outputs[0], None
    return block.tensor, self._branches[block.number]

  def _method(self) -> Greedy:
    config = self.config
    return Greedy(
      select=config.select,
      greedy=config.greedy,
      per_step=config.chns_per_step,
      nb_iters=self._per_rank(config.nb_iters_layer),
      nb_batches_score=config.nb_batches_score,
      batch_size=config.batch_size,
      lrn_rate=config.lrn_rate_adam,
      seed=self.run_config.seed,
    )

  def _per_rank(self, nb_iters: int) -> int:
    """Steps of each process, from those of all together."""
    return -(-nb_iters // distributed.size())

  @functools.cached_property
  def _samples(self) -> tuple[np.ndarray, np.ndarray]:
    """This process's images float32 [n, h, w, c] and labels, no more than the memory allows."""
    config, flat = self.config, flatten_model(self.model)
    first, need = first_calls(flat), 0
    for unit in self._found_units.units:
      calls = flat.calls_by_layer()
      shapes = [flat.shapes[calls[name][0].outputs[0]] for name in unit.readers]
      targets = 2 * sum(int(np.prod(shape[1:])) for shape in shapes)
      need = max(need, 2 * bytes_per_image(flat, first[unit.readers[0]]) + targets)
    wanted = min(config.nb_smpls_layer, self.helper.nb_samples('train'))
    nb = self._per_rank(wanted)
    room = max(config.cache_mb * _MEGABYTE // need, min(config.batch_size, nb))
    if room < nb:
      self.say(
        f'--dcp_cache_mb {config.cache_mb} has room for the feature maps of {room} images, so that '
        f'many are sampled in place of {nb}.'
      )
      nb = room
    size = min(config.batch_size, nb)
    batches = self.helper.train_batches(
      size,
      self.stream_seed('select'),
      augment=self.sample_augmentation,
      shard=distributed.shard(),
    ).take(-(-nb // size))
    images, labels = zip(*((x.numpy(), y.numpy()) for x, y in batches))
    return np.concatenate(images)[:nb], np.concatenate(labels)[:nb]

  def before_training(self, graph: ChannelGraph) -> None:
    """Forgets the samples, which nothing reads behind the selection."""
    del graph
    self.__dict__.pop('_samples', None)

  def _last_layer(self, block: Block) -> str:
    flat = flatten_model(self.model)
    return flat.calls[block.end - 1].name


class _Clock:
  """Time left of the selection in a block, by its steps."""

  def __init__(self, total: int) -> None:
    self._left, self._done, self._began = total, 0, time.perf_counter()

  def skip(self, steps: int) -> None:
    """Takes note of steps that an earlier process took."""
    self._left -= steps

  def tick(self, steps: int) -> None:
    """Takes note of steps that were just taken."""
    self._left -= steps
    self._done += steps

  def eta(self) -> str:
    """What to append to a line."""
    if not self._done or not self._left:
      return ''
    seconds = self._left * (time.perf_counter() - self._began) / self._done
    return f'  ETA {format_seconds(seconds)}'


def nb_left(size: int, ratio: float) -> int:
  """Channels that stay of `size` when a share in [0, 1] goes: c - floor(ratio * c), at least one."""
  return max(size - int(np.floor(ratio * size + 1e-9)), 1)


def _left(units: Sequence[Unit], ratios: Sequence[float]) -> dict[str, int]:
  return {unit.name: nb_left(unit.size, ratio) for unit, ratio in zip(units, ratios, strict=True)}


def _losses(record: Mapping[str, Any]) -> str:
  if 'loss_reconstruction' not in record:
    return ''
  return (
    f', reconstruction {record["loss_reconstruction"]:.4f}, discrimination '
    f'{record["loss_discrimination"]:.4f}'
  )
