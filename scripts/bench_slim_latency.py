"""Compares the latency of sliced networks: python scripts/bench_slim_latency.py [what].

  dense     networks with half of their inner channels removed, against networks built with those widths
  macs      MobileNet-v2 with fewer and fewer inner channels: latency against MACs
  rounding  MobileNet-v2 at odd widths: unrounded, and rounded up to multiples of 4 and 8

TensorFlow Lite files, one thread, interleaved runs; weights are random, as they do not change latency.
Latency is the thread's CPU time, which other load on the machine disturbs the least. Each line gives
MACs and the median latency, and their ratios to those of a base.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from secateurs.utils.quiet import quiet_tensorflow

quiet_tensorflow()

import numpy as np  # noqa: E402
import tf_keras as keras  # noqa: E402

from secateurs.learners.channels.cuts.units import find_units  # noqa: E402
from secateurs.nets.mobilenet import mobilenet_v2  # noqa: E402
from secateurs.nets.vgg import vgg16  # noqa: E402
from secateurs.utils.deploy import TFLiteModel, export_model  # noqa: E402
from secateurs.utils.graph import ChannelGraph, count, slice_model  # noqa: E402
from secateurs.utils.training.models.weights import named_weights  # noqa: E402

FRAMES = 10


def sliced(model: keras.Model, share: float, *, round_to: int = 1, skip: tuple = ()) -> keras.Model:
  """Keeps a fraction of the channels that `chn-pruned` can prune, spread evenly over each layer."""
  graph = ChannelGraph(model)
  keep = {}
  for unit in find_units(graph, 'keep', skip).units:
    nb = max(round(share * unit.size), 1)
    nb = min(-(-nb // round_to) * round_to, unit.size)
    keep[unit.key] = np.linspace(0, unit.size - 1, nb).round().astype(int)
  return slice_model(graph, keep)


def measure(models: dict[str, keras.Model], rounds: int) -> dict[str, tuple[int, list[float]]]:
  """Returns MACs and latencies (ms, the median frame of each round) of each model."""
  results: dict[str, tuple[int, list[float]]] = {}
  with tempfile.TemporaryDirectory() as folder:
    files = {}
    for number, (name, model) in enumerate(models.items()):
      exported = export_model(model, Path(folder) / str(number))
      files[name] = TFLiteModel(exported.tflite.path, 1)
      files[name].set_single(np.zeros(files[name].input_shape, np.float32))
      results[name] = (count(model).macs, [])
    for _ in range(rounds):
      for name, file in files.items():
        results[name][1].append(_median_frame(file))
  return results


def _median_frame(file: TFLiteModel) -> float:
  """Measures the CPU time of a frame in ms, after two frames of warm-up."""
  times = []
  for _ in range(FRAMES + 2):
    began = time.thread_time_ns()
    file.invoke_once()
    times.append((time.thread_time_ns() - began) / 1e6)
  return statistics.median(times[2:])


def show(results: dict[str, tuple[int, list[float]]], base: str) -> None:
  """Prints MACs and latency as ratios to a base."""
  print(f'{"":<34}{"M MACs":>9}{"ratio":>8}{"ms":>9}{"ratio":>8}{"min":>7}{"max":>7}')
  base_macs, base_ms = results[base]
  for name, (macs, ms) in results.items():
    ratios = [one / other for one, other in zip(ms, base_ms, strict=True)]
    print(
      f'{name:<34}{macs / 1e6:>9.1f}{macs / base_macs:>8.3f}{statistics.median(ms):>9.3f}'
      f'{statistics.median(ratios):>8.3f}{min(ratios):>7.3f}{max(ratios):>7.3f}'
    )


def dense(rounds: int) -> None:
  """Compares sliced networks with built ones."""
  # The first block of MobileNet-v2 does not expand, and the widths of its head and of VGG's last
  # convolution cannot be set in the builders; they are not pruned.
  skip = ('block1_project_conv', 'head_conv', 'logits')
  pairs: dict[str, tuple[Callable[[], keras.Model], Callable[[], keras.Model]]] = {
    'MobileNet-v2, 3 for 6': (
      lambda: sliced(mobilenet_v2(), 0.5, skip=skip),
      lambda: mobilenet_v2(expansion=3),
    ),
    'VGG-16 for CIFAR-10, half': (
      lambda: sliced(vgg16((32, 32, 3), 10, hidden=()), 0.5),
      lambda: vgg16((32, 32, 3), 10, hidden=(), width_mult=0.5),
    ),
  }
  for name, (cut, built) in pairs.items():
    models = {f'{name}: built': built(), f'{name}: sliced': cut()}
    shapes = [
      {n: tuple(w.shape) for n, w in named_weights(model).items()} for model in models.values()
    ]
    if shapes[0] != shapes[1]:
      differing = sorted(n for n in shapes[0] if shapes[0][n] != shapes[1].get(n))
      raise RuntimeError(f'{name}: the two networks differ in {", ".join(differing)}.')
    show(measure(models, rounds), f'{name}: built')


def macs(rounds: int) -> None:
  """Compares latency with MACs."""
  model = mobilenet_v2()
  models = {'MobileNet-v2': model}
  for share in (0.75, 0.5, 0.25):
    models[f'inner channels x {share}'] = sliced(model, share)
  show(measure(models, rounds), 'MobileNet-v2')


def rounding(rounds: int) -> None:
  """Compares odd widths with widths rounded up."""
  model = mobilenet_v2()
  for share in (0.45, 0.55, 0.7):
    names = {f'x {share}, to multiples of {r}': r for r in (1, 4, 8)}
    models = {name: sliced(model, share, round_to=r) for name, r in names.items()}
    show(measure(models, rounds), next(iter(names)))


def main() -> None:
  """Runs the chosen measurement."""
  ways = {'dense': dense, 'macs': macs, 'rounding': rounding}
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('what', nargs='?', default='dense', choices=ways)
  parser.add_argument('--rounds', type=int, default=5)
  options = parser.parse_args()
  ways[options.what](options.rounds)


if __name__ == '__main__':
  main()
