"""Reads `metrics.jsonl`, the line-by-line record of a run."""

import json
import os
from collections.abc import Iterable
from pathlib import Path

_MOST_STEPS = 1 << 53  # From where on numbers as they are drawn differ by more than one.


def parse_metrics(lines: Iterable[str]) -> list[dict]:
  """Parses metric lines, skipping what a kill left torn and what is damaged.

  A run that was killed may have left half a line, alone at the end or with the next run's first
  line after it. A resumed run repeats some steps: of two lines with the same phase, step and keys
  the later one counts, at the earlier one's place.

  Args:
    lines: JSON objects with at least `phase` and `step`, one a line.

  Returns:
    The objects in order; training and evaluation lines mixed as they came.
  """
  records = {}
  for line in lines:
    record = _parse_line(line)
    if record is not None:
      records[record['phase'], record['step'], frozenset(record)] = record
  return list(records.values())


def _parse_line(line: str) -> dict | None:
  # After a torn half, the next run's whole object starts at the line's last '{"'.
  for start in dict.fromkeys((0, line.rfind('{"'))):
    try:
      record = json.loads(line[start:] if start >= 0 else '')
    except (ValueError, RecursionError):
      continue
    if isinstance(record, dict) and _is_metric(record):
      return record
  return None


def _is_metric(record: dict) -> bool:
  """Whether a phase and a step are there, as a damaged file may have something else in their place."""
  phase, step = record.get('phase'), record.get('step')
  return isinstance(phase, str) and isinstance(step, (int, float)) and 0 <= step < _MOST_STEPS


def read_metrics(path: str | os.PathLike) -> list[dict]:
  """Returns the records of a `metrics.jsonl`; an empty list when there is no such file."""
  path = Path(path)
  if not path.is_file():
    return []
  with path.open(encoding='utf-8', errors='replace') as file:
    return parse_metrics(file)


def phase_offsets(records: Iterable[dict]) -> dict[str, float]:
  """Returns what to add to each phase's steps so that phases follow one another on one axis.

  Phases that count on from the phase before need nothing; a phase that starts again below the last
  step gets the steps of the phases before it.
  """
  spans: dict[str, list[float]] = {}
  for record in records:
    low, high = spans.setdefault(record['phase'], [record['step'], record['step']])
    spans[record['phase']] = [min(low, record['step']), max(high, record['step'])]
  offsets, end = {}, 0
  for phase, (low, high) in spans.items():
    offsets[phase] = 0 if low >= end else end
    end = high + offsets[phase]
  return offsets
