"""A chain of learners as one: what went into it, on the clock of its last link, and its time."""

import itertools
from collections.abc import Mapping
from typing import Any, NamedTuple

from secateurs.utils.deploy.reports.float_file import deployed_block, deployed_file

_BASELINE = 'baseline'  # The phase that trains what a method starts from.


class LinkCost(NamedTuple):
  """One link of a chain: what it made, and its time; None where that is unknown."""

  learner: str  # or published method
  bytes: float | None  # of the file to deploy
  score: Mapping[str, Any] | None  # as in the report
  seconds: float | None


def link_costs(report: Mapping) -> list[LinkCost]:
  """Returns the links of a chain in the order in which they ran; none of a run that is no chain."""
  found = []
  for link in report.get('links') or ():
    block = deployed_block(link.get('compressed') or {})
    file = deployed_file(block)
    found.append(
      LinkCost(
        link.get('method') or link['learner'],
        file.bytes if file else None,
        block.get('score'),
        link.get('seconds_total'),
      )
    )
  return found


def total_seconds(report: Mapping) -> float | None:
  """Returns the time of a run, of a chain that of all links; None where that of one is unknown."""
  costs = link_costs(report)
  if not costs:
    return report.get('seconds_total')
  seconds = [cost.seconds for cost in costs]
  return None if None in seconds else sum(seconds)


def images_run(report: Mapping) -> tuple[int, int] | None:
  """Returns images trained and images scored, without the baseline's; None where they are unknown.

  Of a chain those of all links.
  """
  runs = report.get('links') or [report]
  phases = [
    phase for run in runs for phase in run.get('phases') or () if phase['name'] != _BASELINE
  ]
  known = [phase for phase in phases if phase.get('images_trained') is not None]
  if not known or len(known) < len(phases):
    return None
  trained, scored = (
    sum(phase[f'images_{kind}'] for phase in known) for kind in ('trained', 'scored')
  )
  return trained, scored


def first_original(report: Mapping) -> Mapping[str, Any]:
  """Returns the original's block; of a chain what went into its first link, timed as by the last one.

  A link times what it was given beside what it made. The same network is therefore timed by two links,
  and the ratio of the two times says how much slower the machine was for one of them.
  """
  links = report.get('links') or ()
  if not links or not links[0].get('original'):
    return report['original']
  factors = dict.fromkeys(_medians(links[0]['original']), 1.0)
  for earlier, later in itertools.pairwise(links):
    then, now = (_medians(b) for b in (earlier.get('compressed'), later.get('original')))
    factors = {
      threads: factor * now[threads] / then[threads]
      for threads, factor in factors.items()
      if then.get(threads) and now.get(threads)
    }
  block = dict(links[0]['original'])
  for name in ('int8', 'sparse', 'quant'):
    if block.get(name):
      block[name] = _on_another_clock(block[name], factors)
  return _on_another_clock(block, factors)


def _medians(block: Mapping | None) -> dict[int, float]:
  return {entry['threads']: entry['p50_ms'] for entry in (block or {}).get('latency') or ()}


def _on_another_clock(block: Mapping, factors: Mapping[int, float]) -> dict[str, Any]:
  if not block.get('latency'):
    return dict(block)
  timed = [
    {
      'threads': entry['threads'],
      'p50_ms': entry['p50_ms'] * factors[entry['threads']],
      'p90_ms': entry['p90_ms'] * factors[entry['threads']],
      'fps': entry['fps'] / factors[entry['threads']],
    }
    for entry in block['latency']
    if entry['threads'] in factors
  ]
  return {**block, 'latency': timed}
