"""Makes the rows of a comparison from reports: seeds together, networks and scores apart."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from secateurs.utils.deploy.compare import one_run
from secateurs.utils.deploy.compare.entry import COSTS, Entry, pareto
from secateurs.utils.deploy.reports.chains import first_original, total_seconds
from secateurs.utils.deploy.reports.float_file import deployed_block, deployed_file
from secateurs.utils.deploy.reports.scores import ScoreKind, kind_of, value_of

_NOT_OF_THE_METHOD = ('seed', 'model')
_PATHS = ('_dir', 'data_dir_local', 'save_path', 'save_path_eval', 'save_path_dst', '_model')

Run = tuple[Path, Mapping[str, Any]]  # A report and where it lies.


def entries(reports: Mapping[Path, Mapping[str, Any]]) -> list[Entry]:
  """One entry for each method and each original network, the best score first in each group."""
  groups = _groups(reports)
  names = _names([group[0][1] for group in groups])
  made = [_entry(name, group) for name, group in zip(names, groups, strict=True)]
  made += _originals(reports)
  _tell_apart(made)
  _use_one_clock(made)
  for group in ranked_groups(made).values():
    for metric in COSTS:
      for entry in pareto(group, metric.key):
        entry.best.append(metric.key)
  return sorted(made, key=lambda e: (e.net, _score_name(e), not e.original, -e.gain))


def ranked_groups(made: Sequence[Entry]) -> dict[str, list[Entry]]:
  """Returns the entries that can be ranked together, by a heading: one network, one kind of score."""
  groups: dict[tuple, list[Entry]] = {}
  for entry in made:
    groups.setdefault((entry.net, entry.kind), []).append(entry)
  nets = Counter(net for net, _ in groups)
  labels = {key: key[1].axis if key[1] else 'without a score' for key in groups}
  return {
    key[0] if nets[key[0]] == 1 else f'{key[0]}: {labels[key]}': group
    for key, group in groups.items()
  }


def _score_name(entry: Entry) -> str:
  return entry.kind.name if entry.kind else ''


def _groups(reports: Mapping[Path, Mapping]) -> list[list[Run]]:
  """Runs that differ in nothing but their seed; those that do not even differ in it are alone."""
  found: dict[str, list[Run]] = {}
  later = _later_flags(reports.values())
  for run in reports.items():
    found.setdefault(_method_key(run[1], later[_learner(run[1])]), []).append(run)
  groups = []
  for runs in found.values():
    seeds = {report['seed'] for _, report in runs}
    groups += [runs] if len(seeds) == len(runs) else [[run] for run in runs]
  return groups


def _later_flags(reports: Iterable[Mapping]) -> dict[str, set[str]]:
  """Flags by learner that some of its reports do not know, and all others have one value of.

  They came with a later version of the project, and do not make another method of it.
  """
  by_learner: dict[str, list[Mapping]] = {}
  for report in reports:
    by_learner.setdefault(_learner(report), []).append(report['flags'])
  found = {}
  for learner, all_flags in by_learner.items():
    partly = set().union(*all_flags) - set(all_flags[0]).intersection(*all_flags)
    values = {name: [flags[name] for flags in all_flags if name in flags] for name in partly}
    found[learner] = {name for name, known in values.items() if known.count(known[0]) == len(known)}
  return found


def _tell_apart(made: Sequence[Entry]) -> None:
  """Adds the folder to names that several entries of one group have."""
  counts = Counter((entry.net, entry.kind, entry.name) for entry in made)
  for entry in made:
    if counts[entry.net, entry.kind, entry.name] > 1:
      entry.name += f' ({Path(entry.reports[0]).parent})'


def _use_one_clock(made: Sequence[Entry]) -> None:
  """Sets latencies to each run's own ratio times the latency of one original: one clock for all."""
  clocks: dict[tuple, float] = {}
  for entry in made:
    if entry.original and entry.values['latency'] is not None:
      clocks.setdefault((entry.net, entry.base), entry.values['latency'])
  for entry in made:
    clock, ratio = clocks.get((entry.net, entry.base)), entry.ratios['latency']
    if clock is not None and ratio is not None:
      entry.values['latency'] = ratio * clock


def _method_key(report: Mapping, ignored: set[str]) -> str:
  sizes = _size(report['original']), _size(first_original(report))
  kind = _kind(report['compressed'])
  score = kind and (kind.name, kind.higher_is_better, kind.percent)
  flags = {name: value for name, value in _own_flags(report).items() if name not in ignored}
  return json.dumps([_learner(report), _net(report), flags, sizes, score], sort_keys=True)


def _learner(report: Mapping) -> str:
  """The method or learner, or those of a chain: 'chn-pruned + weight-sparse'."""
  return ' + '.join(
    link.get('method') or link['learner'] for link in report.get('links') or [report]
  )


def _size(block: Mapping) -> tuple[float | None, float | None]:
  """Parameters and MACs: files of different networks often have the same name."""
  return block.get('params'), block.get('macs')


def _net(report: Mapping) -> str:
  return f'{report["net"]} on {report["dataset"]}'


def _kind(block: Mapping) -> ScoreKind | None:
  return None if value_of(block.get('score')) is None else kind_of(block['score'])


def _own_flags(report: Mapping) -> dict[str, Any]:
  """The flags that make a method what it is: no paths, no seed."""
  return {
    name: value
    for name, value in report['flags'].items()
    if name not in _NOT_OF_THE_METHOD and not name.endswith(_PATHS)
  }


def _names(reports: Sequence[Mapping]) -> list[str]:
  """Learner names, with the flags in which runs of one learner on one network differ.

  Flags that are not set are not named, nor those that not all of these runs know, because some are of
  another version.
  """
  names = []
  for report in reports:
    alike = [
      _own_flags(other)
      for other in reports
      if (_learner(other), _net(other)) == (_learner(report), _net(report))
    ]
    differing = [
      f'{name}={value:g}' if isinstance(value, float) else f'{name}={value}'
      for name, value in _own_flags(report).items()
      if value is not None
      and all(name in other for other in alike)
      and any(other[name] != value for other in alike)
    ]
    names.append(', '.join([_learner(report), *differing]))
  return names


def _entry(name: str, group: Sequence[Run]) -> Entry:
  blocks = [deployed_block(report['compressed']) for _, report in group]
  before = [first_original(report) for _, report in group]
  ratios = {}
  for metric in COSTS:
    pairs = [(metric.get(a), metric.get(b)) for a, b in zip(before, blocks, strict=True)]
    ratios[metric.key] = one_run.mean([b / a if a and b is not None else None for a, b in pairs])
  return Entry(
    name=name,
    original=False,
    base=_size(before[0]),
    scores=[value_of(b['score']) for b in blocks if _kind(b)],
    ratios=ratios,
    change_noise=one_run.mean(list(map(one_run.change_noise, before, blocks))),
    before=one_run.mean([one_run.before(report) for _, report in group]),
    choosing=one_run.mean([one_run.choosing(report) for _, report in group]),
    statistics=one_run.mean([one_run.statistics(report) for _, report in group]),
    seconds=one_run.mean([total_seconds(report) for _, report in group]),
    images=one_run.images([report for _, report in group]),
    **_common(group, blocks),
  )


def _common(group: Sequence[Run], blocks: Sequence[Mapping]) -> dict[str, Any]:
  """What entries of methods and of originals have alike."""
  endings = {file.ending for file in map(deployed_file, blocks) if file}
  return {
    'net': _net(group[0][1]),
    'kind': _kind(blocks[0]),
    'reports': [str(path) for path, _ in group],
    'noise': one_run.mean([(block.get('score') or {}).get('noise') for block in blocks]),
    'file': ' or '.join(sorted(endings)) or None,
    'values': {
      metric.key: one_run.mean([metric.get(block) for block in blocks]) for metric in COSTS
    },
  }


def _originals(reports: Mapping[Path, Mapping]) -> list[Entry]:
  """One entry for each original network over its seeds; one for each training of it under one seed."""
  networks: dict[tuple, list[Run]] = {}
  for path, report in reports.items():
    block = first_original(report)
    if kind := _kind(block):
      networks.setdefault((_net(report), kind, _size(block)), []).append((path, report))
  made = []
  for runs in networks.values():
    trainings: dict[float, list[Run]] = {}
    for run in runs:
      score = value_of(first_original(run[1])['score'])
      trainings.setdefault(float(f'{score:.6g}'), []).append(run)
    seeds = [seed for own in trainings.values() for seed in {report['seed'] for _, report in own}]
    if len(seeds) == len(set(seeds)):
      made.append(_original(list(trainings), runs))
    else:
      made += [_original([score], own) for score, own in trainings.items()]
  return made


def _original(scores: list[float], runs: Sequence[Run]) -> Entry:
  blocks = [first_original(report) for _, report in runs]
  common = _common(runs, blocks)
  return Entry(
    name='original',
    original=True,
    base=_size(blocks[0]),
    scores=scores,
    ratios={key: None if value is None else 1.0 for key, value in common['values'].items()},
    seconds=None,
    **common,
  )
