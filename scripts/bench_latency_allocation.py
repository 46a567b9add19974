"""Compares widths by a table of latencies with widths by MACs, at equal measured time, on ResNet-20.

Usage: python scripts/bench_latency_allocation.py --weights resnet20.npz --data DIR --table FILE
  [--targets 0.7,0.5] [--clock cpu]

The network (CIFAR-10, residual trunks coupled) is scanned once, as `--cp_prune_option auto` does. For
each target, widths of the least loss are chosen by the table (`--cp_latency_table`) and by MACs (no
table), and both budgets are corrected until the file takes the time asked for. Prints MACs, time as a
fraction of the original's, timed against each other, and the accuracy after the refit, before any
training, on all evaluation images. The table is that of scripts/bench_latency_tables.py resnet20.
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from secateurs.utils.quiet import quiet_tensorflow

quiet_tensorflow()

import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402
import tf_keras as keras  # noqa: E402

from secateurs.learners.channels.allocation.choices import Choices  # noqa: E402
from secateurs.learners.channels.allocation.knapsack import within_cost  # noqa: E402
from secateurs.learners.channels.allocation.sensitivity import (  # noqa: E402
  losses_of,
  say_curve,
  unit_parts,
)
from secateurs.learners.channels.allocation.solvers import by_price  # noqa: E402
from secateurs.learners.channels.cuts.cutting import (  # noqa: E402
  first_channels,
  keep_of,
  latency_form,
  plan_of,
)
from secateurs.learners.channels.cuts.units import Unit, find_units  # noqa: E402
from secateurs.learners.channels.repair.method import NB_BATCHES, Method  # noqa: E402
from secateurs.learners.channels.repair.reconstruct import prune, statistics  # noqa: E402
from secateurs.learners.channels.repair.refits import LayerRefits  # noqa: E402
from secateurs.learners.run.training import divergence  # noqa: E402
from secateurs.learners.run.training.judging import judging_samples  # noqa: E402
from secateurs.nets.datasets.source import DataConfig  # noqa: E402
from secateurs.nets.experiments import RESNET_AT_CIFAR10  # noqa: E402
from secateurs.nets.resnet import ResNetConfig  # noqa: E402
from secateurs.utils.deploy.latency_table.files import content_of, runner  # noqa: E402
from secateurs.utils.deploy.latency_table.grid import output_grid  # noqa: E402
from secateurs.utils.deploy.latency_table.measure import CLOCKS  # noqa: E402
from secateurs.utils.deploy.latency_table.table import read_table  # noqa: E402
from secateurs.utils.deploy.runtime.timing import time_interleaved  # noqa: E402
from secateurs.utils.graph import ChannelGraph, apply_plan, count, slice_model  # noqa: E402
from secateurs.utils.training.models.weight_files import read_weights  # noqa: E402
from secateurs.utils.training.models.weights import assign_weights, named_weights  # noqa: E402

BATCH, ROUNDS, TOLERANCE = 64, 6, 0.02

Counts = dict[str, int]


def ratios(models: Mapping[str, keras.Model], clock: str) -> dict[str, float]:
  """Latencies as fractions of that of the first network, timed against each other."""
  runs = {name: runner(content_of(model, 'float'), 1) for name, model in models.items()}
  timed = time_interleaved(runs, nb_frames=200, seconds=5.0, clock=CLOCKS[clock])
  medians = {name: float(np.median(one.times_ns)) for name, one in timed.items()}
  first = next(iter(medians.values()))
  return {name: one / first for name, one in medians.items()}


def at_time(
  target: float,
  widths: Callable[[float], Counts],
  model: keras.Model,
  sketch: Callable[[Counts], keras.Model],
  clock: str,
) -> Counts:
  """Widths whose file takes the time asked for: the fraction of the cost is corrected by as much."""
  fraction, tried = target, []
  for _ in range(ROUNDS):
    counts = widths(fraction)
    measured = ratios({'original': model, 'cut': sketch(counts)}, clock)['cut']
    tried.append((abs(measured / target - 1), counts))
    print(f'  fraction {fraction:.3f} of the cost: {measured:.3f} of the time', flush=True)
    if tried[-1][0] <= TOLERANCE:
      break
    fraction = min(fraction * target / measured, 1.0)
  return min(tried, key=lambda one: one[0])[1]


def accuracy(model: keras.Model, batches: tf.data.Dataset) -> float:
  """Fraction of samples of which the class is found."""
  forward = tf.function(lambda images: model(images, training=False))
  found = [forward(images).numpy().argmax(-1) == labels.numpy() for images, labels in batches]
  return float(np.concatenate(found).mean())


def sketched(graph: ChannelGraph, units: Sequence[Unit], counts: Counts) -> keras.Model:
  """A network of some widths; what its weights are does not matter."""
  return apply_plan(plan_of(graph, units, first_channels(units)(counts)))


def main() -> None:
  """Scans, chooses, measures."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--weights', required=True)
  parser.add_argument('--data', required=True)
  parser.add_argument('--table', type=Path, required=True)
  parser.add_argument('--targets', default='0.7,0.5')
  parser.add_argument('--clock', choices=CLOCKS, default='wall')
  options = parser.parse_args()
  helper = RESNET_AT_CIFAR10.make(ResNetConfig(), DataConfig(data_dir_local=options.data))

  def original() -> keras.Model:
    made = helper.build_model(0)
    assign_weights(named_weights(made), read_weights(options.weights), options.weights)
    return made

  model, working = original(), original()
  graph = ChannelGraph(model)
  units = find_units(graph, 'couple').units
  images = [b[0].numpy() for b in helper.train_batches(BATCH, 0, augment='none').take(NB_BATCHES)]
  method = Method(selection='backward', refit_all=True)
  readers = statistics(model, working, units, images, method)
  parts = unit_parts(working, units, LayerRefits(model, units, readers, method))
  samples, _ = judging_samples(helper, divergence.NB_IMAGES)
  losses = losses_of(divergence.scan(working, parts, samples, helper.task, say_curve), units)
  time_form = latency_form(read_table(options.table), graph, units)
  by_time = Choices(graph, units, cost=time_form, grid=output_grid)
  by_macs = Choices(graph, units)
  whole, prices = {unit.name: unit.size for unit in units}, by_macs.prices(losses)
  ways: dict[str, Callable[[float], Counts]] = {
    'table': lambda part: within_cost(by_time, part * by_time.cost(whole), losses),
    'MACs': lambda part: by_price(by_macs, part * by_macs.cost(whole), prices),
  }
  sketch = functools.partial(sketched, graph, units)
  cut: dict[str, keras.Model] = {'original': model}
  for target in map(float, options.targets.split(',')):
    for way, widths in ways.items():
      print(f'{target:g} of the time by the {way}')
      counts = at_time(target, widths, model, sketch, options.clock)
      working = original()
      kept, _ = prune(model, working, units, counts, images, method)
      places = {name: np.flatnonzero(mask).tolist() for name, mask in kept.items()}
      cut[f'{target:g} by {way}'] = slice_model(ChannelGraph(working), keep_of(units, places))
  times, macs = ratios(cut, options.clock), count(model).macs
  for name, network in cut.items():
    score = accuracy(network, helper.eval_batches('eval', 250))
    print(
      f'{name}: {100 * score:.2f} % before training, {times[name]:.3f} of the time, '
      f'{count(network).macs / macs:.3f} of the MACs',
      flush=True,
    )


if __name__ == '__main__':
  main()
