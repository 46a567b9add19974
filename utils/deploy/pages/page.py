"""Renders `report.html`: one page with styles and drawings inside."""

import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from secateurs.utils.deploy.int8.plot import int8_plot
from secateurs.utils.deploy.pages.drawings import drawings, without_drawings
from secateurs.utils.deploy.reports import units
from secateurs.utils.deploy.reports.chains import images_run, link_costs, total_seconds
from secateurs.utils.deploy.reports.float_file import INT8, smallest_float_file
from secateurs.utils.deploy.reports.rows import DEPLOYED, FLOAT_TO_INT8, Row, link_rows, report_rows
from secateurs.utils.deploy.reports.scores import STANDARD_ERRORS, kind_of
from secateurs.utils.deploy.reports.wording import (
  caveats,
  goals,
  int8_line,
  method_of,
  samples_line,
  title,
  verdict,
)

if TYPE_CHECKING:
  import jinja2

  from secateurs.utils.training.tasks.pictures import Picture

_TILES = (
  (('deployed/bytes', 'tflite_bytes', 'sparse/bytes'), 'File size'),
  (('deployed/gzip_bytes', 'tflite_gzip_bytes'), 'Gzipped'),
  (('deployed/latency/', 'latency/'), 'Latency'),
  (('deployed/score', 'score'), None),
  (('macs',), 'MACs'),
  (('params',), 'Parameters'),
)


@cache
def environment() -> 'jinja2.Environment':
  """Where the pages' templates are, with the formats of numbers as filters."""
  import jinja2

  made = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).with_name('templates')),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=jinja2.StrictUndefined,
  )
  for name in ('bytes', 'ms', 'percent', 'count', 'macs', 'seconds'):
    made.filters[name] = getattr(units, f'fmt_{name}')
  made.filters['score'] = lambda score: (
    kind_of(score).show(score['value']) if score else units.NOTHING
  )
  made.filters['typeset'] = units.typeset
  made.filters['short'] = _short
  made.filters['table'] = _table
  return made


def render_html(report: Mapping, metrics: list[dict], pictures: Sequence['Picture'] = ()) -> str:
  """Returns the whole page: styles and drawings inside; it links the run's files.

  Args:
    report: a plain, checked report of schema 2.
    metrics: what `read_metrics` gives; empty for no training curves.
    pictures: what the task shows of single samples.
  """
  from secateurs.utils.deploy.pages import curves
  from secateurs.utils.deploy.pages.pictures import draw_picture

  rows, score = report_rows(report), report['compressed'].get('score')
  drawn = curves.curves(metrics, _percent_names(report['compressed']))
  return (
    environment()
    .get_template('report.html.j2')
    .render(
      report=report,
      title=title(report),
      method=method_of(report),
      verdict=verdict(rows),
      samples=samples_line(report),
      standard_errors=STANDARD_ERRORS,
      files=_files(report),
      show_score=kind_of(score).show if score else _short,
      notes=[*(report.get('notes') or ()), *caveats(report, rows)],
      rows=rows,
      int8_line=int8_line(report),
      tiles=_tiles(rows, report),
      goals=goals(report),
      links=link_rows(report),
      costs=link_costs(report),
      seconds=total_seconds(report),
      images=images_run(report),
      layers=_layers(report['layers']),
      int8_layers=int8_plot(report.get('int8_layers')),
      curves=drawn,
      dots=curves.has_evaluations(metrics),
      colours=curves.phase_colours(metrics),
      drawings=[*map(draw_picture, pictures), *drawings(report)],
      phase_peaks=any(phase.get('peak_mb') for phase in report['phases']),
      phase_seconds=max([phase['seconds'] or 0 for phase in report['phases']], default=0) or 1,
      parity=_parity(report['parity'], report.get('task') or 'classification'),
      flags=_set(report['flags']),
      unset=[name for name, value in report['flags'].items() if value is None],
      extra=without_drawings(report.get('extra') or {}),
    )
  )


def _files(report: Mapping) -> list[tuple[str, str]]:
  """Names and addresses of the exported files, for links."""
  found = report.get('files') or {}
  return [
    (path.rpartition('/')[2], quote(path, errors='surrogateescape')) for path in found.values()
  ]


def _set(flags: Mapping) -> dict[str, Any]:
  return {name: value for name, value in flags.items() if value is not None}


def _short(value: Any) -> str:
  """A single value of a table: numbers with six significant digits, everything else as in JSON."""
  if isinstance(value, float):
    return f'{value:.6g}'
  return value if isinstance(value, str) else json.dumps(value)


def _table(value: Any) -> list[Mapping]:
  """The rows of a table, if a value is objects with the same keys: a list of them, or by name."""
  rows = value
  if isinstance(value, Mapping) and all(isinstance(item, Mapping) for item in value.values()):
    rows = [{'': name, **item} for name, item in value.items()]
  if not isinstance(rows, list) or not all(isinstance(row, Mapping) for row in rows):
    return []
  return rows if all(list(row) == list(rows[0]) for row in rows) else []


def _percent_names(block: Mapping) -> set[str]:
  """Names of the score and the figures that people read in percent."""
  kinds = [kind_of(score) for score in (block.get('score'), *block.get('figures', ())) if score]
  return {kind.name for kind in kinds if kind.percent}


def _tiles(rows: list[Row], report: Mapping) -> list[dict[str, Any]]:
  """The headline figures: what changed most looked for, those that were measured."""
  tiles = []
  for starts, label in _TILES:
    row = next((row for row in rows if row.key.startswith(starts)), None)
    if row is None or row.compressed == units.NOTHING:
      continue
    detail = [f'{row.original} →', row.compressed]
    if 'latency/' in starts:
      detail.append(f'({row.label.removesuffix(FLOAT_TO_INT8).split(", ")[-1]})')
    if 'sparse/bytes' in starts:
      integers = row.key.startswith(DEPLOYED)
      ending = INT8 if integers else smallest_float_file(report['compressed']).ending
      detail.append(f'({ending})')
    if row.within_noise:
      detail.append('within the noise')
    measured = row.change != units.NOTHING
    tiles.append(
      {
        'label': label or row.label[:1].upper() + row.label[1:].removesuffix(FLOAT_TO_INT8),
        'value': units.typeset(row.change) if measured else row.compressed,
        'detail': detail,
        'share': row.share,
        'better': row.better,
      }
    )
  sparsity = report['compressed'].get('sparsity')
  if sparsity:
    everywhere = report['compressed'].get('sparsity_params')
    tiles.append(
      {
        'label': 'Zeros in kernels',
        'value': units.fmt_percent(sparsity),
        'detail': (units.fmt_percent(everywhere), 'of all parameters'),
        'share': sparsity,
        'better': None,
      }
    )
  return tiles


def _layers(layers: list[Mapping]) -> dict[str, Any]:
  """Picks the layers that compute, and adds the lengths of their bars, in percent."""
  layers = [layer for layer in layers if layer['macs'][0]]
  keys = ('in_channels', 'out_channels', 'macs')
  most = {key: max([layer[key][0] or 0 for layer in layers], default=0) or 1 for key in keys}
  cut = {
    key: any(layer[key][0] != layer[key][1] for layer in layers)
    for key in ('in_channels', 'out_channels')
  }
  rows = [
    {
      **layer,
      'bars': {key: [100 * (value or 0) / most[key] for value in layer[key]] for key in keys},
    }
    for layer in layers
  ]
  return {
    'rows': rows,
    'cut': any(cut.values()),
    'columns': [
      *([('in_channels', 'input channels')] if cut['in_channels'] else []),
      ('out_channels', 'output channels'),
    ],
    'sparse': any(layer.get('sparsity') for layer in layers),
  }


def _parity(parity: Mapping, task: str) -> list[tuple[str, str]]:
  same = 'same top-1 class as Keras' if task == 'classification' else 'same decisions as Keras'
  shares = {
    'slim_vs_masked': 'slim model against masked model',
    'gated_vs_masked': 'gates of 0 and 1 against masked model',
    'tflite_vs_keras': '.tflite against Keras',
    'pb_vs_keras': '.pb against Keras',
    'reloaded_vs_keras': 'reloaded .keras against Keras',
  }
  rows = [
    (label, f'{parity[key]:.1e} of the output range' if parity[key] else 'identical')
    for key, label in shares.items()
    if parity.get(key) is not None
  ]
  if parity.get('quant_top1_agreement') is not None:
    rows.append(
      (
        f'quantised .tflite, {same}',
        units.fmt_percent(parity['quant_top1_agreement']),
      )
    )
  if parity.get('int8_top1_agreement') is not None:
    rows.append((f'int8 .tflite, {same}', units.fmt_percent(parity['int8_top1_agreement'])))
  if parity.get('int8_max_diff_steps') is not None:
    rows.append(
      ('int8 .tflite, largest difference', f'{parity["int8_max_diff_steps"]:.1f} output steps')
    )
  return rows
