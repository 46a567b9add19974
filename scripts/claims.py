"""Measures what papers claim about pruning, on trained ResNets for CIFAR-10 without any training.

Usage: python scripts/claims.py CLAIM... --weights FOLDER --data DIR [--seeds 3] [--out FILE]

FOLDER holds resnet20_cifar10.npz and resnet56_cifar10.npz (weights by the networks' names), DIR is the
folder of CIFAR-10. Claims: those in CLAIMS, by name; see docs/claims.md. Each measured number is a line
of JSON: claim, what was measured, seed, value; accuracy is of the test images, in percent, before any
training; `lstm` trains on scikit-learn's digits. At the end come means over seeds with their errors.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import functools
import io
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from secateurs.utils.quiet import quiet_tensorflow

quiet_tensorflow()

import numpy as np  # noqa: E402
import tf_keras as keras  # noqa: E402
from claims_bench import NB_BN, NB_REFIT, Bench, choices_of  # noqa: E402

from secateurs.learners import get_learner  # noqa: E402
from secateurs.learners.channels.allocation import solvers  # noqa: E402
from secateurs.learners.channels.criteria.data_criteria import Samples  # noqa: E402
from secateurs.learners.channels.criteria.judged import (  # noqa: E402
  makers,
  rank_correlation,
  rank_stability,
  unit_keys,
)
from secateurs.learners.channels.criteria.ranking import best  # noqa: E402
from secateurs.learners.channels.cuts.filter_units import filter_units  # noqa: E402
from secateurs.learners.channels.cuts.units import find_units  # noqa: E402
from secateurs.learners.channels.repair.filter_repair import repair  # noqa: E402
from secateurs.learners.channels.repair.reconstruct import prune  # noqa: E402
from secateurs.learners.run.configs import RunConfig, TrainConfig  # noqa: E402
from secateurs.nets.datasets.source import DataConfig  # noqa: E402
from secateurs.nets.experiments import LSTM_AT_DIGITS  # noqa: E402
from secateurs.nets.lstm import LstmConfig  # noqa: E402
from secateurs.utils.buckets import buckets_of  # noqa: E402
from secateurs.utils.graph import ChannelGraph  # noqa: E402
from secateurs.utils.graph.choice.taps import OUTPUT  # noqa: E402
from secateurs.utils.training.engine.patterns import OneByN, Unstructured  # noqa: E402
from secateurs.utils.training.models.batch_norm import reestimate  # noqa: E402
from secateurs.utils.training.models.uniform_grids import fit_grid, rounded  # noqa: E402
from secateurs.utils.training.models.weights import kernels_by_name  # noqa: E402

Measure = Callable[[argparse.Namespace, int], dict[str, float]]
"""From the arguments and a seed to numbers by what they are of."""


def single_layer(arguments: argparse.Namespace, seed: int) -> dict[str, float]:
  """Channel pruning against filter pruning: the same channels' layer alone at 50 and 75 %, means."""
  bench = Bench(arguments, seed=seed)
  graph = ChannelGraph(bench.network())
  units = {unit.key: unit for unit in find_units(graph, 'keep').units}
  filters = [unit for unit in filter_units(graph, 'keep').units if unit.key in units]
  keys, batches = bench.keys(graph, filters, 'l1', 'best'), bench.images(NB_REFIT)
  found: dict[str, list[float]] = {}
  for gone in (0.5, 0.75):
    for one in filters:
      unit = units[one.key]
      count = {unit.name: round((1 - gone) * unit.size)}
      for selection in ('lasso', 'backward'):
        original, model = bench.network(), bench.network()
        prune(original, model, [unit], count, batches, bench.method(selection=selection))
        found.setdefault(f'{selection}, refit, {gone:.0%} gone', []).append(bench.accuracy(model))
      for title, how in (('l1 filters, refit', 'least-squares'), ('l1 filters', 'none')):
        model = bench.network()
        kept = {one.name: best(keys[one.name], count[unit.name])}
        own = ChannelGraph(model)
        mine = [other for other in filter_units(own, 'keep').units if other.key == one.key]
        repair(
          how,
          bench.network,
          model,
          own,
          mine,
          kept,
          bench.method(),
          images=lambda: batches,
          bn_images=list,
        )
        found.setdefault(f'{title}, {gone:.0%} gone', []).append(bench.accuracy(model))
  return {title: float(np.mean(values)) for title, values in found.items()}


def schemes(arguments: argparse.Namespace, seed: int) -> dict[str, float]:
  """Both schemes of channel pruning at half of the inputs, with seconds."""
  bench, found = Bench(arguments, seed=seed), {}
  for title, alternating in (('two-step', False), ('alternating', True)):
    began = time.perf_counter()
    model = bench.reconstructed(0.5, selection='lasso', alternating=alternating)
    found[f'{title}, seconds'] = time.perf_counter() - began
    found[title] = bench.accuracy(model)
  return found


def ranks(arguments: argparse.Namespace, seed: int) -> dict[str, float]:
  """How far mean ranks of feature maps depend on the images: standard deviations and correlations."""
  bench = Bench(arguments, seed=seed)
  graph = ChannelGraph(bench.network())
  units = filter_units(graph, 'keep').units
  samples = Samples(bench.batches(20), bench.helper.task.loss, OUTPUT, makers(graph, units))
  unit_keys('rank', graph, units, samples, order='best', normalization='none')
  by_layer = samples.found['rank']
  spreads = [
    row['spread_over_batches'] for row in rank_stability(by_layer)['rank_stability'].values()
  ]
  means = [by_batch.mean(axis=0).std() for by_batch in by_layer.values()]
  correlations = [rank_correlation(by_batch, 1) for by_batch in by_layer.values()]
  return {
    'spread over batches of 64, mean over channels': float(np.mean(spreads)),
    'spread over channels, mean over layers': float(np.mean(means)),
    'rank correlation, one batch against the other 19': float(
      np.mean([one for one in correlations if one is not None])
    ),
  }


def _orders(arguments: argparse.Namespace, seed: int, criterion: str) -> dict[str, float]:
  bench = Bench(arguments, seed=seed)
  graph = ChannelGraph(bench.network())
  units = filter_units(graph, 'keep').units
  found = {}
  for gone in (0.25, 0.5):
    counts = {unit.name: round((1 - gone) * unit.size) for unit in units}
    for title, name, order in (
      (criterion, criterion, 'best'),
      ('edge', criterion, 'edge'),
      ('reverse', criterion, 'reverse'),
      ('random', 'random', 'best'),
    ):
      keys = bench.keys(graph, units, name, order)
      for how in ('batch-norm', 'least-squares'):
        found[f'{title}, {how}, {gone:.0%} gone'] = bench.cut(counts, keys, how)
  return found


def rates(arguments: argparse.Namespace, seed: int) -> dict[str, float]:
  """Half of the MACs: four criteria at equal widths, and at widths that were searched."""
  bench = Bench(arguments, seed=seed)
  graph = ChannelGraph(bench.network())
  units = filter_units(graph, 'keep').units
  budget, found = 0.5 * graph.counts().macs, {}
  for criterion in ('l1', 'fpgm', 'taylor', 'random'):
    keys = bench.keys(graph, units, criterion, 'best')
    widths = {
      'equal widths': solvers.equal(choices_of(graph, units), budget),
      'searched widths': bench.divergence_widths(graph, units, keys, budget),
    }
    for title, counts in widths.items():
      found[f'{criterion}, {title}'] = bench.cut(counts, keys, 'least-squares')
  return found


def patterns(arguments: argparse.Namespace, seed: int) -> dict[str, float]:
  """Zeros in weights, kernels, 1xN blocks and filters at equal fractions, statistics renewed."""
  bench, found = Bench(arguments, seed=seed), {}
  kinds = {'weights': Unstructured(), 'kernels': OneByN(1), '1x4': OneByN(4), '1x16': OneByN(16)}
  for gone in (0.1, 0.2, 0.3, 0.5):
    for title, pattern in kinds.items():
      model = bench.network()
      for kernel in _inner(model):
        values = kernel.numpy()
        kernel.assign(values * pattern.mask(values, round((1 - gone) * values.size)))
      found[f'{title}, {gone:.0%} zero'] = _renewed(bench, model)
    model = bench.network()
    for kernel in _inner(model):
      norms = np.abs(kernel.numpy()).sum(axis=(0, 1, 2))
      kept = best(norms, round((1 - gone) * len(norms)))
      kernel.assign(kernel.numpy() * kept)
    found[f'filters, {gone:.0%} zero'] = _renewed(bench, model)
  return found


def _inner(model: keras.Model) -> list:
  return [k for n, k in kernels_by_name(model).items() if n.startswith('stage') and k.shape[0] == 3]


def _renewed(bench: Bench, model: keras.Model) -> float:
  reestimate(model, bench.images(NB_BN))
  return bench.accuracy(model)


def symmetric(arguments: argparse.Namespace, seed: int) -> dict[str, float]:
  """Weights on symmetric and on other grids of few bits, a grid for each layer or each channel."""
  bench, found = Bench(arguments, seed=seed), {}
  for bits in (8, 6, 5, 4, 3):
    for grid in (True, False):
      for kind in ('layer', 'channel'):
        model = bench.network()
        for name, kernel in kernels_by_name(model).items():
          buckets = buckets_of(f'{name}/kernel', tuple(kernel.shape), kind, 1)
          rows = buckets.rows(kernel.numpy())
          steps, zeros = fit_grid(rows, bits, grid, clip=False)
          kernel.assign(buckets.kernel(rounded(rows, steps, zeros, bits, grid)))
        title = f'{"symmetric" if grid else "asymmetric"}, by {kind}, {bits} bits'
        found[title] = bench.accuracy(model)
  return found


def sizes(arguments: argparse.Namespace, seed: int) -> dict[str, float]:
  """ResNet-20 and ResNet-56 at equal fractions of their MACs, and ResNet-56 at ResNet-20's."""
  found, macs = {}, {}
  for size in (20, 56):
    bench = Bench(arguments, size, seed)
    graph = ChannelGraph(bench.network())
    units = filter_units(graph, 'keep').units
    macs[size] = graph.counts().macs
    keys = bench.keys(graph, units, 'l1', 'best')
    found[f'resnet{size}, whole'] = bench.accuracy(bench.network())
    shares = {'0.7 of its MACs': 0.7, '0.5 of its MACs': 0.5}
    if size == 56:
      shares["ResNet-20's MACs"] = macs[20] / macs[56]
    for title, share in shares.items():
      counts = bench.divergence_widths(graph, units, keys, share * macs[size])
      found[f'resnet{size}, {title}'] = bench.cut(counts, keys, 'least-squares')
  return found


def lstm(arguments: argparse.Namespace, seed: int) -> dict[str, float]:
  """A stacked LSTM on digits, row by row: large, sparse, and small with as many epochs in all."""
  found = {}
  with tempfile.TemporaryDirectory() as folder:

    def train(name: str, units: int, learner: str, **options: object) -> dict:
      helper = LSTM_AT_DIGITS.make(LstmConfig(lstm_units=units), DataConfig())
      cls, start = get_learner(learner), options.pop('start', None)
      run = RunConfig(run_dir=f'{folder}/{name}', seed=seed, bench_frames=1, warm_start_path=start)
      training = TrainConfig(nb_epochs_rat=options.pop('share', 1.0))
      with contextlib.redirect_stdout(io.StringIO()):
        return cls(helper, cls.Config(**options), run=run, training=training).train().report

    dense = train('dense', 64, 'full-prec')
    reports = {'dense, 64 units': dense['compressed']}
    for ratio in (0.75, 0.9):
      start = f'{folder}/dense/models/model.ckpt'
      report = train(f'sparse{ratio}', 64, 'weight-sparse', start=start, prune_ratio=ratio)
      reports[f'64 units, {ratio:.0%} zeros'] = report['compressed']
    for units in (28, 32, 18):
      report = train(f'small{units}', units, 'full-prec', share=2.0)
      reports[f'dense, {units} units'] = report['compressed']
    for title, block in reports.items():
      found[f'{title}, accuracy'] = 100 * block['score']['value']
      sparse = block.get('sparse') or {}
      found[f'{title}, kB gzipped'] = (
        min(block['tflite_gzip_bytes'], sparse.get('gzip_bytes', block['tflite_gzip_bytes'])) / 1000
      )
  return found


CLAIMS: dict[str, Measure] = {
  'single-layer': single_layer,
  'schemes': schemes,
  'ranks': ranks,
  'hrank': functools.partial(_orders, criterion='rank'),
  'norms': functools.partial(_orders, criterion='l1'),
  'rates': rates,
  'patterns': patterns,
  'symmetric': symmetric,
  'sizes': sizes,
  'lstm': lstm,
}


@dataclasses.dataclass(frozen=True)
class Line:
  """One measured number."""

  claim: str
  of: str
  seed: int
  value: float


def summary(lines: Sequence[Line]) -> list[str]:
  """Rows of a table: what, mean, standard error of the mean over seeds, seeds."""
  rows = []
  for claim, of in dict.fromkeys((line.claim, line.of) for line in lines):
    values = [line.value for line in lines if (line.claim, line.of) == (claim, of)]
    error = np.std(values, ddof=1) / len(values) ** 0.5 if len(values) > 1 else float('nan')
    rows.append(f'| {claim} | {of} | {np.mean(values):.2f} | {error:.2f} | {len(values)} |')
  return rows


def main() -> None:
  """Measures the claims that were asked for."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('claims', nargs='+', choices=CLAIMS)
  parser.add_argument('--weights', required=True)
  parser.add_argument('--data', required=True)
  parser.add_argument('--seeds', type=int, default=1)
  parser.add_argument('--eval', type=int, default=10_000)
  parser.add_argument('--out', type=Path)
  arguments = parser.parse_args()
  lines = []
  for claim in arguments.claims:
    for seed in range(arguments.seeds):
      for of, value in CLAIMS[claim](arguments, seed).items():
        lines.append(Line(claim, of, seed, value))
        text = json.dumps(dataclasses.asdict(lines[-1]))
        print(text, flush=True)
        if arguments.out is not None:
          with arguments.out.open('a', encoding='utf-8') as file:
            file.write(text + '\n')
  print('\n'.join(['| claim | of | mean | standard error | seeds |', *summary(lines)]))


if __name__ == '__main__':
  main()
