"""Times the segments of a network on this machine, and how they add up."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from secateurs.utils.deploy.latency_table.files import (
  Point,
  axes_of,
  content_of,
  empty_content,
  runner,
  segment_content,
)
from secateurs.utils.deploy.latency_table.grid import INPUT_STEP, OUTPUT_STEP, merged
from secateurs.utils.deploy.latency_table.prediction import segment_sum
from secateurs.utils.deploy.latency_table.segments import Segment, network_key, segments_of
from secateurs.utils.deploy.latency_table.table import LatencyTable, Scale, SegmentTimes
from secateurs.utils.deploy.runtime.timing import time_interleaved
from secateurs.utils.errors import first_line
from secateurs.utils.graph import ChannelGraph, Plan, apply_plan
from secateurs.utils.graph.flat.walk import FlatModel
from secateurs.utils.training.engine.progress import format_seconds

FRACTIONS = (1.0, 0.75, 0.5, 0.25)
"""Parts of all channels of the networks that sums are compared with."""
_NB_FRAMES, _SECONDS = 20, 0.25  # Of each file of a segment; seconds where it does not settle.
_NB_TOGETHER = 16  # Files that are timed against each other.
_WHOLE_FRAMES, _WHOLE_SECONDS = 100, 4.0
CLOCKS = {'wall': time.perf_counter_ns, 'cpu': time.thread_time_ns}
"""What times are taken by: the time that passes, or that of the thread which runs the file."""

Say = Callable[[str], None]


def distinct(flat: FlatModel) -> Iterator[tuple[Segment, tuple[list[int], list[int]]]]:
  """The segments that differ in time, each with the channels at which it is timed.

  Of segments with one key the widest is taken.
  """
  found: dict[str, tuple[Segment, list[tuple[list[int], list[int]]]]] = {}
  images = {number for number, _ in flat.inputs}
  for segment in segments_of(flat):
    first = images.issuperset(segment.calls[0].inputs)
    last = segment.calls[-1].outputs[0] in flat.outputs
    axes = axes_of(segment, is_first=first, is_last=last)
    before, every = found.get(segment.key, (segment, []))
    wider = max(before, segment, key=lambda one: one.out_channels)
    found[segment.key] = wider, [*every, axes]
  for segment, every in found.values():
    taken, made = zip(*every, strict=True)
    step = INPUT_STEP if segment.makes else OUTPUT_STEP
    yield segment, (merged(taken, step), merged(made, OUTPUT_STEP))


def make_table(
  table: LatencyTable, graph: ChannelGraph, path: Path, say: Say, *, step: int | None = None
) -> None:
  """Adds a network's segments and its scale to a table, and writes it after each.

  Args:
    table: with device, threads and kind; segments that it has are not timed again.
    graph: of the network.
    path: where it is written.
    say: prints.
    step: for tests: take each so many-th point only.
  """
  todo = [one for one in distinct(graph.traced.flat) if one[0].key not in table.segments]
  total = sum(math.prod(map(len, axes)) for _, axes in todo)
  say(f'{len(todo)} layers to time, {total} files')
  if not table.call_ms:
    table.call_ms = _time(table, [empty_content(table.kind)])[0][0]
  began, done = time.perf_counter(), 0
  for segment, axes in todo:
    if step:
      axes = tuple(sorted({*axis[::step], axis[-1]}) for axis in axes)
    try:
      table.segments[segment.key] = _times(table, segment, *axes)
    except (RuntimeError, ValueError) as error:
      say(f'{segment.text}: cannot be timed alone ({first_line(error)})')
      continue
    done += math.prod(map(len, axes))
    left = (time.perf_counter() - began) / done * (total - done)
    times = table.segments[segment.key]
    say(
      f'{done}/{total}  {segment.text}: {np.min(times.ms):.4f} to {np.max(times.ms):.4f} ms, '
      f'spread {100 * times.spread:.1f} %, {format_seconds(max(left, 0))} left'
    )
    table.write(path)
  table.networks[network_key(segments_of(graph.traced.flat))] = fit_scale(table, graph)
  table.write(path)


def _times(
  table: LatencyTable, segment: Segment, inputs: list[int], outputs: list[int]
) -> SegmentTimes:
  points = [Point(taken, made if segment.makes else taken) for taken in inputs for made in outputs]
  found: list[tuple[float, float]] = []
  for start in range(0, len(points), _NB_TOGETHER):
    part = points[start : start + _NB_TOGETHER]
    contents = [segment_content(segment, point, table.kind) for point in part]
    found += _time(table, contents)
  ms = np.array([max(one - table.call_ms, 0.0) for one, _ in found])
  spread = max(one for _, one in found)
  grid = ms.reshape(len(inputs), len(outputs)).tolist()
  return SegmentTimes(segment.text, inputs, outputs if segment.makes else [1], grid, spread)


def _time(
  table: LatencyTable,
  contents: Sequence[bytes],
  frames: int = _NB_FRAMES,
  seconds: float = _SECONDS,
) -> list[tuple[float, float]]:
  """Median in ms and its spread for each file, timed against each other as the table says."""
  runs = {str(number): runner(content, table.threads) for number, content in enumerate(contents)}
  timed = time_interleaved(runs, nb_frames=frames, seconds=seconds, clock=CLOCKS[table.clock])
  return [(float(np.median(one.times_ns)) / 1e6, one.spread) for one in timed.values()]


def fit_scale(table: LatencyTable, graph: ChannelGraph) -> Scale:
  """How the sums of segments become times of whole networks: fit to cuts of all groups alike."""
  plans = [plan_at(graph, fraction) for fraction in FRACTIONS]
  contents = [content_of(apply_plan(plan), table.kind) for plan in plans]
  timed = _time(table, contents, _WHOLE_FRAMES, _WHOLE_SECONDS)
  sums = [segment_sum(table, graph, plan) for plan in plans]
  return scale_of(sums, [one for one, _ in timed])


def scale_of(sums: Sequence[float], measured: Sequence[float]) -> Scale:
  """Factor and offset with the least relative errors; a power law where the offset were negative.

  Segments that are timed alone find their weights and maps in the cache, which those of a large network
  do not: then times grow faster than the sums.
  """
  x, y = np.asarray(sums), np.asarray(measured)
  factor, offset = np.linalg.lstsq(np.stack([x, np.ones_like(x)], 1) / y[:, None], np.ones_like(y))[
    0
  ]
  power = 1.0
  if (factor <= 0 or offset < 0) and np.ptp(x) > 0 and x.min() > 0:
    power, logarithm = np.polyfit(np.log(x), np.log(y), 1)
    factor, offset = np.exp(logarithm), 0.0
  if factor <= 0 or offset < 0 or power <= 0:
    factor, offset, power = np.sum(x / y) / np.sum((x / y) ** 2), 0.0, 1.0
  return Scale(float(factor), float(offset), list(map(float, x)), list(map(float, y)), float(power))


def plan_at(graph: ChannelGraph, fraction: float) -> Plan:
  """A cut of all groups that can be cut to a fraction of their channels, multiples of 4."""
  alive = np.ones(len(graph.traced.why), bool)
  for group in graph.groups:
    if group.prunable and group.free.all():
      kept = min(max(round(fraction * group.size / 4) * 4, 4), group.size)
      alive[group.roots] = np.arange(group.size) < kept
  return Plan(graph, alive, {})
