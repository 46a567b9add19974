"""Writes the report of a run: `report.json` for programs, `report.html` for people."""

import json
import math
import numbers
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from secateurs.utils.deploy import units
from secateurs.utils.deploy.metrics import read_metrics
from secateurs.utils.deploy.rows import Row, changes, goals, link_rows, report_rows, title
from secateurs.utils.deploy.schema import KEY_ORDER, validate_report
from secateurs.utils.files import atomic_path

if TYPE_CHECKING:
  import jinja2

_TILES = (
  ('tflite_bytes', 'File size'),
  ('tflite_gzip_bytes', 'Gzipped'),
  ('latency', 'Latency'),
  ('accuracy', 'Accuracy'),
  ('macs', 'MACs'),
  ('params', 'Parameters'),
)


def plain_report(report: Mapping) -> dict[str, Any]:
  """Returns the report in plain JSON types, keys in reading order.

  NumPy numbers become Python's. Numbers that are not finite become null, and a note names them:
  a run that took hours still gets its report.
  """
  lost: list[str] = []
  plain = {key: _plain(value, key, lost) for key, value in report.items()}
  if lost:
    plain['notes'] = [
      *plain.get('notes', []),
      f'Not a finite number, so left out: {", ".join(lost)}.',
    ]
  known = {key: plain[key] for key in KEY_ORDER if key in plain}
  return {**known, **plain}


def _plain(value: Any, where: str, lost: list[str]) -> Any:
  if isinstance(value, Mapping):
    return {str(key): _plain(item, f'{where}.{key}', lost) for key, item in value.items()}
  if isinstance(value, (list, tuple)):
    return [_plain(item, f'{where}[{index}]', lost) for index, item in enumerate(value)]
  if isinstance(value, os.PathLike):
    return os.fspath(value)
  if hasattr(value, 'item') and getattr(value, 'ndim', None) == 0:
    value = value.item()
  if isinstance(value, numbers.Real) and not isinstance(value, (bool, int)):
    value = float(value)
    if not math.isfinite(value):
      lost.append(where)
      return None
  return value


def with_changes(report: Mapping) -> dict[str, Any]:
  """Returns the report with the numbers that the tables print in their last column.

  `changes` of the report (of the whole chain, where there are links) and of each link: row key ->
  compressed / original, for accuracies the difference.
  """
  rows = report_rows(report)
  report = {**report, 'changes': changes(rows)}
  if report.get('links'):
    report['links'] = [
      {**link, 'changes': changes(rows)}
      for link, (_, rows) in zip(report['links'], link_rows(report), strict=True)
    ]
  return report


def write_report(report: Mapping, log_dir: str | os.PathLike) -> dict[str, Path]:
  """Checks a report and writes `report.json` and `report.html` into `log_dir`.

  `changes` are filled in. The training curves come from `<log_dir>/metrics.jsonl` if there is one.
  Each file appears whole or not at all.

  Args:
    report: schema 1, see `secateurs.utils.deploy.schema`.
    log_dir: folder of the run, made if need be.

  Returns:
    'json' and 'html' -> path.

  Raises:
    ValueError: a key is missing or unknown, or a value has the wrong form.
    UserError: the folder cannot be written.
  """
  report = plain_report(report)
  report = plain_report(with_changes(report))
  log_dir = Path(log_dir)
  paths = {'json': log_dir / 'report.json', 'html': log_dir / 'report.html'}
  text = json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False) + '\n'
  page = render_html(report, read_metrics(log_dir / 'metrics.jsonl'))
  for kind, content in (('json', text), ('html', page)):
    with atomic_path(paths[kind]) as partial:
      partial.write_text(content, encoding='utf-8')
  return paths


def read_report(path: str | os.PathLike) -> dict[str, Any]:
  """Returns a checked `report.json`.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: it is no report of schema 1.
  """
  report = json.loads(Path(path).read_text(encoding='utf-8'))
  validate_report(report)
  return report


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
  made.filters['typeset'] = units.typeset
  return made


def render_html(report: Mapping, metrics: list[dict]) -> str:
  """Returns the whole page: styles and drawings inside, no link to anywhere.

  Args:
    report: a plain, checked report.
    metrics: what `read_metrics` gives; empty for no training curves.
  """
  from secateurs.utils.deploy import plots

  rows = report_rows(report)
  return (
    environment()
    .get_template('report.html.j2')
    .render(
      report=report,
      title=title(report),
      rows=rows,
      tiles=_tiles(rows, report),
      goals=goals(report),
      links=link_rows(report),
      layers=_layers(report['layers']),
      curves=plots.curves(metrics),
      colours=plots.phase_colours(metrics),
      sensitivity=_sensitivity(report),
      phase_seconds=max([phase['seconds'] or 0 for phase in report['phases']], default=0) or 1,
      parity=_parity(report['parity']),
    )
  )


_SCANS = (
  (
    'sensitivity',
    'Loss on the judging samples when one kernel alone is pruned, before any training.',
    'zeros in the kernel, %',
  ),
  (
    'divergence',
    "Divergence of the class probabilities from the original network's when one layer alone is pruned "
    '(and refit, if asked for), before any training.',
    'gone from the layer, %',
  ),
)


def _sensitivity(report: Mapping) -> dict[str, str] | None:
  """What pruning one kernel or one layer alone costs, where a learner has looked at that."""
  from secateurs.utils.deploy import plots

  for key, caption, label in _SCANS:
    if scanned := report.get('extra', {}).get(key):
      return {'caption': caption, 'plot': plots.family(caption, label, scanned)}
  return None


def _tiles(rows: list[Row], report: Mapping) -> list[dict[str, Any]]:
  """The headline figures: what changed most looked for, those that were measured."""
  tiles = []
  for key, label in _TILES:
    row = next((row for row in rows if not row.int8 and row.key.startswith(key)), None)
    if row is None or row.compressed == units.NOTHING:
      continue
    detail = [f'{row.original} →', row.compressed]
    if key == 'latency':
      detail.append(f'({row.label.split(", ")[-1]})')
    measured = row.change != units.NOTHING
    tiles.append(
      {
        'label': label,
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
  most_macs = max([layer['macs'][0] for layer in layers], default=1)
  most_channels = max([layer['out_channels'][0] or 0 for layer in layers], default=0) or 1
  rows = []
  for layer in layers:
    channels = [100 * (value or 0) / most_channels for value in layer['out_channels']]
    macs = [100 * (value or 0) / most_macs for value in layer['macs']]
    rows.append({**layer, 'channel_bars': channels, 'mac_bars': macs})
  return {
    'rows': rows,
    'cut': any(layer['out_channels'][0] != layer['out_channels'][1] for layer in layers)
    or any(layer['in_channels'][0] != layer['in_channels'][1] for layer in layers),
    'sparse': any(layer.get('sparsity') for layer in layers),
  }


def _parity(parity: Mapping) -> list[tuple[str, str]]:
  shares = {
    'slim_vs_masked': 'slim model against masked model',
    'tflite_vs_keras': '.tflite against Keras',
    'pb_vs_keras': '.pb against Keras',
    'reloaded_vs_keras': 'reloaded .keras against Keras',
  }
  rows = [
    (label, f'{parity[key]:.1e} of the output range' if parity[key] else 'identical')
    for key, label in shares.items()
    if parity.get(key) is not None
  ]
  if parity.get('int8_top1_agreement') is not None:
    rows.append(
      ('int8 .tflite, same top-1 class as Keras', units.fmt_percent(parity['int8_top1_agreement']))
    )
  if parity.get('int8_max_diff_steps') is not None:
    rows.append(
      ('int8 .tflite, largest difference', f'{parity["int8_max_diff_steps"]:.1f} output steps')
    )
  return rows
