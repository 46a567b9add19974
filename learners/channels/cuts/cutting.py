"""Cuts of units of channels: as plans of slicing, as masks, and as zeroed kernel rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import tf_keras as keras

from secateurs.learners.channels.cuts.units import Unit
from secateurs.utils.deploy.latency_table.prediction import LatencyForm
from secateurs.utils.deploy.latency_table.table import LatencyTable
from secateurs.utils.graph import ChannelGraph, Plan
from secateurs.utils.graph.choice.costs import MacsForm
from secateurs.utils.graph.flat.rebuild import variables, weight_names
from secateurs.utils.graph.flat.walk import flatten_model
from secateurs.utils.training.engine.masks import Masks
from secateurs.utils.training.layerwise.linear import by_last_rows, kernel_of


def macs_form(graph: ChannelGraph, units: Sequence[Unit]) -> MacsForm:
  """MACs of the network as a function of how many channels of each unit have gone."""
  return MacsForm(*_steps(graph, units))


def latency_form(table: LatencyTable, graph: ChannelGraph, units: Sequence[Unit]) -> LatencyForm:
  """Latency of the network in ms by a table, as a function of how many channels have gone.

  Raises:
    UserError: the table lacks the network's layers.
  """
  return LatencyForm(table, graph, *_steps(graph, units))


def _steps(graph: ChannelGraph, units: Sequence[Unit]) -> tuple[Plan, list[Plan]]:
  """The plan in which all channels stay, and for each unit that in which one of its channels goes."""

  def plan(less: int | None = None) -> Plan:
    masks = [np.arange(unit.size) < unit.size - (i == less) for i, unit in enumerate(units)]
    return plan_of(graph, units, masks)

  return plan(), [plan(i) for i in range(len(units))]


def plan_of(graph: ChannelGraph, units: Sequence[Unit], masks: Sequence[np.ndarray]) -> Plan:
  """The slicing that masks over the units' channels stand for: bool [unit.size] each, True stays."""
  alive = np.ones(len(graph.traced.why), bool)
  rows = {}
  for unit, mask in zip(units, masks, strict=True):
    if isinstance(unit.key, int):
      alive[graph.groups[unit.key].roots] = mask
    else:
      rows[unit.key[0]] = mask
  return Plan(graph, alive, rows)


def keep_of(units: Sequence[Unit], kept: Mapping[str, Sequence[int]]) -> dict:
  """What `slice_model` takes, from the kept channels by unit name."""
  return {unit.key: list(kept[unit.name]) for unit in units if unit.name in kept}


def dropped_inputs(units: Sequence[Unit], kept: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
  """Which input channels of each layer are dropped, bool [input channels] by layer name.

  Args:
    units: what may be dropped.
    kept: bool array [unit.size] by unit name, True for channels that stay; other units are whole.
  """
  dropped: dict[str, np.ndarray] = {}
  for unit in units:
    if unit.name not in kept:
      continue
    for name, elements in unit.elements.items():
      gone = (elements >= 0) & ~kept[unit.name][elements]
      dropped[name] = dropped[name] | gone if name in dropped else gone
  return dropped


def zero_inputs(model: keras.Model, dropped: Mapping[str, np.ndarray]) -> None:
  """Sets the kernels' rows for dropped input channels, as `dropped_inputs` gives them, to zero."""
  layers = flatten_model(model).layers()
  for name, gone in dropped.items():
    kernel, rows = kernel_of(layers[name]), by_last_rows(layers[name], gone)
    kernel.assign(np.where(rows[:, None], 0, kernel.numpy()))


def input_masks(model: keras.Model, units: Sequence[Unit], kept: Mapping[str, np.ndarray]) -> Masks:
  """Masks that keep a model's kernel rows for dropped input channels at zero."""
  layers, dropped = flatten_model(model).layers(), dropped_inputs(units, kept)
  kernels = [kernel_of(layers[name]) for name in dropped]
  rows = [by_last_rows(layers[name], ~gone) for name, gone in dropped.items()]
  return Masks(
    kernels,
    [np.broadcast_to(r[:, None], k.shape).astype(np.float32) for r, k in zip(rows, kernels)],
  )


def mask_attentions(
  model: keras.Model,
  graph: ChannelGraph,
  units: Sequence[Unit],
  kept: Mapping[str, np.ndarray],
) -> list[str]:
  """Sets to zero what attentions read of dropped channels; returns the names of those that changed.

  Args:
    model: what is changed; its layers have the graph's names and weights.
    graph: channel graph of the network.
    units: what may be dropped.
    kept: bool array [unit.size] by unit name, of those that have been chosen.
  """
  chosen = [unit for unit in units if unit.attentions and unit.name in kept]
  plan = plan_of(graph, chosen, [kept[unit.name] for unit in chosen])
  traces, layers = graph.first_traces, flatten_model(model).layers()
  names = dict.fromkeys(name for unit in chosen for name in unit.attentions)
  for name in names:
    weights = dict(zip(weight_names(layers[name]), variables(layers[name])))
    for weight, axis, stays in traces[name].rule.masks(plan.cut(traces[name])):
      shape = [1] * weights[weight].shape.rank
      shape[axis] = len(stays)
      weights[weight].assign(weights[weight] * stays.reshape(shape).astype(np.float32))
  return list(names)


def unit_masks(units: Sequence[Unit], kept: Mapping[str, list[int]]) -> dict[str, np.ndarray]:
  """Bool arrays [unit.size] by unit name, True for channels that stay, from lists of the kept ones."""
  return {
    unit.name: np.isin(np.arange(unit.size), kept[unit.name]) for unit in units if unit.name in kept
  }


class RowMasks(Masks):
  """Masks over the weights of a network with which layers read channels of some units.

  Whatever the layers are (dense, transposed, along any axis), what they read of a dropped channel is
  zero. Channels that are summed without a kernel are not masked: they go when the network is sliced.
  """

  def __init__(self, model: keras.Model, graph: ChannelGraph, units: Sequence[Unit]) -> None:
    """Masks nothing yet.

    Args:
      model: what is masked; its layers have the graph's names and weights.
      graph: channel graph of the network.
      units: what may be dropped.
    """
    self._graph, self._units = graph, list(units)
    layers = flatten_model(model).layers()
    # A layer may read some of a unit's channels only: each reads of one half of them or of the other.
    halves = [[np.arange(unit.size) % 2 == part for unit in units] for part in (0, 1)]
    touched = [self._arrays(masks) for masks in halves]
    self._keys = list(dict.fromkeys(key for arrays in touched for key in arrays))
    super().__init__(
      [dict(zip(weight_names(layers[n]), variables(layers[n])))[w] for n, w in self._keys]
    )

  def keep(self, kept: Mapping[str, np.ndarray]) -> None:
    """Masks all channels but some, bool array [unit.size] by unit name; other units stay whole."""
    whole = [kept.get(unit.name, np.ones(unit.size, bool)) for unit in self._units]
    arrays = self._arrays(whole)
    for key, variable, mask in zip(self._keys, self.variables, self.masks, strict=True):
      value = arrays.get(key, np.ones((), bool))
      mask.assign(np.broadcast_to(value, variable.shape).astype(np.float32))
    self.apply()

  def _arrays(self, masks: Sequence[np.ndarray]) -> dict[tuple[str, str], np.ndarray]:
    """Bool arrays that spread over the weights, by layer and weight, where not all stays."""
    plan, found = plan_of(self._graph, self._units, masks), {}
    for name, trace in self._graph.first_traces.items():
      for weight, axis, kept in trace.rule.masks(plan.cut(trace)):
        shape = [1] * len(dict(self._graph.weight_shapes(name))[weight])
        shape[axis] = len(kept)
        key, array = (name, weight), kept.reshape(shape)
        found[key] = found[key] & array if key in found else array
    return found


def first_channels(
  units: Sequence[Unit],
) -> Callable[[Mapping[str, int]], list[np.ndarray]]:
  """Makes masks, bool [unit.size], from counts by unit name: the first channels stay.

  For time and memory, where it does not matter which channels stay.
  """
  return lambda counts: [np.arange(unit.size) < counts[unit.name] for unit in units]
