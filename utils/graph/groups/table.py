"""The text table that a ChannelGraph prints."""

from __future__ import annotations

from collections.abc import Sequence

from secateurs.utils.graph.groups.members import Group


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


def group_table(name: str, groups: Sequence[Group]) -> str:
  """One line for each group: what makes its channels, what takes them, what protects them.

  Args:
    name: the model's name.
    groups: its channel groups.
  """
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
    for group in groups
  ]
  head = ['group', 'name', 'size', 'produced by', 'followed by', 'consumed by (offset)', 'state']
  free = sum(group.prunable for group in groups)
  title = f'Channel groups of {name!r}: {len(rows)}, of which {free} can be cut'
  return f'{title}\n{columns(head, rows, right=(0, 2))}'


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
