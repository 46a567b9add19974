"""Compares latencies that a table predicts with measured ones: scripts/bench_latency_tables.py NET.

  resnet20, resnet56   for CIFAR-10, 32x32
  mobilenet_v2         for ImageNet, 224x224

Makes the network's table (or adds to --table), cuts the network --cuts times at random, each group of
channels to another part between an eighth and all, and times all cuts against each other in short
blocks. Prints both latencies of each cut, the median error and Spearman's correlation, and how long the
table took. Weights are random, as they do not change latency.

Widths are those that an allocation chooses among (--widths table), or any (--widths any). With --clock
cpu all times are the thread's CPU time, for machines that do other things, too.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from secateurs.utils.quiet import quiet_tensorflow

quiet_tensorflow()

import numpy as np  # noqa: E402
from scipy import stats  # noqa: E402

from secateurs.nets.mobilenet import mobilenet_v2  # noqa: E402
from secateurs.nets.resnet import cifar_resnet  # noqa: E402
from secateurs.utils import processor  # noqa: E402
from secateurs.utils.deploy.latency_table.files import content_of, runner  # noqa: E402
from secateurs.utils.deploy.latency_table.grid import output_grid  # noqa: E402
from secateurs.utils.deploy.latency_table.measure import CLOCKS, make_table  # noqa: E402
from secateurs.utils.deploy.latency_table.prediction import segment_sum  # noqa: E402
from secateurs.utils.deploy.latency_table.segments import network_key, segments_of  # noqa: E402
from secateurs.utils.deploy.latency_table.table import LatencyTable, read_table  # noqa: E402
from secateurs.utils.deploy.runtime.interpreter import runtimes  # noqa: E402
from secateurs.utils.deploy.runtime.timing import time_interleaved  # noqa: E402
from secateurs.utils.graph import ChannelGraph, Plan, apply_plan  # noqa: E402

NETS = {
  'resnet20': lambda: cifar_resnet(20),
  'resnet56': lambda: cifar_resnet(56),
  'mobilenet_v2': mobilenet_v2,
}
LEAST = 1 / 8


def random_plan(graph: ChannelGraph, rng: np.random.Generator, widths: str) -> Plan:
  """A cut of each group that can be cut, to a random width."""
  alive = np.ones(len(graph.traced.why), bool)
  for group in graph.groups:
    if group.prunable and group.free.all():
      every = output_grid(group.size) if widths == 'table' else range(1, group.size + 1)
      kept = rng.choice([width for width in every if width >= LEAST * group.size])
      alive[group.roots] = np.arange(group.size) < kept
  return Plan(graph, alive, {})


def table_of(graph: ChannelGraph, path: Path, clock: str) -> tuple[LatencyTable, float]:
  """The table with this network in it, and the seconds that making it took now."""
  table = LatencyTable(processor.describe(), list(runtimes())[-1], 1, 'float', clock=clock)
  if path.is_file():
    table = read_table(path)
  began = time.perf_counter(), time.process_time()
  if network_key(segments_of(graph.traced.flat)) not in table.networks:
    make_table(table, graph, path, lambda line: print(line, flush=True))
  print(f'table: {time.process_time() - began[1]:.0f} s of CPU time')
  return table, time.perf_counter() - began[0]


def main() -> None:
  """Makes the table, and compares."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('net', choices=NETS)
  parser.add_argument('--table', type=Path, default=Path('latency_table.json'))
  parser.add_argument('--cuts', type=int, default=20)
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument('--widths', choices=('table', 'any'), default='table')
  parser.add_argument('--clock', choices=CLOCKS, default='wall')
  parser.add_argument('--seconds', type=float, default=4.0, help='for each cut, at most')
  options = parser.parse_args()
  graph = ChannelGraph(NETS[options.net]())
  table, seconds = table_of(graph, options.table, options.clock)
  rng, runs, predicted = np.random.default_rng(options.seed), {}, []
  scale = table.scale_of(network_key(segments_of(graph.traced.flat)))
  for number in range(options.cuts):
    plan = random_plan(graph, rng, options.widths)
    predicted.append(scale.ms(segment_sum(table, graph, plan)))
    runs[str(number)] = runner(content_of(apply_plan(plan), 'float'), 1)
  timed = time_interleaved(
    runs, nb_frames=100, seconds=options.seconds, clock=CLOCKS[options.clock]
  )
  measured = [float(np.median(one.times_ns)) / 1e6 for one in timed.values()]
  errors = np.abs(np.array(predicted) / measured - 1)
  for one, other, error, timing in zip(predicted, measured, errors, timed.values(), strict=True):
    mark = '' if timing.settled else ', not settled'
    print(
      f'predicted {one:.4f} ms, measured {other:.4f} ms (spread {100 * timing.spread:.1f} %{mark}), '
      f'error {100 * error:.1f} %'
    )
  found = {
    'net': options.net,
    'widths': options.widths,
    'clock': options.clock,
    'cuts': options.cuts,
    'median_error': round(float(np.median(errors)), 4),
    'largest_error': round(float(errors.max()), 4),
    'spearman': round(float(stats.spearmanr(predicted, measured).statistic), 4),
    'fastest_ms': round(min(measured), 4),
    'slowest_ms': round(max(measured), 4),
    'table_seconds': round(seconds, 1),
  }
  print(json.dumps(found))


if __name__ == '__main__':
  main()
