"""Full-integer files of several runs in one table: score, bytes, time, memory, NPU cycles.

Either beside float files of networks that were cut (`int8_cells`), or by the way in which they came to
8 bits, of networks that were not (`way_cells`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from secateurs.utils.deploy.reports import units
from secateurs.utils.deploy.reports.blocks import median_latency
from secateurs.utils.deploy.reports.scores import kind_of

_COLUMNS = ('divergence', 'bytes', 'latency', 'arena', 'NPU cycles')

Row = tuple[str, Mapping[str, Any]]
"""What a file is called, and its block of a report."""


def is_as_it_was(report: Mapping[str, Any]) -> bool:
  """Whether a report is of a network that nothing was taken from."""
  return report['learner'] == 'full-prec'


def integer_tables(reports: Mapping[Path, Mapping[str, Any]]) -> list[str]:
  """Tables in Markdown of any reports: one of all networks as they are, one of each that was cut."""
  header, rows = way_cells(one for one in reports.values() if is_as_it_was(one))
  parts = [markdown(header, rows)] if rows else []
  cut: dict[str, dict[Path, Mapping[str, Any]]] = {}
  for path, report in reports.items():
    if not is_as_it_was(report):
      cut.setdefault(_data(report), {})[path] = report
  for name, group in cut.items():
    header, rows = int8_cells(group)
    if rows:
      whose = f' of {name}' if len(cut) > 1 else ''
      parts.append(f'Float and full-integer files{whose}:\n\n{markdown(header, rows)}')
  return parts


def _data(report: Mapping[str, Any]) -> str:
  return f'{report["net"]} on {report["dataset"]}'


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
  header = ['', kind.label if kind else 'score', *_COLUMNS]
  return _known(header, [_cells(name, block, whole) for name, block in rows])


def way_cells(reports: Iterable[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
  """Header and rows: of each network its float file, and int8 files by how they came to 8 bits.

  Args:
    reports: of networks as they are, of any number of networks; one for each way.

  Returns:
    As `int8_cells`; rows of a network stand together, its name in the first of them.
  """
  networks: dict[str, list[Mapping[str, Any]]] = {}
  for report in reports:
    if 'int8' in report['compressed']:
      networks.setdefault(_network(report), []).append(report)
  cells = []
  for name, found in networks.items():
    found.sort(key=_order)
    first = found[0]['compressed']
    whole = _cycles(first['int8'])
    cells.append([name, *_cells('float', first, whole)])
    cells += [['', *_cells(_way(one), one['compressed']['int8'], whole)] for one in found]
  return _known(['network', 'file', 'score', *_COLUMNS], cells) if cells else ([], [])


def _network(report: Mapping[str, Any]) -> str:
  score = report['compressed'].get('score')
  kind = f', {kind_of(score).label}' if score else ''
  return f'{_data(report)}{kind}'


def _order(report: Mapping[str, Any]) -> int:
  return 2 if report['flags'].get('enbl_qat') else int(report.get('int8_repair') is not None)


def _way(report: Mapping[str, Any]) -> str:
  """How the int8 file of a report came to 8 bits."""
  if report['flags'].get('enbl_qat'):
    epochs = report['flags']['nb_epochs_qat']
    return f'int8, trained for {epochs:g} epoch{"" if epochs == 1 else "s"}'
  steps = report.get('int8_repair')
  if steps is None:
    return 'int8, plain'
  kept = [step['step'] for step in steps if step['kept'] and step['step'] != 'plain']
  return f'int8, repaired: {", ".join(kept)}' if kept else 'int8, plain; nothing to repair'


def _known(header: list[str], cells: list[list[str]]) -> tuple[list[str], list[list[str]]]:
  """Without the columns that nothing is known of."""
  shown = [i for i in range(len(header)) if {row[i] for row in cells} != {units.NOTHING}]
  return [header[i] for i in shown], [[row[i] for i in shown] for row in cells]


def _files(name: str, block: Mapping[str, Any]) -> list[Row]:
  int8 = block.get('int8')
  return [(f'{name}, float', block), *([(f'{name}, int8', int8)] if int8 else [])]


def _cells(name: str, block: Mapping[str, Any], whole: int | None) -> list[str]:
  score, cycles, apart = block.get('score'), _cycles(block), block.get('divergence')
  ratio = f' ({cycles / whole:.2f}x)' if cycles and whole else ''
  return [
    name,
    kind_of(score).show(score['value']) if score else units.NOTHING,
    units.NOTHING if apart is None else f'{apart:.2g}',
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
