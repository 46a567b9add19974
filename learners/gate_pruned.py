"""GatePrunedLearner: gates learn which channels go while the network trains.

Luo & Wu 2018, "AutoPruner: An End-to-End Trainable Filter Pruning Method" (arXiv:1805.08941). After an
activation with C channels stands a gate: the batch's mean map, 2x2 max pooling, a fully connected layer
over the whole map, and v = sigmoid(alpha z), by which the channels are multiplied. The loss is

  cross-entropy + lambda (||v||_1 / C - r)^2

with r the fraction of channels that stays, alpha growing, and lambda = 100 |r_b - r|, r_b being the
fraction of gates that are open. Layers are gated jointly or in groups (`gp_groups`).

The five questions of `channels.questions`: criterion the mean gate, allocation `gp_prune_option` (it
gives r), schedule `gp_groups`, pressure the gates, repair `gp_repair` and fine-tuning.

Deviations. The gates with the highest running means stay, as many as r asks for, and not those of one
batch that are above 0.5. With `gp_repair least-squares` the original network is cut and refit, so that
gates only choose; with none the weights are those that were trained with gates, as published. Gradients
are clipped (`gp_clip_norm`): gates that flip from batch to batch would let losses grow forever. The
first weights have the standard deviation 10 sqrt(2 / n) of the official code (`gp_init`).
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from secateurs.learners import register
from secateurs.learners.channels.allocation.ranked import Ranked
from secateurs.learners.channels.criteria.ranking import best
from secateurs.learners.channels.cuts.cutting import RowMasks, unit_masks
from secateurs.learners.channels.cuts.even_splits import evened_choice
from secateurs.learners.channels.cuts.units import Units
from secateurs.learners.channels.filter_learner import FilterLearner
from secateurs.learners.channels.repair.filter_repair import repair
from secateurs.learners.pressure.gated import GatedObjective, gate_places
from secateurs.learners.pressure.gating import Gates
from secateurs.learners.pressure.gp_config import GpConfig
from secateurs.learners.pressure.gp_state import GpState
from secateurs.learners.pressure.passes import parts
from secateurs.learners.run.compression import extended
from secateurs.learners.run.console import say
from secateurs.learners.run.phases import Phase
from secateurs.learners.run.results.reporting import Findings
from secateurs.utils.errors import UserError
from secateurs.utils.graph import ChannelGraph
from secateurs.utils.graph.counts.memory import MapBytes
from secateurs.utils.training.engine.events import Event
from secateurs.utils.training.engine.hooks import Hooks
from secateurs.utils.training.models.weights import copy_weights

_NB_IMAGES = 64


@register
class GatePrunedLearner(FilterLearner):
  """Trains gates with the network, cuts the channels that they close, and fine-tunes."""

  name = 'gate-pruned'
  aliases = ('gate',)
  Config, State = GpConfig, GpState
  sliced_title = 'Pruned, before fine-tuning'
  config: GpConfig
  state: GpState
  _gates: Gates | None = None  # None once the network is sliced.

  def prepare(self) -> None:
    """Makes the gates of a network that is not sliced yet."""
    super().prepare()
    if self.settings.run.plan is not None or self.state.slim is not None or self.keeps_all:
      return
    graph = self.graph(self.settings.in_float32(self.model))
    units = self.units(graph).units
    self._gates = Gates(graph, units, self.config, self.settings.run.seed)
    self.widths().check(self._even())

  def units(self, graph: ChannelGraph) -> Units:
    """The groups of channels that can be cut and have a place for a gate.

    Raises:
      UserError: there are none.
    """
    found = super().units(graph)
    gated = [unit for unit in found.units if gate_places(graph, unit)]
    left = [
      f'{unit.name}: no map with its channels alone can be gated'
      for unit in found.units
      if unit not in gated
    ]
    if not gated:
      raise UserError(
        f'No layer of {self.helper.net} has channels that can be gated ({"; ".join(left)}): take '
        'reg-pruned or filter-pruned.'
      )
    return Units(gated, [*found.left, *left])

  def training_maps(self) -> MapBytes:
    """With those that gates multiply, which are stored beside the gated ones."""
    maps, gates = super().training_maps(), self._gates
    gated = 0 if gates is None else max(map(gates.map_bytes, gates.groups))
    return dataclasses.replace(maps, training=maps.training + gated)

  def extra_variables(self) -> Mapping[str, tf.Variable]:
    """The gates and the rules' values."""
    return {} if self._gates is None else self._gates.variables()

  def compression_phases(self) -> list[Phase]:
    """Each group's training with gates and its cut; then slicing and fine-tuning."""
    if self.settings.run.plan is not None:
      first = [Phase('cut', self.take_plan)]
    else:
      first = [Phase('allocate', self.allocate)] if self.widths().measures else []
      names = self._group_steps()
      for number, nb_steps in enumerate(names, 1):
        first.append(Phase(f'gate{number}', functools.partial(self._gate, number), nb_steps))
        first.append(Phase(f'cut{number}', functools.partial(self._cut, number)))
    tuning = Phase('finetune', self.finetune, self.last_steps)
    return [*first, Phase('slice', self.slice), tuning]

  @property
  def last_steps(self) -> int:
    """Steps of the slim network: those that training with gates leaves."""
    nb_steps = super().last_steps
    if nb_steps and self.settings.run.plan is None:
      nb_steps -= self._gate_steps()
    return nb_steps

  def findings(self) -> Findings:
    """As of filter-pruned, with the proof of the gates."""
    found = extended(super().findings(), [])
    if self.state.gated_vs_masked is not None:
      found.parity['gated_vs_masked'] = self.state.gated_vs_masked
    return found

  def extra(self) -> dict[str, Any]:
    """The mean gates of each layer, sorted."""
    drawn = {
      name: [[i / max(len(gates) - 1, 1), gate] for i, gate in enumerate(sorted(gates))]
      for name, gates in self.state.gates.items()
    }
    return super().extra() | {'gates': drawn}

  # Training with gates.

  def _gate_steps(self) -> int:
    return round(self.config.gate_ratio * self.rates.fine_tune_steps())

  def _group_steps(self) -> list[int]:
    """Steps with gates of each group; a finished run has no gates any more, but its state has."""
    nb_groups = self.state.nb_groups if self._gates is None else len(self._gates.groups)
    return parts(self._gate_steps(), nb_groups)

  def _even(self) -> Ranked:
    gates = self._gates
    even = {unit.name: np.ones(unit.size) for unit in gates.units}
    free = {unit.name: ~gates.graph.groups[unit.key].free for unit in gates.units}
    return Ranked(gates.graph, gates.units, even, free)

  def _gate(self, number: int) -> None:
    """Trains the network with the gates of one group."""
    gates, state, phase = self._gates, self.state, f'gate{number}'
    group, nb_steps = gates.groups[number - 1], self._group_steps()[number - 1]
    if not state.targets:
      state.targets, state.nb_groups = self.widths().counts(self._even()), len(gates.groups)
      state.left_whole = self.units(gates.graph).left
    targets = {unit.name: state.targets[unit.name] / unit.size for unit in group}
    masks = RowMasks(self.model, gates.graph, gates.units)
    masks.keep(unit_masks(gates.units, state.kept))
    network = gates.network(self.model, group)
    every = max(nb_steps // self.config.nb_updates, 1)

    def update(step: int, means: dict[str, float]) -> None:
      del means
      gates.update(group, targets, step / nb_steps)

    if nb_steps:
      optimizer = self.rates.fine_tune_optimizer(nb_steps, masks, constant=True)
      optimizer.global_clipnorm = self.config.clip_norm or None
      self.fit(
        phase,
        GatedObjective(network, self.objective(), gates.pulls(group), list(targets.values())),
        optimizer,
        nb_steps=nb_steps,
        network=network,
        variables=[*self.model.trainable_variables, *gates.trainable(group)],
        hooks=Hooks(
          constraints=[masks],
          events=[Event(update, every=every)],
          metrics=lambda: {'open': gates.open_fraction(group)},
        ),
      )

  def _cut(self, number: int) -> None:
    """Closes the gates of a group permanently, proves them equal to masks, and repairs the others."""
    gates, state, config = self._gates, self.state, self.config
    group = gates.groups[number - 1]
    means = {unit.name: gates.means(unit) for unit in group}
    keys = {
      unit.name: np.where(gates.graph.groups[unit.key].free, means[unit.name], np.inf)
      for unit in group
    }
    kept = {name: best(key, state.targets[name]) for name, key in keys.items()}
    if number == len(gates.groups) and config.even_splits:
      kept = evened_choice(gates.graph, gates.units, state.kept, kept, keys)
    state.gates |= {name: found.tolist() for name, found in means.items()}
    for unit in group:
      say(
        f'cut  {unit.name}: {int(kept[unit.name].sum())} of {unit.size} channels stay, '
        f'{int((means[unit.name] > 0.5).sum())} gates are open'
      )
    gates.fix(group, kept)
    images = self.helper.calibration_images(_NB_IMAGES)
    found = gates.require_equal(self.working_model, group, kept, images)
    state.gated_vs_masked = max(found, state.gated_vs_masked or 0.0)
    state.kept |= {name: np.flatnonzero(mask).tolist() for name, mask in kept.items()}
    if all(mask.all() for mask in unit_masks(gates.units, state.kept).values()):
      return
    # A short training with gates disturbs weights more than it teaches them: what is refit are those of
    # the original network.
    model = self.original() if config.repair == 'least-squares' else self.working_model()
    records = repair(
      config.repair,
      self.original,
      model,
      self.graph(model),
      gates.units,
      unit_masks(gates.units, state.kept),
      self.refit_method(),
      images=self.refit_images,
      bn_images=self.bn_images,
    )
    state.note_layers(records)
    copy_weights(model, self.model)

  def slice(self) -> None:
    """Slices the channels of closed gates away; the gates are gone with them."""
    super().slice()
    self._gates = None
