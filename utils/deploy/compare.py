"""Compares runs by their report.json files: one table, and one page with plots.

  python -m secateurs.utils.deploy.compare RUN_DIR... [--out FOLDER]

Runs that differ in nothing but their seed are one row: the mean, and how far the seeds lie apart.
The row of a chain compares what went into its first link with what came out of its last.
Nothing is measured here, and TensorFlow is not loaded.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from secateurs.utils.deploy import units
from secateurs.utils.deploy.blocks import median_latency
from secateurs.utils.deploy.report import read_report
from secateurs.utils.deploy.rows import first_original
from secateurs.utils.errors import UserError
from secateurs.utils.files import atomic_path, explain_os_errors

_NOT_OF_THE_METHOD = ('seed', 'model')
_PATHS = ('_dir', 'data_dir_local', 'save_path', 'save_path_eval', 'save_path_dst', '_model')

Run = tuple[Path, Mapping[str, Any]]  # A report and where it lies.


@dataclass(frozen=True)
class Metric:
  """One column, and one plot against the accuracy if it is a cost.

  Attributes:
    key: in the tables of `compare.json`.
    label: for people.
    get: from a block of a report.
    show: formats a value.
  """

  key: str
  label: str
  get: Callable[[Mapping], float | None]
  show: Callable[[float | None], str]


def _file_size(block: Mapping) -> float | None:
  """Bytes of the smallest float file: that without zeros where there is one."""
  sizes = (block.get('tflite_bytes'), (block.get('sparse') or {}).get('bytes'))
  return min((size for size in sizes if size is not None), default=None)


COSTS = (
  Metric('file', 'file size', _file_size, units.fmt_bytes),
  Metric('gzip', 'gzipped', lambda b: b.get('tflite_gzip_bytes'), units.fmt_bytes),
  Metric('latency', 'latency', median_latency, units.fmt_ms),
  Metric('macs', 'MACs', lambda b: b.get('macs'), units.fmt_macs),
  Metric('params', 'parameters', lambda b: b.get('params'), units.fmt_count),
)
PLOTTED = ('file', 'latency', 'macs', 'params')


@dataclass
class Entry:
  """One method, or one original network, over all of its seeds.

  Attributes:
    name: for people, such as 'chn-pruned, cp_select=lasso'.
    net: network and data set.
    base: parameters and MACs of the network that `ratios` compare with.
    reports: where its figures come from.
    original: whether it is a network before compression.
    accuracies: in [0, 1], one for each seed; of an original one for each that differs.
    values: mean of each cost over the seeds, by key.
    ratios: the same as shares of each run's own original, which was measured beside it; a chain's
      is what went into its first link.
    seconds: mean time of a whole run.
    best: keys of the costs at which nothing is at least as good in both and better in one.
  """

  name: str
  net: str
  base: tuple[float | None, float | None]
  reports: list[str]
  original: bool
  accuracies: list[float]
  values: dict[str, float | None]
  ratios: dict[str, float | None]
  seconds: float | None
  best: list[str] = field(default_factory=list)

  @property
  def accuracy(self) -> float:
    """Mean over the seeds."""
    return sum(self.accuracies) / len(self.accuracies)

  def as_json(self) -> dict[str, Any]:
    """The entry as plain types."""
    return {**vars(self), 'accuracy': self.accuracy}


def find_reports(folders: Iterable[str | Path]) -> dict[Path, dict[str, Any]]:
  """All checked reports in or below some folders (or named themselves), by path.

  Raises:
    UserError: a folder holds none, or a file is no report.
  """
  found: dict[Path, dict[str, Any]] = {}
  for folder in map(Path, folders):
    paths = [folder] if folder.is_file() else sorted(folder.glob('**/report.json'))
    if not paths:
      raise UserError(
        f'{folder} holds no report.json: give run folders of finished runs, such as '
        './runs/resnet20_at_cifar10.'
      )
    for path in paths:
      try:
        found[path] = read_report(path)
      except (OSError, ValueError) as error:
        raise UserError(
          f'{path} is no report of this program ({str(error).splitlines()[0]}): run the command that '
          'made it again, or leave it out.'
        ) from error
  return found


def entries(reports: Mapping[Path, Mapping[str, Any]]) -> list[Entry]:
  """One entry for each method and each original network, the most accurate first in each group."""
  groups = _groups(reports)
  names = _names([group[0][1] for group in groups])
  made = [_entry(name, group) for name, group in zip(names, groups, strict=True)]
  made += _originals(reports)
  _tell_apart(made)
  _use_one_clock(made)
  for net in {entry.net for entry in made}:
    alike = [entry for entry in made if entry.net == net]
    for metric in COSTS:
      for entry in pareto(alike, metric.key):
        entry.best.append(metric.key)
  return sorted(made, key=lambda e: (e.net, not e.original, -e.accuracy))


def _groups(reports: Mapping[Path, Mapping]) -> list[list[Run]]:
  """Runs that differ in nothing but their seed; those that do not even differ in it are alone."""
  found: dict[str, list[Run]] = {}
  for run in reports.items():
    found.setdefault(_method_of(run[1]), []).append(run)
  groups = []
  for runs in found.values():
    seeds = {report['seed'] for _, report in runs}
    groups += [runs] if len(seeds) == len(runs) else [[run] for run in runs]
  return groups


def _tell_apart(made: Sequence[Entry]) -> None:
  """Adds the folder to names that several entries of a network have."""
  counts = Counter((entry.net, entry.name) for entry in made)
  for entry in made:
    if counts[entry.net, entry.name] > 1:
      entry.name += f' ({Path(entry.reports[0]).parent})'


def _use_one_clock(made: Sequence[Entry]) -> None:
  """Latencies as if all runs had timed the original alike: each run's ratio is measured in turns."""
  clocks: dict[tuple, float] = {}
  for entry in made:
    if entry.original and entry.values['latency'] is not None:
      clocks.setdefault((entry.net, entry.base), entry.values['latency'])
  for entry in made:
    clock, ratio = clocks.get((entry.net, entry.base)), entry.ratios['latency']
    if clock is not None and ratio is not None:
      entry.values['latency'] = ratio * clock


def pareto(group: Sequence[Entry], key: str) -> list[Entry]:
  """The entries that no other one beats, by rising cost and accuracy; equal ones are all among them."""

  def point(entry: Entry) -> tuple[float, float]:
    return entry.values[key], -entry.accuracy

  front: list[Entry] = []
  for entry in sorted((e for e in group if e.values.get(key) is not None), key=point):
    if not front or entry.accuracy > front[-1].accuracy or point(entry) == point(front[-1]):
      front.append(entry)
  return front


def _method_of(report: Mapping) -> str:
  sizes = _size(report['original']), _size(first_original(report))
  method = [_learner_of(report), _net_of(report), _own_flags(report), sizes]
  return json.dumps(method, sort_keys=True)


def _learner_of(report: Mapping) -> str:
  """The learner, or those of a chain: 'chn-pruned + weight-sparse'."""
  links = report.get('links')
  return ' + '.join(link['learner'] for link in links) if links else report['learner']


def _size(block: Mapping) -> tuple[float | None, float | None]:
  """Parameters and MACs: files of different networks often have the same name."""
  return block.get('params'), block.get('macs')


def _net_of(report: Mapping) -> str:
  return f'{report["net"]} on {report["dataset"]}'


def _own_flags(report: Mapping) -> dict[str, Any]:
  """The flags that make a method what it is: no paths, no seed."""
  return {
    name: value
    for name, value in report['flags'].items()
    if name not in _NOT_OF_THE_METHOD and not name.endswith(_PATHS)
  }


def _names(reports: Sequence[Mapping]) -> list[str]:
  """Learner names, with the flags in which runs of one learner on one network differ."""
  names = []
  for report in reports:
    alike = [
      _own_flags(other)
      for other in reports
      if (_learner_of(other), _net_of(other)) == (_learner_of(report), _net_of(report))
    ]
    own = _own_flags(report)
    differing = [
      f'{name}={value}'
      for name, value in own.items()
      if any(other.get(name) != value for other in alike)
    ]
    names.append(', '.join([_learner_of(report), *differing]))
  return names


def _entry(name: str, group: Sequence[Run]) -> Entry:
  blocks = [report['compressed'] for _, report in group]
  before = [first_original(report) for _, report in group]
  ratios = {}
  for metric in COSTS:
    pairs = [(metric.get(a), metric.get(b)) for a, b in zip(before, blocks, strict=True)]
    ratios[metric.key] = _mean([b / a if a and b is not None else None for a, b in pairs])
  return Entry(
    name=name,
    net=_net_of(group[0][1]),
    base=_size(before[0]),
    reports=[str(path) for path, _ in group],
    original=False,
    accuracies=[block['accuracy'] for block in blocks],
    values={metric.key: _mean([metric.get(block) for block in blocks]) for metric in COSTS},
    ratios=ratios,
    seconds=_mean([report.get('seconds_total') for _, report in group]),
  )


def _originals(reports: Mapping[Path, Mapping]) -> list[Entry]:
  """One entry for each original network over its seeds; one for each training of it under one seed."""
  networks: dict[tuple, list[Run]] = {}
  for path, report in reports.items():
    block = first_original(report)
    if block.get('accuracy') is not None:
      networks.setdefault((_net_of(report), _size(block)), []).append((path, report))
  made = []
  for (net, base), runs in networks.items():
    trainings: dict[float, list[Run]] = {}
    for run in runs:
      trainings.setdefault(round(first_original(run[1])['accuracy'], 6), []).append(run)
    seeds = [seed for own in trainings.values() for seed in {report['seed'] for _, report in own}]
    if len(seeds) == len(set(seeds)):
      made.append(_original(net, base, list(trainings), runs))
    else:
      made += [_original(net, base, [accuracy], own) for accuracy, own in trainings.items()]
  return made


def _original(
  net: str, base: tuple[float | None, float | None], accuracies: list[float], runs: Sequence[Run]
) -> Entry:
  blocks = [first_original(report) for _, report in runs]
  values = {metric.key: _mean([metric.get(block) for block in blocks]) for metric in COSTS}
  ratios = {key: None if value is None else 1.0 for key, value in values.items()}
  paths = [str(path) for path, _ in runs]
  return Entry('original', net, base, paths, True, accuracies, values, ratios, None)


def _mean(values: Sequence[float | None]) -> float | None:
  known = [value for value in values if value is not None]
  return sum(known) / len(known) if known and len(known) == len(values) else None


def accuracy_text(entry: Entry) -> str:
  """Such as '88.16 %', or '87.90 % (87.71-88.02, 3 seeds)'."""
  text = units.fmt_percent(entry.accuracy)
  if len(entry.accuracies) < 2:
    return text
  low, high = (f'{100 * pick(entry.accuracies):.2f}' for pick in (min, max))
  return f'{text} ({low}-{high}, {len(entry.accuracies)} seeds)'


def cost_text(entry: Entry, metric: Metric) -> str:
  """Such as '0.21 ms (0.48x) *'; the star marks what nothing beats."""
  value, ratio = entry.values[metric.key], entry.ratios[metric.key]
  share = '' if ratio is None or entry.original else f' ({ratio:.2f}x)'
  star = ' *' if metric.key in entry.best else ''
  return f'{metric.show(value)}{share}{star}'


def table_cells(group: Sequence[Entry]) -> tuple[list[str], list[list[str]]]:
  """Header and rows of the table."""
  header = ['', 'accuracy', *(metric.label for metric in COSTS), 'time']
  rows = [
    [
      entry.name,
      accuracy_text(entry),
      *(cost_text(entry, metric) for metric in COSTS),
      units.fmt_seconds(entry.seconds),
    ]
    for entry in group
  ]
  return header, rows


def format_comparison(found: Sequence[Entry]) -> str:
  """The table for a terminal, one part for each network."""
  parts = []
  for net in dict.fromkeys(entry.net for entry in found):
    header, rows = table_cells([entry for entry in found if entry.net == net])
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
    lines = [
      '  '.join(
        [row[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(row[1:], widths[1:], strict=True))]
      )
      for row in (header, *rows)
    ]
    parts.append('\n'.join([net, lines[0], '-' * len(lines[0]), *lines[1:]]))
  parts.append('* nothing compared is smaller or faster and at least as accurate')
  return '\n\n'.join(parts)


def render_page(found: Sequence[Entry]) -> str:
  """The comparison as one HTML page, plots inside."""
  from secateurs.utils.deploy import plots
  from secateurs.utils.deploy.report import environment

  networks = []
  for net in dict.fromkeys(entry.net for entry in found):
    group = [entry for entry in found if entry.net == net]
    header, rows = table_cells(group)
    drawings = []
    for metric in COSTS:
      if metric.key not in PLOTTED or not any(e.values[metric.key] is not None for e in group):
        continue
      points = [
        (entry.name, entry.values[metric.key], 100 * entry.accuracy)
        for entry in group
        if entry.values[metric.key] is not None
      ]
      front = [(e.values[metric.key], 100 * e.accuracy) for e in pareto(group, metric.key)]
      caption = f'Accuracy, %, against {metric.label}'
      drawings.append((caption, plots.scatter(caption, points, front, metric.show)))
    colours = plots.colours_of([entry.name for entry in group])
    networks.append(
      {'net': net, 'header': header, 'rows': rows, 'drawings': drawings, 'colours': colours}
    )
  return environment().get_template('compare.html.j2').render(networks=networks)


def write_comparison(found: Sequence[Entry], folder: str | Path) -> dict[str, Path]:
  """Writes compare.json and compare.html; returns their paths by ending."""
  folder = Path(folder)
  paths = {'json': folder / 'compare.json', 'html': folder / 'compare.html'}
  content = {
    'json': json.dumps([entry.as_json() for entry in found], indent=2, ensure_ascii=False) + '\n',
    'html': render_page(found),
  }
  with explain_os_errors(folder):
    folder.mkdir(parents=True, exist_ok=True)
    for kind, path in paths.items():
      with atomic_path(path) as partial:
        partial.write_text(content[kind], encoding='utf-8')
  return paths


def main(argv: Sequence[str] | None = None) -> int:
  """Compares what the command line names; returns the exit code."""
  parser = argparse.ArgumentParser(
    prog='python -m secateurs.utils.deploy.compare',
    description='Compares runs by their report.json files: one table, one page with plots.',
  )
  parser.add_argument('runs', nargs='+', metavar='RUN_DIR', help='folders of finished runs')
  parser.add_argument('--out', default='.', help='folder of compare.html and compare.json')
  options = parser.parse_args(argv)
  try:
    found = entries(find_reports(options.runs))
    print(format_comparison(found))
    for path in write_comparison(found, options.out).values():
      print(path)
  except UserError as error:
    print(f'Error: {error}', file=sys.stderr)
    return 1
  return 0


if __name__ == '__main__':
  sys.exit(main())
