"""A training network with gates in it, which shares all other layers with the network that is saved."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

from secateurs.learners.channels.cuts.units import Unit
from secateurs.learners.pressure.gates import ChannelGate
from secateurs.utils.graph import ChannelGraph
from secateurs.utils.graph.counts.copying import copy_flat
from secateurs.utils.graph.groups.members import CONSUMES
from secateurs.utils.training.tasks.objectives import TaskObjective


def gate_places(graph: ChannelGraph, unit: Unit) -> list[str]:
  """Names of the layers after which a unit's channels are gated; empty where that cannot be.

  They make the last maps before the layers that read the channels, with one channel of the map for
  each channel of the unit, in order: usually an activation.
  """
  flat, traced = graph.traced.flat, graph.traced
  if not isinstance(unit.key, int):
    return []
  roots = graph.groups[unit.key].roots
  makers = {number: call for call in flat.calls for number in call.outputs}
  found: dict[str, None] = {}

  def look(number: int) -> bool:
    """Whether every way up from a tensor has a place."""
    labels = traced.channels[number].labels
    if not np.isin(labels, roots).any():
      return True
    call = makers.get(number)
    if call is None:
      return False
    shape = flat.shapes[number]
    single = len(call.outputs) == 1 and len(flat.calls_by_layer()[call.name]) == 1
    last = traced.channels[number].axis == len(shape) - 1
    known = len(shape) in (2, 4) and None not in shape[1:]
    if single and last and known and np.array_equal(labels, roots):
      found[call.name] = None
      return True
    return all(look(one) for one in call.inputs)

  calls = flat.calls_by_layer()
  readers = dict.fromkeys(graph.groups[unit.key].layers(CONSUMES))
  complete = all(look(one) for name in readers for call in calls[name] for one in call.inputs)
  return list(found) if complete else []


def gated_network(
  model: keras.Model, gates: Mapping[str, ChannelGate], places: Mapping[str, str]
) -> keras.Model:
  """The network with gates, as outputs its own and the gates' values, in the order of `gates`.

  Args:
    model: whose layers are used, not copied.
    gates: by unit name.
    places: the unit whose gate follows each of some layers, by layer name; after the second place of a
      unit its gate's value of the first one is used.
  """
  values: dict[str, Any] = {}

  def copy(
    layer: keras.layers.Layer, name: str, args: tuple, kwargs: dict[str, Any]
  ) -> tuple[Callable, Any]:
    result = layer(*args, **kwargs)
    unit = places.get(name)
    if unit is None:
      return layer, result
    if unit in values:
      return layer, result * tf.cast(values[unit], result.dtype)
    gated, values[unit] = gates[unit](result)
    return layer, tf.cast(gated, result.dtype)

  graph = ChannelGraph(model)
  plain = copy_flat(graph.traced.flat, copy=copy)
  return keras.Model(plain.inputs, [plain.outputs, [values[unit] for unit in gates]])


class GatedObjective:
  """A task's loss, plus sum over gates of lambda_g (sum v / C - r_g)^2.

  Attributes:
    metric_names: the task's, and `gates`: the second term.
  """

  def __init__(
    self,
    network: keras.Model,
    objective: TaskObjective,
    pulls: Sequence[tf.Variable],
    targets: Sequence[float],
  ) -> None:
    """Keeps what it is given.

    Args:
      network: made by `gated_network`.
      objective: the task's.
      pulls: lambda_g of each gate.
      targets: r_g, the fraction of channels that stays.
    """
    self._network, self._objective = network, objective
    self._pulls, self._targets = list(pulls), list(targets)
    self.metric_names = (*objective.metric_names, 'gates')

  def __call__(self, batch: tuple) -> tuple[tf.Tensor, Mapping[str, tf.Tensor]]:
    """Loss and metrics of a batch, in training mode."""
    outputs, values = self._network(batch[0], training=True)
    plain = outputs[0] if len(outputs) == 1 else outputs
    loss, metrics = self._objective.of(plain, batch)
    term = tf.add_n(
      [
        one * tf.square(tf.reduce_mean(v) - target)
        for one, v, target in zip(self._pulls, values, self._targets, strict=True)
      ]
    )
    return loss + term, {**metrics, 'gates': term}
