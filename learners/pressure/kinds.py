"""Which weights form a group: the structures that a penalty is taken over."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import tf_keras as keras

from secateurs.learners.pressure.owners import MADE, READ, Owned, layers_of
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


def _by_channel(side: str | None) -> Kind:
  """One group for each channel: the weights of one side, or of both."""

  def kind(layers: Layers, owned: Sequence[Owned], units: np.ndarray) -> WeightGroups:
    parts = [
      Part(one.variable(layers), (one.axis,), one.owners)
      for one in owned
      if side in (None, one.side) and one.variable(layers).trainable
    ]
    return WeightGroups(parts, np.arange(len(units)), units)

  return kind


def _gammas(layers: Layers, owned: Sequence[Owned], units: np.ndarray) -> WeightGroups:
  """One group for each scale of a batch normalisation (Liu et al. 2017)."""
  parts, channels, size = [], [np.zeros(0, int)], 0
  for one in owned:
    if one.weight != GAMMA or not hasattr(layers[one.layer], 'moving_mean'):
      continue
    mine = one.owners >= 0
    number = size + np.cumsum(mine) - 1
    parts.append(Part(one.variable(layers), (0,), np.where(mine, number, -1)))
    channels.append(one.owners[mine])
    size += int(mine.sum())
  return WeightGroups(parts, np.concatenate(channels))


def _shapes(layers: Layers, owned: Sequence[Owned], units: np.ndarray) -> WeightGroups:
  """One group for each position of a kernel, over all of its filters (Wen et al. 2016, shape-wise)."""
  parts, scales, size = [], [np.zeros(0, int)], 0
  names = dict.fromkeys(one.layer for one in owned if one.weight == 'kernel')
  for number, name in enumerate(names):
    kernel = layers[name].kernel
    axes = tuple(range(kernel.shape.rank - 1))
    nb_slices = int(np.prod(kernel.shape[:-1]))
    parts.append(Part(kernel, axes, size + np.arange(nb_slices)))
    scales.append(np.full(nb_slices, number))
    size += nb_slices
  return WeightGroups(parts, np.full(size, -1), np.concatenate(scales))


def _kernels(layers: Layers, owned: Sequence[Owned], units: np.ndarray) -> WeightGroups:
  """One group for each k x k kernel of a convolution, by which a filter reads one channel."""
  parts, scales, size = [], [np.zeros(0, int)], 0
  names = dict.fromkeys(one.layer for one in owned if one.weight == 'kernel')
  for number, name in enumerate(names):
    kernel = layers[name].kernel
    rank = kernel.shape.rank
    if rank < 3:  # Of a Dense layer each would be one weight.
      continue
    nb_kernels = int(np.prod(kernel.shape[-2:]))
    parts.append(Part(kernel, (rank - 2, rank - 1), size + np.arange(nb_kernels)))
    scales.append(np.full(nb_kernels, number))
    size += nb_kernels
  return WeightGroups(parts, np.full(size, -1), np.concatenate(scales))


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
  ('shapes', _shapes),
  ('kernels', _kernels),
):
  KINDS.add(_name, _kind)
