"""The sub-model that trains while channels are pruned and regrown: masks, and what was there before."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

from secateurs.learners.channels.cuts.cutting import RowMasks
from secateurs.learners.channels.cuts.units import Unit
from secateurs.learners.pressure.owners import MADE, Owned, layers_of, offsets, weight_owners
from secateurs.utils.graph import ChannelGraph
from secateurs.utils.training import distributed


@dataclasses.dataclass(frozen=True, eq=False)
class Columns:
  """What is known of a matrix W, [fan-in, channels].

  Attributes:
    gram: W^T W, float64 [channels, channels].
    sums: L1 norms of the columns, float64 [channels].
    fan_in: number of rows.
  """

  gram: np.ndarray
  sums: np.ndarray
  fan_in: int


class _Weight:
  """A variable with slices that belong to channels, and its last values where these are pruned."""

  def __init__(self, variable: tf.Variable, one: Owned) -> None:
    self.variable, self.name = variable, f'{one.layer}/{one.weight}'
    self.backup = tf.Variable(variable, trainable=False)
    self.sides: list[Owned] = []

  def along(self, channels: np.ndarray) -> list[np.ndarray]:
    """Bool arrays of the variable's shape, one for each side, from one over the channels.

    `channels` has an entry after its last for slices that belong to none.
    """
    found = []
    for one in self.sides:
      shape = [1] * self.variable.shape.rank
      shape[one.axis] = len(one.owners)
      found.append(np.broadcast_to(channels[one.owners].reshape(shape), self.variable.shape))
    return found

  def last(self, gone: np.ndarray) -> np.ndarray:
    """The values with which gone channels would regrow, and the present values of the others.

    What is read of gone channels is zero. `gone` has an entry after its last, as in `along`.
    """
    value = self.variable.numpy()
    for one, lost in zip(self.sides, self.along(gone), strict=True):
      if one.side == MADE:
        value = np.where(lost, self.backup.numpy(), value)
    for one, lost in zip(self.sides, self.along(gone), strict=True):
      if one.side != MADE:
        value = np.where(lost, 0.0, value)
    return value


class ChangingMasks(RowMasks):
  """Masks over what layers read of pruned channels, which may regrow while the network trains."""

  changes = True


class SubModel:
  """A network of which some channels are masked, with the last values of their weights.

  Attributes:
    graph: the network's channel graph.
    units: what may be pruned.
    masks: keep what layers read of pruned channels at zero.
  """

  def __init__(self, model: keras.Model, graph: ChannelGraph, units: Sequence[Unit]) -> None:
    """Nothing is pruned yet.

    Args:
      model: the network that trains; its layers have the graph's names.
      graph: of the network in float32.
      units: what may be pruned.
    """
    self.graph, self.units = graph, list(units)
    self._places = offsets(units)
    owned, layers = weight_owners(graph, self.units), layers_of(model)
    found: dict[Any, _Weight] = {}
    for one in owned:
      variable = one.variable(layers)
      if variable.ref() not in found:
        found[variable.ref()] = _Weight(variable, one)
      found[variable.ref()].sides.append(one)
    self._weights = list(found.values())
    self.masks = ChangingMasks(model, graph, self.units)

  def variables(self) -> dict[str, tf.Variable]:
    """What a checkpoint must hold: the last values of the weights of pruned channels."""
    return {f'backup/{one.name}': one.backup for one in self._weights}

  def renew(self) -> None:
    """Takes all values as they are as the last ones; for a network of which nothing is pruned."""
    for one in self._weights:
      one.backup.assign(one.variable)

  def change(self, before: Mapping[str, np.ndarray], after: Mapping[str, np.ndarray]) -> None:
    """Prunes and regrows channels; these get the weights and statistics back that they had.

    Args:
      before: the channels that were there, bool array [unit.size] by unit name.
      after: those that will be.
    """
    was, will = self._joined(before), self._joined(after)
    for one in self._weights:
      # A weight is as it trains only where all of its channels are there.
      live = np.logical_and.reduce(one.along(np.append(was, True)))
      one.backup.assign(tf.where(live, one.variable, one.backup))
      regrown = np.logical_or.reduce(one.along(np.append(will & ~was, False)))
      if regrown.any():
        one.variable.assign(tf.where(regrown, one.backup, one.variable))
    self.masks.keep(after)
    distributed.broadcast_variables([one.variable for one in self._weights])

  def zero(self, kept: Mapping[str, np.ndarray]) -> None:
    """Sets everything that belongs to pruned channels to zero, except for variances."""
    gone = np.append(~self._joined(kept), False)
    for one in self._weights:
      if 'variance' not in one.name:
        lost = np.logical_or.reduce(one.along(gone))
        one.variable.assign(tf.where(lost, tf.zeros_like(one.variable), one.variable))

  # What channels are judged by.

  def columns(self, unit: Unit, present: Mapping[str, np.ndarray] | None = None) -> Columns:
    """W of all weights that make a unit's channels.

    Args:
      unit: of this network.
      present: the channels that are there, bool array [unit.size] by unit name; of others W has the
        weights with which they would regrow. Default: all are there.
    """
    place = self._places[unit.name]
    gram, sums, fan_in = np.zeros((unit.size, unit.size)), np.zeros(unit.size), 0
    for one, columns in self._kernels(place, present):
      by_channel = np.zeros((columns.shape[0], unit.size))
      mine = np.flatnonzero((one.owners >= place.start) & (one.owners < place.stop))
      np.add.at(by_channel.T, one.owners[mine] - place.start, columns[:, mine].T)
      gram += by_channel.T @ by_channel
      _add(sums, one, np.abs(columns).sum(axis=0), place)
      fan_in += columns.shape[0]
    return Columns(gram, sums, fan_in)

  def scores(
    self, criterion: str, present: Mapping[str, np.ndarray] | None = None
  ) -> dict[str, np.ndarray]:
    """What each channel is worth, [unit.size] by unit name: |gamma|, or norms of its filters.

    Args:
      criterion: `bn_gamma` (of several normalisations the mean), `l1` or `l2`; norms are divided by
        their mean over the unit.
      present: see `columns`.
    """
    found = {}
    for unit in self.units:
      place = self._places[unit.name]
      total = np.zeros(unit.size)
      if criterion == 'bn_gamma':
        number = np.zeros(unit.size)
        for weight in self._weights:
          one = weight.sides[0]
          if one.weight == 'gamma':
            _add(total, one, np.abs(weight.variable.numpy()), place)
            _add(number, one, np.ones(len(one.owners)), place)
        total /= np.maximum(number, 1)
      else:
        for one, columns in self._kernels(place, present):
          sizes = np.abs(columns).sum(axis=0) if criterion == 'l1' else (columns**2).sum(axis=0)
          _add(total, one, sizes, place)
        total = np.sqrt(total) if criterion == 'l2' else total
        total = total / (total.mean() or 1.0)
      found[unit.name] = total
    return found

  def _kernels(
    self, place: slice, present: Mapping[str, np.ndarray] | None
  ) -> list[tuple[Owned, np.ndarray]]:
    """The kernels that make a unit's channels, as matrices [fan-in, outputs] in float64."""
    total = sum(unit.size for unit in self.units)
    there = np.ones(total, bool) if present is None else self._joined(present)
    gone, found = np.append(~there, False), []
    for weight in self._weights:
      for one in weight.sides:
        inside = (one.owners >= place.start) & (one.owners < place.stop)
        if one.side == MADE and 'kernel' in one.weight and inside.any():
          value = np.moveaxis(weight.last(gone).astype(np.float64), one.axis, -1)
          found.append((one, value.reshape(-1, value.shape[-1])))
    return found

  def _joined(self, masks: Mapping[str, np.ndarray]) -> np.ndarray:
    return np.concatenate([masks[unit.name] for unit in self.units])


def _add(total: np.ndarray, one: Owned, values: np.ndarray, place: slice) -> None:
  mine = (one.owners >= place.start) & (one.owners < place.stop)
  np.add.at(total, one.owners[mine] - place.start, values[mine])
