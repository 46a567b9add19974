"""Text tables of channel groups and of counts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from secateurs.utils.graph.counting import ModelCount

if TYPE_CHECKING:
  from secateurs.utils.graph.groups import ChannelGraph, Group


def columns(head: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> str:
  """Aligns cells in columns; those whose number is in `right` are set flush right."""
  widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]

  def line(row: Sequence[str]) -> str:
    cells = [
      cell.rjust(width) if i in right else cell.ljust(width)
      for i, (cell, width) in enumerate(zip(row, widths))
    ]
    return '  '.join(cells).rstrip()

  return '\n'.join([line(head), line(['-' * width for width in widths]), *map(line, rows)])


def group_table(graph: ChannelGraph) -> str:
  """One line for each group: what makes its channels, what takes them, what protects them."""
  rows = [
    [
      str(group.index),
      group.name,
      str(group.size),
      _names(group, 'produces'),
      _names(group, 'follows'),
      _consumers(group),
      _state(group),
    ]
    for group in graph.groups
  ]
  head = ['group', 'name', 'size', 'produced by', 'followed by', 'consumed by (offset)', 'state']
  free = sum(group.prunable for group in graph.groups)
  title = f'Channel groups of {graph.model.name!r}: {len(rows)}, of which {free} can be cut'
  return f'{title}\n{columns(head, rows, right=(0, 2))}'


def count_table(before: ModelCount, after: ModelCount) -> str:
  """Layers of two models side by side: channels, MACs and parameters, before and after."""
  new = {row.name: row for row in after.layers}
  rows = []
  for old in before.layers:
    row = new.get(old.name)
    if row is None:
      rows.append([old.name, old.type, str(old.in_channels), str(old.out_channels), 'gone', 'gone'])
      continue
    rows.append(
      [
        old.name,
        old.type,
        _change(old.in_channels, row.in_channels),
        _change(old.out_channels, row.out_channels),
        _change(old.macs, row.macs),
        _change(old.params, row.params),
      ]
    )
  rows.append(
    ['total', '', '', '', _change(before.macs, after.macs), _change(before.params, after.params)]
  )
  head = ['layer', 'type', 'in', 'out', 'MACs', 'params']
  return columns(head, rows, right=(2, 3, 4, 5))


def _change(old: int | None, new: int | None) -> str:
  return f'{old:,}' if old == new and old is not None else f'{old:,} -> {new:,}' if old else '-'


def _shorten(names: list[str], limit: int = 3) -> str:
  more = f' +{len(names) - limit}' if len(names) > limit else ''
  return ', '.join(names[:limit]) + more


def _names(group: Group, role: str) -> str:
  return _shorten(group.layers(role))


def _consumers(group: Group) -> str:
  names = [
    f'{member.layer} ({member.offset})' if member.offset else member.layer
    for member in group.members
    if member.role == 'consumes'
  ]
  return _shorten(names)


def _state(group: Group) -> str:
  if not group.reasons:
    return 'can be cut' if group.size > 1 else 'protected: a single element'
  kept = int((group.why >= 0).sum())
  share = '' if kept == group.size else f' {kept} of {group.size}'
  return f'protected{share}: {"; ".join(group.reasons)}'
