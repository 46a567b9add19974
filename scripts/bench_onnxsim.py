"""Half of the multiply-adds without training: onnxsim's removal of channels beside this project's.

Usage: python scripts/bench_onnxsim.py --weights FOLDER --data DIR [--size 20] [--macs 0.5]

FOLDER holds resnet20_cifar10.npz (weights by the network's names), DIR is the folder of CIFAR-10.
Needs `pip install -e '.[onnx]' onnxsim==0.8.1`, which nothing else of the project uses. onnxsim
removes the filters of the smallest norms, and then fits what is left to the original's activations
on training images. Its fraction is searched for until the file has at most that many multiply-adds;
filters are then cut here to no more of them. Each row: multiply-adds as a fraction of the whole,
accuracy on the test images in percent, seconds.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from secateurs.utils.quiet import quiet_tensorflow

quiet_tensorflow()

import numpy as np  # noqa: E402
import onnx  # noqa: E402
import onnxsim  # noqa: E402
from claims_bench import Bench, choices_of  # noqa: E402

from secateurs.learners.channels.allocation import solvers  # noqa: E402
from secateurs.learners.channels.cuts.filter_units import filter_units  # noqa: E402
from secateurs.utils.deploy.files.other_files import onnx_function  # noqa: E402
from secateurs.utils.graph import ChannelGraph  # noqa: E402
from secateurs.utils.keras3 import to_keras3  # noqa: E402
from secateurs.utils.training.tasks.evaluation import evaluate_function  # noqa: E402

_BATCH, _NB_FIT, _NB_HALVINGS = 100, 10, 12


def onnx_macs(model: onnx.ModelProto) -> int:
  """Multiply-adds of one image in convolutions and dense layers."""
  whole = onnx.shape_inference.infer_shapes(model)
  shapes = {one.name: tuple(one.dims) for one in whole.graph.initializer}
  sides = {
    one.name: [side.dim_value for side in one.type.tensor_type.shape.dim]
    for one in (*whole.graph.value_info, *whole.graph.output)
  }
  total = 0
  for node in whole.graph.node:
    if node.op_type == 'Conv':
      positions = int(np.prod(sides[node.output[0]][2:]))
      total += positions * int(np.prod(shapes[node.input[1]]))
    elif node.op_type in ('Gemm', 'MatMul') and node.input[1] in shapes:
      total += int(np.prod(shapes[node.input[1]]))
  return total


def as_onnx(bench: Bench, folder: Path) -> onnx.ModelProto:
  """The trained network as an ONNX model, simplified."""
  path = folder / 'original.onnx'
  to_keras3(bench.network()).export(str(path), format='onnx', verbose=False)
  return onnxsim.simplify(onnx.load(str(path)))[0]


def accuracy(bench: Bench, model: onnx.ModelProto, folder: Path) -> float:
  """On the test images, in percent, by onnxruntime."""
  path = folder / 'judged.onnx'
  onnx.save(model, str(path))
  run = onnx_function(path)
  batches = bench.helper.eval_batches('eval', _BATCH)
  judged = evaluate_function(lambda images: run(np.asarray(images)), batches, bench.helper.task)
  return 100 * judged.score.value


def at_most(
  cut: Callable[[float], onnx.ModelProto], budget: float
) -> tuple[float, onnx.ModelProto]:
  """The smallest fraction that keeps to a budget of multiply-adds, by bisection, and its model."""
  low, high = 0.0, 0.9
  best = cut(high)
  if onnx_macs(best) > budget:
    raise SystemExit(f'onnxsim leaves {onnx_macs(best)} multiply-adds, above {budget:.0f}.')
  for _ in range(_NB_HALVINGS):
    middle = (low + high) / 2
    found = cut(middle)
    if onnx_macs(found) > budget:
      low = middle
    else:
      high, best = middle, found
  return high, best


def main() -> None:
  """Prints the rows."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--weights', required=True)
  parser.add_argument('--data', required=True)
  parser.add_argument('--size', type=int, default=20)
  parser.add_argument('--macs', type=float, default=0.5)
  parser.add_argument('--eval', type=int, default=10_000)
  arguments = parser.parse_args()
  bench = Bench(arguments, arguments.size)

  def show(what: str, macs: float, percent: float, seconds: float) -> None:
    print(f'{what:44} {macs:.3f}x  {percent:6.2f} %  {seconds:6.1f} s', flush=True)

  with tempfile.TemporaryDirectory() as name:
    folder = Path(name)
    original = as_onnx(bench, folder)
    whole = onnx_macs(original)
    show('original', 1.0, accuracy(bench, original, folder), 0.0)
    images = [{original.graph.input[0].name: batch} for batch in bench.images(_NB_FIT)]
    reached = []
    for everywhere in (False, True):
      title = f'onnxsim {onnxsim.__version__}, {"one ranking" if everywhere else "equal fractions"}'
      began = time.perf_counter()
      _, model = at_most(
        lambda fraction, everywhere=everywhere: onnxsim.apply_structured_pruning(
          original, fraction, global_sparsity=everywhere
        ),
        arguments.macs * whole,
      )
      macs = onnx_macs(model)
      reached.append(macs / whole)
      seconds = time.perf_counter() - began
      show(title, macs / whole, accuracy(bench, model, folder), seconds)
      began = time.perf_counter()
      fitted = onnxsim.apply_pruning_finetune(original, model, images)
      seconds += time.perf_counter() - began
      show(f'{title}, fitted', macs / whole, accuracy(bench, fitted, folder), seconds)

  graph = ChannelGraph(bench.network())
  units = filter_units(graph, 'keep').units
  began = time.perf_counter()
  keys = bench.keys(graph, units, 'l1', 'best')
  budget = min(reached) * graph.counts().macs
  for title, how in (
    ('smallest L1 norms, equal fractions', 'none'),
    ('smallest L1 norms, equal fractions, refit', 'least-squares'),
    ('smallest L1 norms, measured widths, refit', 'least-squares'),
  ):
    if 'measured' in title:
      counts = bench.divergence_widths(graph, units, keys, budget)
    else:
      counts = solvers.equal(choices_of(graph, units), budget)
    percent = bench.cut(counts, keys, how)
    share = choices_of(graph, units).cost(counts) / graph.counts().macs
    show(f'secateurs, {title}', share, percent, time.perf_counter() - began)
    began = time.perf_counter()


if __name__ == '__main__':
  main()
