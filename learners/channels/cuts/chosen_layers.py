"""Applies `--layers` to units of channels, and shows what it means for each."""

from __future__ import annotations

import dataclasses

from secateurs.learners.channels.cuts.units import Unit, Units
from secateurs.learners.run.layer_choice import LayerChoice
from secateurs.utils.graph import ChannelGraph
from secateurs.utils.graph.groups.members import PRODUCES
from secateurs.utils.graph.groups.table import columns


def makers(graph: ChannelGraph, unit: Unit) -> list[str]:
  """The layers that make a unit's channels, or the one that chooses among those that it reads."""
  return graph.groups[unit.key].layers(PRODUCES) if isinstance(unit.key, int) else [unit.key[0]]


def chosen(choice: LayerChoice, graph: ChannelGraph, found: Units) -> Units:
  """The units that may lose channels, each with its rule, and what stays whole.

  Raises:
    UserError: a pattern fits no layer.
  """
  choice.require(list(graph.traced.flat.layers()), graph.model.name)
  units, left = [], list(found.left)
  for unit in found.units:
    rule = choice.rule(makers(graph, unit))
    if rule.skip:
      left.append(f'{unit.name}: named by --layers')
    else:
      units.append(dataclasses.replace(unit, rule=rule))
  return Units(units, left)


def table(graph: ChannelGraph, found: Units) -> str:
  """What may be cut and what may not, with reasons, one line each."""
  rows = [
    [unit.name, ', '.join(makers(graph, unit)[:3]), str(unit.size), str(unit.rule)]
    for unit in found.units
  ]
  rows += [[name, '', '', f'stays whole: {why}'] for name, _, why in map(_split, found.left)]
  return columns(['unit', 'made by', 'channels', 'prunable'], rows, right=(2,))


def _split(text: str) -> tuple[str, str, str]:
  return text.partition(': ')
