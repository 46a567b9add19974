"""What learners need that go block by block, with an auxiliary head after each."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

from secateurs.learners.channels.blocks.discrimination import Block, BlockObjective, find_blocks
from secateurs.learners.channels.configs import WidthConfig
from secateurs.learners.channels.cuts.cutting import input_masks, unit_masks
from secateurs.learners.channels.cuts.layer_samples import images_within
from secateurs.learners.channels.cuts.units import Units
from secateurs.learners.channels.width_learner import WidthLearner
from secateurs.learners.run.compression import extended
from secateurs.learners.run.preflight import estimate
from secateurs.learners.run.preflight.budget import sample_bytes
from secateurs.learners.run.preflight.estimate import Need
from secateurs.learners.run.results.reporting import Findings
from secateurs.utils import memory
from secateurs.utils.config import option
from secateurs.utils.graph.counts.memory import map_bytes
from secateurs.utils.graph.flat.walk import flatten_model
from secateurs.utils.training import distributed
from secateurs.utils.training.engine.hooks import Hooks
from secateurs.utils.training.engine.schedules import Cosine
from secateurs.utils.training.layerwise.frontier import Frontier
from secateurs.utils.training.models.weights import named_weights


@dataclasses.dataclass(frozen=True)
class BlockConfig(WidthConfig):
  """How many blocks there are, and how they and their layers are trained."""

  nb_stages: int = option(
    3,
    'Number of auxiliary losses; the network is split into this many + 1 blocks.',
    low=0,
  )
  lrn_rate_adam: float = option(
    1e-3, "Adam's learning rate for block-wise and layer-wise training.", low=0.0
  )
  nb_iters_block: int = option(20, 'Steps of block-wise training, for each block.', low=0)
  batch_size: int = option(64, 'Samples of a layer-wise step.', low=1)
  nb_smpls_layer: int = option(
    2048, 'Images sampled for layer-wise training; their feature maps are kept.', low=1
  )
  cache_mb: int = option(
    1024,
    'Size of kept feature maps, in memory and on disk, in megabytes; fewer images are sampled if need '
    'be.',
    low=1,
  )


class BlockLearner(WidthLearner):
  """A learner that trains the network block by block, each with the loss of an auxiliary head.

  Attributes:
    heads: the auxiliary heads by the number of their block, until the network is sliced.
  """

  config: BlockConfig

  def findings(self) -> Findings:
    """As of all learners of widths, and where there were fewer blocks than asked for."""
    wanted, found = self.config.nb_stages, len(self.blocks) - 1
    notes = []
    if found < wanted:
      notes.append(
        f'The network can be split into {found + 1} blocks only, so that there were {found} stages in '
        f'place of --{self.config.prefix}nb_stages {wanted}.'
      )
    return extended(super().findings(), notes)

  def prepare(self) -> None:
    """Makes the auxiliary heads."""
    super().prepare()
    self.heads: dict[int, keras.Model] = {}
    planned = self.settings.run.plan is not None
    if self.state.slim is not None or planned or self.keeps_all is not None:
      return
    flat, seed = flatten_model(self.model), self.settings.run.seed
    for block in self.blocks:
      if block.tensor is not None and block.units:
        shape, name = flat.shapes[block.tensor], f'branch{block.number}'
        self.heads[block.number] = self.helper.task.make_head(shape, name, seed + block.number)

  def memory_needs(self) -> list[Need]:
    """As of all learners, and what a step over one block takes beside the kept maps."""
    if self.state.slim is not None:
      return super().memory_needs()
    flat, config = flatten_model(self.model), self.config
    blocks = [map_bytes(flat, flat.calls[block.begin : block.end]) for block in self.blocks]
    maps = max(blocks, key=sample_bytes)
    cache = config.cache_mb * memory.MEGABYTE
    return [
      *super().memory_needs(),
      estimate.of_layers(self.budget, maps, config.batch_size, cache),
    ]

  def extra_variables(self) -> Mapping[str, tf.Variable]:
    """Those of the heads, while there are any."""
    return {
      f'{head.name}/{name}': weight
      for head in self.heads.values()
      for name, weight in named_weights(head).items()
    }

  @functools.cached_property
  def found_units(self) -> Units:
    """What can be pruned of the network before slicing."""
    graph = self.graph(self.helper.build_model(self.settings.run.seed))
    return self.units(graph)

  @functools.cached_property
  def blocks(self) -> list[Block]:
    """The blocks of the network before slicing; they follow from its structure alone."""
    flat = flatten_model(self.helper.build_model(self.settings.run.seed))
    return find_blocks(flat, self.config.nb_stages, self.found_units.units)

  def describe_blocks(self) -> list[dict[str, Any]]:
    """For each block its last layer (`output`) and the names of its units (`units`)."""
    calls = flatten_model(self.model).calls
    return [
      {'output': calls[block.end - 1].name, 'units': [unit.name for unit in block.units]}
      for block in self.blocks
    ]

  def finetune_block(self, block: Block) -> None:
    """The phase that trains the network with the loss of a block."""
    self.widths.counts(self.found_units.units)  # A wrong list fails before any training.
    name, config = f'block{block.number}_finetune', self.config
    head, units = self.heads.get(block.number), self.found_units.units
    variables = list(self.model.trainable_variables)
    if head is not None:
      variables += head.trainable_variables
      if self.session.starts_over(name):
        self._start_head(block, head)
    nb_iters = self.per_rank(config.nb_iters_block)
    masks = input_masks(self.model, units, unit_masks(units, self.state.kept))
    self.fit(
      name,
      BlockObjective(flatten_model(self.model), block, head, self.objective()),
      keras.optimizers.Adam(Cosine(config.lrn_rate_adam, nb_iters), jit_compile=False),
      nb_steps=nb_iters,
      variables=variables,
      hooks=Hooks(constraints=[masks]),
    )

  def _start_head(self, block: Block, head: keras.Model) -> None:
    inputs, targets = self.layer_samples
    frontier = Frontier(flatten_model(self.model), inputs, self.budget.store())
    frontier.advance(block.end)
    self.helper.task.start_head(head, frontier.tensors[block.tensor], targets)
    frontier.close()

  def per_rank(self, nb_iters: int) -> int:
    """Steps of each process, from those of all together."""
    return -(-nb_iters // distributed.size())

  @functools.cached_property
  def layer_samples(self) -> tuple[np.ndarray, np.ndarray]:
    """This process's inputs float32 [n, ...] and targets, no more than the memory allows."""
    config = self.config
    wanted = self.per_rank(min(config.nb_smpls_layer, self.helper.nb_samples('train')))
    return images_within(
      config.cache_mb,
      wanted,
      config.batch_size,
      flatten_model(self.model),
      self.found_units.units,
      lambda size: self.helper.train_batches(
        size,
        self.settings.stream_seed('select'),
        augment=self.sample_augmentation,
        shard=distributed.shard(),
      ),
    )

  def forget_samples(self) -> None:
    """Lets the samples go, which nothing reads after the selection; the heads stay in checkpoints."""
    self.__dict__.pop('layer_samples', None)

  def forget_blocks(self) -> None:
    """Lets the heads and the samples go."""
    self.heads = {}
    self.forget_samples()
