"""What can be pruned of the channels that layers make: all groups of the graph that may be cut."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence

import numpy as np

from secateurs.learners.channels.cuts.shortcuts import is_trunk
from secateurs.learners.channels.cuts.units import TRUNKS, Unit, Units, require_layers
from secateurs.utils.graph import ChannelGraph, Group
from secateurs.utils.graph.groups.members import CONSUMES, PRODUCES
from secateurs.utils.training.layerwise.linear import is_refittable

FOLLOW = 'follow'
FILTER_TRUNKS = (*TRUNKS, FOLLOW)


def filter_units(
  graph: ChannelGraph, trunk: str, skip: Sequence[str] = (), *, prefix: str = 'fp_'
) -> Units:
  """Finds the channels that can be dropped, whatever layers make, carry or read them.

  A unit has the name of the layer that makes its channels, or that of the layer that chooses among
  those that it reads, with `:input` added. It has readers (which can be refit) only if all layers that
  read its channels can be refit.

  Args:
    graph: the network's channel graph.
    trunk: what is done with channels that residual additions join: `keep` leaves them whole, `couple`
      and `follow` drop them for all layers of the trunk, `gather` lets every layer that reads them
      choose its own.
    skip: patterns with * and ?; channels that a matching layer makes, or chooses from, stay whole.
    prefix: of the flags that messages name.

  Raises:
    UserError: a pattern matches no layer.
  """
  require_layers(graph, skip, prefix)
  units: list[Unit] = []
  left: list[str] = []
  for group in graph.groups:
    if not group.prunable:
      continue
    if any(fnmatch.filter(group.layers(PRODUCES), pattern) for pattern in skip):
      left.append(f'{group.name}: named by --{prefix}skip')
    elif not is_trunk(graph, group) or trunk in ('couple', FOLLOW):
      units.append(_unit(graph, group))
    elif trunk == 'keep':
      left.append(f'{group.name}: residual additions join its channels and --{prefix}trunk is keep')
    else:
      known = {unit.key for unit in units}  # A layer that reads several trunks chooses once.
      found = [unit for unit in _gathered(graph, group) if unit.key not in known]
      units += [unit for unit in found if not any(fnmatch.fnmatch(unit.key[0], p) for p in skip)]
  order = {name: number for number, name in enumerate(graph.traced.flat.layers())}
  units.sort(key=lambda unit: order[_layer(graph, unit)])
  return Units(units, left)


def _layer(graph: ChannelGraph, unit: Unit) -> str:
  """The layer that makes a unit's channels or chooses among them; one layer may make several groups."""
  if isinstance(unit.key, tuple):
    return unit.key[0]
  return graph.groups[unit.key].layers(PRODUCES)[0]


def _unit(graph: ChannelGraph, group: Group) -> Unit:
  readers = tuple(dict.fromkeys(group.layers(CONSUMES)))
  if not all(_can_refit(graph, name) for name in readers):
    readers = ()
  elements = {}
  for name in readers:
    channels = graph.inputs(name)
    elements[name] = np.where(channels.group == group.index, channels.element, -1)
  return Unit(group.name, group.index, group.size, readers, elements)


def _gathered(graph: ChannelGraph, group: Group) -> list[Unit]:
  """The choices of the layers that read channels of a trunk, and no others that stay whole."""
  found, traces = [], graph.first_traces
  calls = graph.traced.flat.calls_by_layer()
  for name in dict.fromkeys(group.layers(CONSUMES)):
    layer = calls[name][0].layer
    own = len(calls[name]) == 1 and traces[name].rule.rows_are_own(layer)
    channels = graph.inputs(name)
    if own and 'Conv' in type(layer).__name__ and (channels.group >= 0).all():
      size = len(channels.roots)
      readers = (name,) if _can_refit(graph, name) else ()
      elements = {reader: np.arange(size) for reader in readers}
      found.append(Unit(f'{name}:input', (name, 'input'), size, readers, elements))
  return found


def _can_refit(graph: ChannelGraph, name: str) -> bool:
  calls = graph.traced.flat.calls_by_layer()[name]
  shapes = graph.traced.flat.shapes
  return len(calls) == 1 and is_refittable(calls[0].layer, len(shapes[calls[0].inputs[0]]))
