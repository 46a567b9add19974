"""Writes compare.html and compare.json."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from secateurs.utils.deploy.compare.entry import COSTS, Entry, Metric, pareto
from secateurs.utils.deploy.compare.grouping import ranked_groups
from secateurs.utils.deploy.compare.text import FILES, STAR, table_cells, verdicts
from secateurs.utils.files import atomic_path, explain_os_errors

_PLOTTED = ('file', 'latency', 'macs', 'params')


def write_comparison(found: Sequence[Entry], folder: str | Path) -> dict[str, Path]:
  """Writes compare.json and compare.html; returns their paths by ending."""
  folder = Path(folder)
  paths = {'json': folder / 'compare.json', 'html': folder / 'compare.html'}
  content = {
    'json': json.dumps([entry.as_json() for entry in found], indent=2, ensure_ascii=False) + '\n',
    'html': render_page(found, folder),
  }
  with explain_os_errors(folder):
    folder.mkdir(parents=True, exist_ok=True)
    for kind, path in paths.items():
      with atomic_path(path) as partial:
        partial.write_text(content[kind], encoding='utf-8', errors='backslashreplace')
  return paths


def render_page(found: Sequence[Entry], folder: str | Path = '.') -> str:
  """The comparison as one HTML page, plots inside.

  Args:
    found: what `entries` gives.
    folder: where the page will lie; its links to the runs' pages are relative to it.
  """
  from secateurs.utils.deploy.pages.page import environment

  groups = [_group(heading, group, folder) for heading, group in ranked_groups(found).items()]
  nb_runs = len({report for entry in found for report in entry.reports})
  legend = [STAR, FILES]
  return (
    environment()
    .get_template('compare.html.j2')
    .render(groups=groups, nb_runs=nb_runs, legend=legend)
  )


def _group(heading: str, group: Sequence[Entry], folder: str | Path) -> dict[str, Any]:
  from secateurs.utils.deploy.pages import plots

  header, cells = table_cells(group)
  colours = plots.colours_of([entry.name for entry in group])
  rows = [
    {
      'number': str(number),
      'name': entry.name.partition(', ')[0],
      'settings': entry.name.partition(', ')[2],
      'colour': colours[entry.name],
      'original': entry.original,
      'pages': [] if entry.original else _pages(entry, folder),
      'cells': [_cell(text) for text in texts[1:]],
    }
    for number, (entry, texts) in enumerate(zip(group, cells, strict=True), start=1)
  ]
  return {
    'heading': heading,
    'header': header,
    'rows': rows,
    'verdicts': verdicts(group),
    'drawings': [drawn for metric in COSTS if (drawn := _drawing(group, metric, colours))],
  }


def _cell(text: str) -> tuple[str, str, bool]:
  """A cell's value, what is in parentheses after it, and whether it has a star."""
  starred = text.endswith(' *')
  value, _, details = text.removesuffix(' *').partition(' (')
  return value, details.removesuffix(')'), starred


def _drawing(
  group: Sequence[Entry], metric: Metric, colours: Mapping[str, str]
) -> tuple[str, str, str] | None:
  """A cost's name, and the caption and drawing of the score against it; None where it is unknown."""
  from secateurs.utils.deploy.pages import plots

  def place(entry: Entry) -> tuple[float, float]:
    return entry.values[metric.key], entry.kind.factor * entry.score

  points = [
    plots.Point(*place(entry), colours[entry.name], str(number), entry.original)
    for number, entry in enumerate(group, start=1)
    if entry.values[metric.key] is not None and entry.score is not None
  ]
  if metric.key not in _PLOTTED or not points:
    return None
  axis = group[0].kind.axis
  caption = f'{axis[:1].upper()}{axis[1:]}, against {metric.label}'
  front = [place(entry) for entry in pareto(group, metric.key)]
  return metric.label, caption, plots.scatter(caption, points, front, metric.show)


def _pages(entry: Entry, folder: str | Path) -> list[str]:
  """Addresses of the runs' report.html, of those that there are."""
  pages = [Path(report).with_name('report.html') for report in entry.reports]
  found = [Path(os.path.relpath(page, folder)).as_posix() for page in pages if page.is_file()]
  return [quote(path, errors='surrogateescape') for path in found]
