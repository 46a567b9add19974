"""Text tables of counts."""

from __future__ import annotations

from secateurs.utils.graph.counts.counting import ModelCount
from secateurs.utils.graph.groups.table import columns


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
