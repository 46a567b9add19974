"""What all learners share that drop channels: units, slicing, training of the slim network."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import tf_keras as keras

from secateurs.learners.channels.allocation.ram import note as ram_note
from secateurs.learners.channels.configs import ChannelConfig
from secateurs.learners.channels.cuts import reach, slimming
from secateurs.learners.channels.cuts.chosen_layers import chosen, table
from secateurs.learners.channels.cuts.cutting import keep_of
from secateurs.learners.channels.cuts.even_splits import joined
from secateurs.learners.channels.cuts.split_notes import after_note
from secateurs.learners.channels.cuts.units import Units, find_units
from secateurs.learners.channels.sampling import SamplingLearner
from secateurs.learners.channels.state import ChannelState
from secateurs.learners.run.compression import extended
from secateurs.learners.run.console import say
from secateurs.learners.run.preflight.checks import Check
from secateurs.learners.run.results import plans
from secateurs.learners.run.results.plan_cuts import channel_cuts, keep_of_plan
from secateurs.learners.run.results.plans import ChannelCut, CutPlan
from secateurs.learners.run.results.reporting import Findings
from secateurs.utils.errors import UserError
from secateurs.utils.graph import ChannelGraph
from secateurs.utils.graph.slicing.planning import Keep
from secateurs.utils.training.engine.hooks import Hooks
from secateurs.utils.training.engine.masks import Masks


class ChannelLearner(SamplingLearner):
  """A learner that drops channels on masks, slices them away, and trains the slim network.

  A subclass gives `compression_phases`, of which the last two are usually `slice` and `finetune`, and
  leaves in `self.state` before `slice`: `kept` and `left_whole`.
  """

  config: ChannelConfig
  State = ChannelState
  state: ChannelState
  plan_to_apply: CutPlan | None = None
  without_effect: ClassVar[Mapping[str, str]] = {}
  # Whether attentions may read what is pruned by other layers' inputs.
  attentions: ClassVar[bool] = False
  sliced_title: str = (
    'Pruned, before any training'  # Of the scores that are printed after the slice.
  )
  by_inputs: ClassVar[bool] = True  # Whether ratios are of layers' inputs, or of what layers make.

  def build(self) -> keras.Model:
    """The slim network, once there is one."""
    slim = self.state.slim
    return super().build() if slim is None else keras.models.model_from_json(slim)

  @property
  def keeps_all(self) -> str | None:
    """The flag that leaves all channels, unless a plan or `--layers` takes some."""
    if self.settings.run.plan is not None or self.settings.layers.ratios:
      return None
    return self.config.keeps_all

  def prepare(self) -> None:
    """Checks that the plan to apply, if there is one, belongs to this network."""
    path = self.settings.run.plan
    if path is not None:
      self.plan_to_apply = plans.read_plan(path)
      network = self.helper.build_model(self.settings.run.seed)
      plans.require_same_network(self.plan_to_apply, network, path)
      plans.require_channels_alone(self.plan_to_apply, f'--plan {path}', self.name)

  def preflight(self) -> list[Check]:
    """As of all learners; says what ratios apply to, and what `--layers` means for each unit."""
    shown = [] if self.settings.run.layers is None else [self._show_layers]
    says = self.keeps_all is None and self.settings.run.plan is None
    return [*super().preflight(), *([self._say_reach] if says else []), *shown]

  def _say_reach(self) -> None:
    config, graph = self.config, self.graph(self.settings.in_float32(self.model))
    self.state.reach = reach.note(
      graph,
      lambda trunk: chosen(self.settings.layers, graph, self.find_units(graph, trunk)).units,
      config.trunk,
      config.trunk_choices,
      by_inputs=self.by_inputs,
      prefix=config.prefix,
    )
    say(self.state.reach)

  def _show_layers(self) -> None:
    graph = self.graph(self.helper.build_model(self.settings.run.seed))
    say(f'Layers by --layers {self.settings.run.layers}\n{table(graph, self.units(graph))}')

  def findings(self) -> Findings:
    """The model before its fine-tuning, what was asked for and reached, and what stayed whole."""
    state = self.state
    if self.keeps_all is not None:
      return extended(
        super().findings(),
        [self.nothing_note],
        requested={'channels_ratio': 1.0},
        reached={'channels_ratio': 1.0},
      )
    notes = [state.reach] if state.reach else []
    if state.widths.ram is not None:
      notes.append(ram_note(state.widths.ram))
    if state.uneven is not None:
      notes.append(state.uneven)
    if state.left_whole:
      notes.append(f'Channels that stayed whole: {"; ".join(state.left_whole)}.')
    if state.cut_norms:
      notes.append(slimming.norms_note(state.cut_norms))
    return extended(
      super().findings(),
      notes,
      pruned=state.pruned,
      requested=self.requested(),
      reached={'channels_ratio': state.channels_ratio},
      parity={'slim_vs_masked': state.slim_vs_masked},
      extra=self.extra(),
    )

  def requested(self) -> dict[str, Any]:
    """What the flags asked for."""
    return {}

  def extra(self) -> dict[str, Any]:
    """Figures of the algorithm for the report: what is known of widths, layers and kept channels."""
    state, widths = self.state, self.state.widths
    known = {
      'kept': state.kept,
      'layers': state.layers,
      'left_whole': state.left_whole,
      'divergence': widths.divergence,
      'search': widths.search,
      'latency': widths.latency,
      'ram': widths.ram,
      'comparison': state.comparison,
      'colony': widths.colony,
    }
    return {name: value for name, value in known.items() if value is not None}

  def cut_plan(self) -> CutPlan:
    """The channels that slicing kept."""
    channels = [ChannelCut(**cut) for cut in self.state.channels]
    how = self.plan_to_apply or self.config
    return dataclasses.replace(
      super().cut_plan(), channels=channels, norms=how.norms, heads=how.heads
    )

  # What can be pruned.

  def graph(self, model: keras.Model) -> ChannelGraph:
    """The channels of one of the run's networks, followed as the plan to apply has it, or the flags."""
    how = self.plan_to_apply or self.config
    return ChannelGraph(model, how.norms, how.heads)

  def units(self, graph: ChannelGraph) -> Units:
    """What can be pruned.

    Raises:
      UserError: nothing.
    """
    config = self.config
    found = chosen(self.settings.layers, graph, self.find_units(graph, config.trunk))
    if not found.units:
      raise UserError(
        f'No convolution of {self.helper.net} has channels that can be pruned '
        f'({"; ".join(found.left) or "there are none"}): loosen --{config.prefix}skip or '
        f'--{config.prefix}trunk.'
      )
    return found

  def find_units(self, graph: ChannelGraph, trunk: str) -> Units:
    """What can be pruned with a choice of trunk, whatever `--layers` says."""
    config = self.config
    return find_units(
      graph,
      trunk,
      config.skipped,
      prefix=config.prefix,
      max_rows=self.max_rows,
      attentions=self.attentions,
    )

  def planned(self, graph: ChannelGraph) -> dict[str, np.ndarray]:
    """The choices of the plan to apply, bool array [unit.size] by the name of every unit.

    Raises:
      UserError: the plan cuts what this learner's flags leave whole, or cuts nothing.
    """
    path, units = self.settings.run.plan, self.units(graph).units
    keep = keep_of_plan(self.plan_to_apply, graph)
    left = set(keep) - {unit.key for unit in units}
    if left or not keep:
      names = [cut.layer for cut, key in zip(self.plan_to_apply.channels, keep) if key in left]
      what = f'cuts channels of {", ".join(names)}' if names else 'cuts no channels'
      raise UserError(
        f'--plan {path} {what}, which {self.name} with --{self.config.prefix}trunk '
        f'{self.config.trunk} does not: give the trunk and skip flags of the run that wrote it.'
      )
    return {
      unit.name: np.isin(np.arange(unit.size), keep.get(unit.key, np.arange(unit.size)))
      for unit in units
    }

  def take_plan(self) -> None:
    """The phase that takes the channels of a plan in place of choosing."""
    graph = self.graph(self.original())
    self.state.left_whole = self.units(graph).left
    chosen = self.planned(graph)
    self.state.kept = {name: np.flatnonzero(mask).tolist() for name, mask in chosen.items()}

  # Phases.

  def slice(self) -> None:
    """The phase that slices the dropped channels away and measures what is left."""
    state = self.state
    graph = self.graph(self.settings.in_float32(self.model))
    keep = self.keep(graph)
    if self.config.even_splits:
      units = self.units(graph).units
      state.uneven = after_note(graph, units, joined(units, state.kept, {}))
    slim, state.slim_vs_masked, state.cut_norms = slimming.sliced(graph, keep, self.settings)
    state.channels_ratio = slimming.kept_fraction(graph, keep)
    state.channels = [dataclasses.asdict(cut) for cut in channel_cuts(graph, keep)]
    state.pruned = slimming.untrained_block(slim, self.settings, self.bn_images())
    slimming.say_scores(self.sliced_title, state.pruned)
    self.before_training(graph)
    state.slim = slim.to_json()
    self.model = self.settings.in_training_precision(slim)

  def before_training(self, graph: ChannelGraph) -> None:
    """What else a subclass measures at this moment, given the masked network's graph."""

  def keep(self, graph: ChannelGraph) -> Keep:
    """What slicing keeps, given the masked network's graph."""
    return keep_of(self.units(graph).units, self.state.kept)

  def finetune(self) -> None:
    """The phase that trains the slim network."""
    nb_steps, masks = self.last_steps, self.slim_masks()
    if nb_steps:
      optimizer = self.rates.fine_tune_optimizer(nb_steps, masks)
      hooks = Hooks(constraints=[masks] if masks else [])
      self.fit(
        'finetune', self.objective(), optimizer, nb_steps=nb_steps, hooks=hooks, averaged=True
      )

  def slim_masks(self) -> Masks | None:
    """Masks of the slim network's zeros that the learner has made; none here."""
    return None
