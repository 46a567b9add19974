"""Which channel each weight belongs to: the weights that make a channel, and those that read it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import tensorflow as tf
import tf_keras as keras

from secateurs.learners.channels.cuts.cutting import plan_of
from secateurs.learners.channels.cuts.units import Unit
from secateurs.utils.graph import ChannelGraph
from secateurs.utils.graph.flat.rebuild import variables, weight_names
from secateurs.utils.graph.flat.walk import flatten_model
from secateurs.utils.graph.rules.base import Cut

MADE, READ = 'made', 'read'


@dataclasses.dataclass(frozen=True, eq=False)
class Owned:
  """Slices of a weight that belong to channels.

  Attributes:
    layer: name of the layer.
    weight: name of the weight in the layer.
    axis: the axis that runs along the channels, counted from the front.
    owners: int array [size of the axis]: which channel each slice belongs to, or -1 for none.
      Channels are counted over all units, in their order.
    side: `made` for weights that make the channel or go with it (filter, bias, normalisation), `read`
      for those with which a layer reads it.
  """

  layer: str
  weight: str
  axis: int
  owners: np.ndarray
  side: str

  def variable(self, layers: dict[str, keras.layers.Layer]) -> tf.Variable:
    """The weight in a network, from its layers by name."""
    layer = layers[self.layer]
    return dict(zip(weight_names(layer), variables(layer), strict=True))[self.weight]


def offsets(units: Sequence[Unit]) -> dict[str, slice]:
  """Places of the units' channels among those of all units, by unit name."""
  ends = np.cumsum([0, *(unit.size for unit in units)])
  return {unit.name: slice(ends[i], ends[i + 1]) for i, unit in enumerate(units)}


def layers_of(model: keras.Model) -> dict[str, keras.layers.Layer]:
  """A network's layers by the names that a channel graph gives them, nested models opened."""
  return flatten_model(model).layers()


def weight_owners(graph: ChannelGraph, units: Sequence[Unit]) -> list[Owned]:
  """Finds the weights that belong to the units' channels, in the order of the layers.

  The graph knows what goes when channels go. Each channel has a number, and for each bit of these
  numbers one cut is planned that drops the channels whose bit is set; what goes in which of the cuts
  spells the number of the channel that a slice belongs to.
  """
  places = offsets(units)
  total = sum(unit.size for unit in units)
  codes: dict[tuple[str, str, int], np.ndarray] = {}
  read: set[tuple[str, str, int]] = set()
  for bit in range(total.bit_length()):
    numbers = np.arange(1, total + 1)
    stays = (numbers >> bit) & 1 == 0
    plan = plan_of(graph, units, [stays[places[unit.name]] for unit in units])
    for name, trace in graph.first_traces.items():
      cut = plan.cut(trace)
      ranks = {weight: len(shape) for weight, shape in graph.weight_shapes(name)}
      read |= {(name, w, axis % ranks[w]) for w, axis, _ in trace.rule.masks(cut)}
      if trace.consumed is not None:  # Not all that reads a channel needs a mask.
        inputs = _without_outputs(cut)
        read |= {(name, w, axis % ranks[w]) for w, axis, _ in _dropped(inputs) if w in ranks}
      for weight, axis, kept in _dropped(cut):
        if weight in ranks:
          key = name, weight, axis % ranks[weight]
          codes.setdefault(key, np.zeros(len(kept), np.int64))[~kept] |= 1 << bit
  return [Owned(*key, code - 1, READ if key in read else MADE) for key, code in codes.items()]


def _dropped(cut: Cut) -> list[tuple[str, int, np.ndarray]]:
  """The weights that lose slices, the axis, and what stays of it."""
  axes = cut.trace.rule.axes(cut).items()
  return [(weight, axis, kept) for weight, pairs in axes for axis, kept in pairs if not kept.all()]


def _without_outputs(cut: Cut) -> Cut:
  """The cut of a layer's inputs alone."""
  inside = {part: np.ones_like(kept) for part, kept in cut.inside.items()}
  return dataclasses.replace(cut, outs=[np.ones_like(kept) for kept in cut.outs], inside=inside)
