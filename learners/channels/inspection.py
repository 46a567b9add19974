"""--exec_mode inspect: what of a network can be cut, and why the rest cannot."""

from __future__ import annotations

import json
from typing import Any

from secateurs.learners.channels.cuts.chosen_layers import chosen, makers, table
from secateurs.learners.channels.cuts.filter_units import filter_units
from secateurs.learners.channels.cuts.split_notes import before_note
from secateurs.learners.channels.cuts.units import Units
from secateurs.learners.run.console import say
from secateurs.learners.run.learner import Learner
from secateurs.utils.files import atomic_path
from secateurs.utils.graph import ChannelGraph
from secateurs.utils.graph.counts.counting import ModelCount
from secateurs.utils.graph.show.plotting import plot_groups
from secateurs.utils.graph.show.tables import count_table
from secateurs.utils.training import distributed

_TRUNK = 'couple'


def inspect(learner: Learner) -> dict[str, Any]:
  """Prints a network's layers, channel groups and what may be cut of them, without any work.

  Units are those of the learner, by its flags and `--layers`; where it cuts no channels, all groups.

  Args:
    learner: any.

  Returns:
    What inspection.json in the run's log folder holds. channels.png beside it shows the groups.

  Raises:
    UserError: a pattern of `--layers` or of skip fits no layer.
  """
  settings = learner.settings
  graph_of = getattr(learner, 'graph', ChannelGraph)
  graph = graph_of(settings.helper.build_model(settings.run.seed))
  counts = graph.counts()
  units_of = getattr(learner, 'units', None)
  if units_of is None:
    found = chosen(settings.layers, graph, filter_units(graph, _TRUNK))
  else:
    found = units_of(graph)
  say(count_table(counts, counts))
  say(f'\n{graph}')
  say(f'\nWhat {learner.name} may cut\n{table(graph, found)}')
  splits = before_note(graph, found.units)
  if splits is not None:
    say(f'\n{splits}')
  result = _result(settings.helper.net, graph, counts, found, splits)
  folder = learner.files.log_dir

  def write() -> None:
    with atomic_path(folder / 'inspection.json') as partial:
      partial.write_text(json.dumps(result, indent=2) + '\n', encoding='utf-8')
    plot_groups(graph, folder / 'channels.png')

  distributed.from_chief(write)
  for name in ('inspection.json', 'channels.png'):
    say(str(folder / name))
  return result


def _result(
  net: str, graph: ChannelGraph, counts: ModelCount, found: Units, splits: str | None
) -> dict[str, Any]:
  """The same as plain types."""
  return {
    'net': net,
    'macs': counts.macs,
    'params': counts.params,
    'units': [
      {
        'name': unit.name,
        'made_by': makers(graph, unit),
        'channels': unit.size,
        'rule': str(unit.rule),
      }
      for unit in found.units
    ],
    'stays_whole': found.left,
    'splits': splits,
    'groups': [
      {
        'name': group.name,
        'channels': group.size,
        'prunable': bool(group.prunable),
        'reasons': list(group.reasons),
      }
      for group in graph.groups
    ],
  }
