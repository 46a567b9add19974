"""Rows of time: milliseconds of one frame, and frames per second."""

from collections.abc import Mapping
from dataclasses import replace

from secateurs.utils.deploy.reports import units
from secateurs.utils.deploy.reports.row import (
  TIMING_NOISE,
  Blocks,
  Format,
  Row,
  plain_row,
  start_of,
  with_ratio,
)


def latency_rows(blocks: Blocks, prefix: str = '') -> list[Row]:
  """Median and p90 with the fewest threads, frames per second with each number of them.

  A p90 counts as better or worse only if the median does: the slowest frames vary most.
  """
  counts = sorted({entry['threads'] for block in blocks for entry in block.get('latency') or ()})
  if not counts:
    return []
  median, p90 = (
    _latency_row(blocks, counts[0], key, f'latency {name}', units.fmt_ms, prefix)
    for key, name in (('p50_ms', 'median'), ('p90_ms', 'p90'))
  )
  if median.better is None:
    p90 = replace(p90, better=None, within_noise=median.within_noise)
  return [
    median,
    p90,
    *(_latency_row(blocks, n, 'fps', 'frames/s', units.fmt_fps, prefix) for n in counts),
    *_throughput_rows(blocks, prefix),
  ]


def _throughput_rows(blocks: Blocks, prefix: str) -> list[Row]:
  """Frames per second of several streams; their own row, apart from a single stream's."""
  entries = [next(iter(block.get('throughput') or ()), {}) for block in blocks]
  first = next((entry for entry in entries if entry), None)
  if first is None:
    return []
  values = [entry.get('fps') for entry in entries]
  streams = first['streams']
  label = f'{start_of(prefix)}throughput, frames/s of {streams} stream{"s" if streams > 1 else ""}'
  row = plain_row(f'throughput/{streams}', f'{label}{_cores(first)}', units.fmt_fps, values, prefix)
  spreads = [entry.get('spread', 0) / 2 for entry in (entries[0], entries[2])]
  row = with_ratio(row, values, max(TIMING_NOISE, sum(spreads)), more_is_better=True)
  return [replace(row, within_noise=row.better is None and row.share not in (None, 1))]


def _cores(entry: Mapping) -> str:
  cores = entry.get('cores')
  return f' on {cores} core{"s" if cores > 1 else ""}' if cores else ''


def _latency_row(
  blocks: Blocks, threads: int, key: str, name: str, show: Format, prefix: str
) -> Row:
  entries = [
    next((entry for entry in block.get('latency') or () if entry['threads'] == threads), {})
    for block in blocks
  ]
  values = [entry.get(key) for entry in entries]
  label = f'{start_of(prefix)}{name}, {threads} thread{"s" if threads > 1 else ""}'
  label += _cores(next((entry for entry in entries if entry), {}))
  if any(entry.get('settled') is False for entry in entries):
    label += ', not settled'
  row = plain_row(f'latency/{threads}/{key}', label, show, values, prefix)
  # Half an interval is how far each median may be off.
  spreads = [(entry.get('spread') or 0) / 2 for entry in (entries[0], entries[2])]
  row = with_ratio(row, values, max(TIMING_NOISE, sum(spreads)), more_is_better=key == 'fps')
  return replace(row, within_noise=row.better is None and row.share not in (None, 1))
