"""Full-integer files of several runs in one table: score, bytes, time, memory, NPU cycles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from secateurs.utils.deploy.reports import units
from secateurs.utils.deploy.reports.blocks import median_latency
from secateurs.utils.deploy.reports.scores import kind_of

Row = tuple[str, Mapping[str, Any]]
"""What a file is called, and its block of a report."""


def int8_cells(reports: Mapping[Path, Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
  """Header and rows: of each network the float and the full-integer file, the original's first.

  Args:
    reports: of one network and data set, by path; a row has the file's name without its ending.

  Returns:
    No rows where no report has a full-integer file; columns that nothing is known of are left out.
  """
  known = {path: one for path, one in reports.items() if 'int8' in one.get('compressed', {})}
  if not known:
    return [], []
  original = next(iter(known.values()))['original']
  rows: list[Row] = _files('original', original)
  for path, report in known.items():
    rows += _files(path.stem, report['compressed'])
  whole = _cycles(original.get('int8') or {})
  kind = kind_of(original['score']) if original.get('score') else None
  header = ['', kind.label if kind else 'score', 'bytes', 'latency', 'arena', 'NPU cycles']
  cells = [_cells(name, block, whole) for name, block in rows]
  shown = [i for i in range(len(header)) if {row[i] for row in cells} != {units.NOTHING}]
  return [header[i] for i in shown], [[row[i] for i in shown] for row in cells]


def _files(name: str, block: Mapping[str, Any]) -> list[Row]:
  int8 = block.get('int8')
  return [(f'{name}, float', block), *([(f'{name}, int8', int8)] if int8 else [])]


def _cells(name: str, block: Mapping[str, Any], whole: int | None) -> list[str]:
  score, cycles = block.get('score'), _cycles(block)
  ratio = f' ({cycles / whole:.2f}x)' if cycles and whole else ''
  return [
    name,
    kind_of(score).show(score['value']) if score else units.NOTHING,
    units.fmt_bytes(block.get('tflite_bytes', block.get('bytes'))),
    units.fmt_ms(median_latency(block)),
    units.fmt_bytes(block.get('arena_bytes')),
    units.NOTHING if cycles is None else f'{cycles:,}{ratio}',
  ]


def _cycles(block: Mapping[str, Any]) -> int | None:
  return (block.get('npu') or {}).get('cycles')


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
  """A table in Markdown."""
  return '\n'.join(f'| {" | ".join(cells)} |' for cells in (header, ['---'] * len(header), *rows))
