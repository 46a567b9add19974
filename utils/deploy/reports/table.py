"""The report's table as plain text for a terminal."""

import textwrap
from collections.abc import Mapping

from secateurs.utils.deploy.reports.chains import images_run, link_costs, total_seconds
from secateurs.utils.deploy.reports.rows import Row, link_rows, report_rows
from secateurs.utils.deploy.reports.units import NOTHING, fmt_seconds
from secateurs.utils.deploy.reports.wording import (
  caveats,
  goals,
  int8_line,
  samples_line,
  title,
  verdict,
)

WIDTH = 88


def format_table(report: Mapping) -> str:
  """Returns the before/after table of a report; ASCII, at most 88 columns, no trailing newline.

  A chain of learners gets one block of rows for each link, and then the whole chain's.
  """
  rows = report_rows(report)
  lines = [title(report), *textwrap.wrap(verdict(rows), WIDTH)]
  for number, (learner, of_link) in enumerate(link_rows(report), start=1):
    lines += ['', f'link {number}: {learner}', *_format_rows(of_link)]
  if report.get('links'):
    lines += ['', 'the whole chain']
  lines += _format_rows(rows, int8_line(report))
  lines += ['', *(f'{name}: requested {a}, achieved {b}' for name, a, b in goals(report))]
  if samples := samples_line(report):
    lines.append(samples)
  if (seconds := total_seconds(report)) is not None:
    parts = ' + '.join(f'{one.learner} {fmt_seconds(one.seconds)}' for one in link_costs(report))
    text = f'total time {fmt_seconds(seconds)}{f" ({parts})" if parts else ""}'
    lines += textwrap.wrap(text, WIDTH, subsequent_indent='      ')
  if (images := images_run(report)) is not None:
    lines.append(f'images trained / scored: {images[0]:,} / {images[1]:,}')
  for note in (*(report.get('notes') or ()), *caveats(report, rows)):
    lines += textwrap.wrap(f'note: {note}', WIDTH, subsequent_indent='      ')
  return '\n'.join(lines)


def _format_rows(rows: list[Row], of_int8: str = '') -> list[str]:
  has_pruned = any(row.pruned != NOTHING for row in rows)
  header = ['', 'original', 'pruned', 'compressed', 'change']
  cells = [[row.label, row.original, row.pruned, row.compressed, row.change] for row in rows]
  if not has_pruned:
    header.pop(2)
    for line in cells:
      line.pop(2)
  widths = [max(len(line[i]) for line in [header, *cells]) for i in range(len(header))]

  def join(line: list[str]) -> str:
    numbers = (cell.rjust(width + 2) for cell, width in zip(line[1:], widths[1:], strict=True))
    return line[0].ljust(widths[0]) + ''.join(numbers)

  rule = '-' * (sum(widths) + 2 * (len(widths) - 1))
  lines = [join(header), rule]
  for row, line in zip(rows, cells, strict=True):
    if row.int8 and rule not in lines[2:]:
      lines += [rule, of_int8] if of_int8 else [rule]
    lines.append(join(line))
  return lines
