"""Keeps the figures of a finished run below docs/results/.

Usage: python scripts/keep_report.py RUN_DIR docs/results/<group>/<name>.json

Paths, layers and the algorithm's further figures are left out, except for what re-estimated batch-norm
statistics gave and bytes by stage: what is kept has a few kB.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

_KEPT = ('batch_norm', 'packed_bytes_by_stage')
_PATHS = ('_dir', 'data_dir_local', '_path', '_path_eval', '_path_dst')


def kept(report: dict) -> dict:
  """The report without layers, most of the further figures, and paths."""
  flags = {
    name: Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value
    for name, value in report['flags'].items()
    if not name.endswith(_PATHS)
  }
  versions = {name: v for name, v in report['versions'].items() if name != 'platform'}
  extra = {name: v for name, v in report['extra'].items() if name in _KEPT}
  found = {**report, 'flags': flags, 'versions': versions, 'layers': [], 'extra': extra}
  if report.get('int8_layers'):
    found['int8_layers'] = {**report['int8_layers'], 'layers': []}
  return found


def main(argv: list[str]) -> int:
  """Copies one report; returns the exit code."""
  from secateurs.utils.deploy.compare.reading import find_reports
  from secateurs.utils.errors import UserError

  if len(argv) != 2:
    print(__doc__, file=sys.stderr)
    return 2
  try:
    reports = find_reports([argv[0]])
    if len(reports) > 1:
      raise UserError(
        f'{argv[0]} holds {len(reports)} reports, but one was expected: name its folder.'
      )
  except UserError as error:
    print(f'Error: {error}', file=sys.stderr)
    return 1
  target = Path(argv[1])
  target.parent.mkdir(parents=True, exist_ok=True)
  (report,) = reports.values()
  target.write_text(json.dumps(kept(report), indent=1, sort_keys=True) + '\n', encoding='utf-8')
  return 0


if __name__ == '__main__':
  sys.exit(main(sys.argv[1:]))
