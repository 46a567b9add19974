"""Which weights form a group: the structures that a penalty is taken over."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import tensorflow as tf
import tf_keras as keras

from secateurs.learners.pressure.owners import MADE, READ, Owned, layers_of
from secateurs.learners.pressure.places import KERNELS, SHAPES, place_axes
from secateurs.learners.pressure.weight_groups import Part, WeightGroups
from secateurs.utils.registry import Registry

Layers = Mapping[str, keras.layers.Layer]
Kind = Callable[[Layers, Sequence[Owned], np.ndarray], WeightGroups]

KINDS: Registry[Kind] = Registry('kind of group')
GAMMA = 'gamma'


def groups_of(
  kinds: Sequence[str], model: keras.Model, owned: Sequence[Owned], units: np.ndarray
) -> list[WeightGroups]:
  """The groups of some kinds, one set for each kind.

  Args:
    kinds: names in KINDS.
    model: whose weights are grouped.
    owned: which channel they belong to, from `owners.weight_owners`.
    units: int array [channels]: the unit of each channel.
  """
  layers = layers_of(model)
  return [KINDS.find(kind)(layers, owned, units) for kind in kinds]


def trains(layer: keras.layers.Layer, variable: tf.Variable) -> bool:
  """Whether a layer's weight trains: freezing a layer leaves its weights' own `trainable` set."""
  return any(one is variable for one in layer.trainable_variables)


def _by_channel(side: str | None) -> Kind:
  """One group for each channel that has weights of one side, or of both."""

  def kind(layers: Layers, owned: Sequence[Owned], units: np.ndarray) -> WeightGroups:
    mine = [
      (one, variable)
      for one in owned
      if side in (None, one.side) and (variable := one.variable(layers)).trainable
    ]
    # A group of no weights would have the norm of one that the penalty has emptied.
    found = np.unique(np.concatenate([np.zeros(0, int), *(one.owners for one, _ in mine)]))
    channels = found[found >= 0]
    numbers = np.full(len(units) + 1, -1)
    numbers[channels] = np.arange(len(channels))
    parts = [
      Part(variable, (one.axis,), numbers[one.owners], trains(layers[one.layer], variable))
      for one, variable in mine
    ]
    return WeightGroups(parts, channels, units[channels])

  return kind


def _gammas(layers: Layers, owned: Sequence[Owned], units: np.ndarray) -> WeightGroups:
  """One group for each scale of a batch normalisation (Liu et al. 2017)."""
  parts, channels, size = [], [np.zeros(0, int)], 0
  for one in owned:
    if one.weight != GAMMA or not hasattr(layers[one.layer], 'moving_mean'):
      continue
    mine = one.owners >= 0
    number, variable = size + np.cumsum(mine) - 1, one.variable(layers)
    trained = trains(layers[one.layer], variable)
    parts.append(Part(variable, (0,), np.where(mine, number, -1), trained))
    channels.append(one.owners[mine])
    size += int(mine.sum())
  return WeightGroups(parts, np.concatenate(channels))


def _inside(name: str) -> Kind:
  """One group for each place inside of a kernel, see `places.place_axes`."""

  def kind(layers: Layers, owned: Sequence[Owned], units: np.ndarray) -> WeightGroups:
    parts, scales, size = [], [np.zeros(0, int)], 0
    names = dict.fromkeys(one.layer for one in owned if one.weight == 'kernel')
    for number, layer in enumerate(layers[one] for one in names):
      axes = place_axes(layer, name)
      if not axes:
        continue
      kernel = layer.kernel
      nb_places = int(np.prod([kernel.shape[axis] for axis in axes]))
      parts.append(Part(kernel, axes, size + np.arange(nb_places), trains(layer, kernel)))
      scales.append(np.full(nb_places, number))
      size += nb_places
    return WeightGroups(parts, np.full(size, -1), np.concatenate(scales))

  return kind


def layer_groups(model: keras.Model, branches: Sequence[Sequence[str]]) -> WeightGroups:
  """One group for all weights of each residual branch (Wen et al. 2016, depth-wise).

  Args:
    model: whose weights are grouped.
    branches: names of the layers of each branch.
  """
  layers = layers_of(model)
  parts = [
    Part(variable, (), np.array([number]))
    for number, names in enumerate(branches)
    for name in names
    for variable in layers[name].trainable_variables
  ]
  size = len(branches)
  return WeightGroups(parts, np.full(size, -1), np.arange(size))


for _name, _kind in (
  ('bn_gamma', _gammas),
  ('filters', _by_channel(MADE)),
  ('channels', _by_channel(READ)),
  ('dependency', _by_channel(None)),
  (SHAPES, _inside(SHAPES)),
  (KERNELS, _inside(KERNELS)),
):
  KINDS.add(_name, _kind)
