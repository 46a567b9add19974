"""Writes the report of a run: `report.json` for programs, `report.html` for people."""

import json
import math
import numbers
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from secateurs.utils.deploy.pages.page import render_html
from secateurs.utils.deploy.reports.metrics import read_metrics
from secateurs.utils.deploy.reports.rows import changes, link_rows, report_rows
from secateurs.utils.deploy.reports.schema import KEY_ORDER, validate_report
from secateurs.utils.deploy.reports.upgrade import upgrade_report
from secateurs.utils.files import atomic_path

if TYPE_CHECKING:
  from secateurs.utils.training.tasks.pictures import Picture


def plain_report(report: Mapping) -> dict[str, Any]:
  """Returns the report in plain JSON types, keys in reading order.

  NumPy numbers become Python's. Numbers that are not finite become null, and a note names them:
  a run that took hours still gets its report.
  """
  lost: list[str] = []
  plain = {key: _plain(value, key, lost) for key, value in report.items()}
  if lost:
    plain['notes'] = [
      *(plain.get('notes') or []),
      f'Not a finite number, so written as null: {", ".join(lost)}.',
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
  compressed / original, for scores the difference.
  """
  report = {**report, 'changes': changes(report_rows(report))}
  if report.get('links'):
    report['links'] = [
      {**link, 'changes': changes(rows)}
      for link, (_, rows) in zip(report['links'], link_rows(report), strict=True)
    ]
  return report


def write_report(
  report: Mapping, log_dir: str | os.PathLike, pictures: Sequence['Picture'] = ()
) -> dict[str, Path]:
  """Checks a report and writes `report.json` and `report.html` into `log_dir`.

  `changes` are filled in. The training curves come from `<log_dir>/metrics.jsonl` if there is one.
  Each file appears whole or not at all.

  Args:
    report: schema 2, see `secateurs.utils.deploy.reports.schema`.
    log_dir: folder of the run, made if need be.
    pictures: what the task shows of single samples.

  Returns:
    'json' and 'html' -> path.

  Raises:
    ValueError: a key is missing or unknown, or a value has the wrong form.
    UserError: the folder cannot be written.
  """
  report = plain_report(report)
  validate_report(report)
  report = plain_report(with_changes(report))
  log_dir = Path(log_dir)
  paths = {'json': log_dir / 'report.json', 'html': log_dir / 'report.html'}
  text = json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False) + '\n'
  page = render_html(report, read_metrics(log_dir / 'metrics.jsonl'), pictures)
  # Names of folders need not be UTF-8; JSON reads back what stands for such bytes.
  for kind, content in (('json', text), ('html', page)):
    with atomic_path(paths[kind]) as partial:
      partial.write_text(content, encoding='utf-8', errors='backslashreplace')
  return paths


def read_report(path: str | os.PathLike) -> dict[str, Any]:
  """Returns a checked `report.json` as schema 2; one of schema 1 is upgraded.

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: it is no report, or one of an unknown schema.
  """
  report = upgrade_report(json.loads(Path(path).read_text(encoding='utf-8')))
  validate_report(report)
  return report
