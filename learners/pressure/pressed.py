"""A network under pressure: its units, the groups of their weights, and what the norms say."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import tf_keras as keras

from secateurs.learners.channels.allocation.ranked import Ranked
from secateurs.learners.channels.criteria.judged import with_fates
from secateurs.learners.channels.cuts.units import Unit
from secateurs.learners.pressure.blocks import find_branches
from secateurs.learners.pressure.kinds import groups_of, layer_groups
from secateurs.learners.pressure.owners import offsets, weight_owners
from secateurs.learners.pressure.penalties import Growth
from secateurs.learners.pressure.pressing import Pressure
from secateurs.learners.pressure.rp_config import BN_GAMMA, GROWING, LAYERS, ZEROS, RpConfig
from secateurs.utils.errors import UserError
from secateurs.utils.graph import ChannelGraph
from secateurs.utils.training import distributed


class Pressed:
  """A network, its units and the penalty on them.

  Attributes:
    graph: the network's channel graph.
    units: what may be cut.
    branches: of the residual blocks that may go as a whole; empty unless blocks are penalised.
    pressure: the penalty.
  """

  def __init__(
    self,
    model: keras.Model,
    graph: ChannelGraph,
    units: Sequence[Unit],
    config: RpConfig,
    nb_steps: int,
  ) -> None:
    """Groups the weights.

    Args:
      model: the network that trains; its layers have the graph's names.
      graph: of the network in float32.
      units: what may be cut.
      config: the learner's flags.
      nb_steps: of the longest training under the penalty, within which a growing factor rises.

    Raises:
      UserError: there is nothing to penalise.
    """
    self.graph, self.units = graph, list(units)
    self._sizes = offsets(units)
    self._nb_channels = sum(unit.size for unit in units)
    numbers = np.repeat(np.arange(len(self.units)), [unit.size for unit in self.units])
    kinds = [kind for kind in config.kinds if kind != LAYERS]
    owned = weight_owners(graph, self.units)
    groups = dict(zip(kinds, groups_of(kinds, model, owned, numbers), strict=True))
    self.branches = find_branches(graph, self.units) if config.has_layers else []
    if config.has_layers:
      groups[LAYERS] = layer_groups(model, [branch.layers for branch in self.branches])
    for kind, one in groups.items():
      self._require(kind, one.channels, one.size)
    if config.prune_option != ZEROS:
      self._require_norms(np.concatenate([one.channels for one in groups.values()]))
    growth = Growth(nb_steps, config.nb_rises) if config.penalty == GROWING else None
    self.pressure = Pressure(groups, update=config.update, growth=growth)

  def _require(self, kind: str, channels: np.ndarray, size: int) -> None:
    """Checks that there are groups, and for scales that every unit has some."""
    missing = [unit for unit in self.units if not np.isin(self._place(unit), channels).all()]
    if kind == BN_GAMMA and missing:
      raise UserError(
        f'--rp_penalty bn_gamma needs a batch normalisation with a scale after each layer that is '
        f'pruned, but the channels of {missing[0].name} have none: leave them out with --rp_skip '
        f'{missing[0].name.partition(":")[0]}, or take another penalty.'
      )
    if not size:
      what = 'residual block with an identity shortcut' if kind == LAYERS else f'group of {kind}'
      raise UserError(
        f'{self.graph.model.name} has no {what} that --rp_groups could penalise: take other groups.'
      )

  def _require_norms(self, channels: np.ndarray) -> None:
    """Checks that every unit has groups by whose norms its channels can be ranked."""
    for unit in self.units:
      if not np.isin(self._place(unit), channels).all():
        raise UserError(
          f'--rp_groups has no weights of the channels of {unit.name}: add filters (what makes them) '
          'or channels (what reads them), or leave them out with --rp_skip '
          f'{unit.name.partition(":")[0]}.'
        )

  def _place(self, unit: Unit) -> np.ndarray:
    place = self._sizes[unit.name]
    return np.arange(place.start, place.stop)

  # What is chosen by the norms.

  def by_unit(self, values: np.ndarray) -> dict[str, np.ndarray]:
    """Values [channels] by unit name."""
    return {unit.name: values[self._sizes[unit.name]] for unit in self.units}

  def ranked(self, kept: Mapping[str, Sequence[int]]) -> Ranked:
    """The channels, ranked by their norms; the same on all processes.

    Args:
      kept: the channels that have not gone yet, by unit name.
    """
    found = self.by_unit(self.pressure.worth(self._there(kept)))
    keys, stays = with_fates(self.graph, self.units, found, kept)
    return Ranked(self.graph, self.units, *distributed.broadcast_object((keys, stays)))

  def zeros(self) -> dict[str, np.ndarray]:
    """Bool array [unit.size] by unit name: channels of which nothing is left."""
    found = self.by_unit(self.pressure.zeros(self._nb_channels))
    return distributed.broadcast_object(found)

  def block_norms(self, gone: Collection[str]) -> np.ndarray:
    """Norms of the branches in units of the strengths with which they were pressed.

    Args:
      gone: names of the blocks that have gone already; theirs are zero.
    """
    norms = self.pressure.groups[LAYERS].norms().numpy()
    strengths = self.pressure.strengths[LAYERS].numpy()
    there = np.array([branch.block not in gone for branch in self.branches])
    found = np.where(there, norms / np.where(strengths > 0, strengths, 1.0), 0.0)
    return distributed.broadcast_object(found)

  def _there(self, kept: Mapping[str, Sequence[int]]) -> np.ndarray:
    """Bool array [channels]: those that have not gone."""
    found = np.ones(self._nb_channels, bool)
    for unit in self.units:
      if unit.name in kept:
        found[self._sizes[unit.name]] = np.isin(np.arange(unit.size), kept[unit.name])
    return found

  def free(
    self,
    kept: Mapping[str, Sequence[int]],
    doomed: Mapping[str, Sequence[int]] | None = None,
  ) -> np.ndarray:
    """Bool array [channels] of what is penalised: channels that may go, of `doomed` those it leaves.

    Args:
      kept: the channels that have not gone yet, by unit name.
      doomed: the channels that will stay, by unit name; None: all are pulled at.
    """
    found = self._there(kept)
    for unit in self.units:
      place = self._sizes[unit.name]
      if isinstance(unit.key, int):
        found[place] &= self.graph.groups[unit.key].free
      if doomed is not None:
        found[place] &= ~np.isin(np.arange(unit.size), doomed[unit.name])
    return found
