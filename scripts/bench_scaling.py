"""Scaling from one process to two: images per second of one compiled training loop.

  horovodrun --gloo -np 2 -H localhost:2 python scripts/bench_scaling.py [--rounds N] [--steps N]

Four variants are interleaved inside one job, window by window, so that other load on the machine
affects all of them: rank 0 alone on one core; all ranks without exchange (the limit of the machine);
all ranks with gradients packed into one tensor (this project); all ranks with one tensor per gradient
(as Horovod's DistributedGradientTape does). Efficiency is the throughput of all ranks divided by that
of one rank times their number; the median over the rounds is printed. `best` compares the fastest
windows of each variant, which were disturbed the least; `cpu` is the median from processor time instead
of wall time, without the time that ranks wait for each other.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time

import numpy as np

from secateurs.utils.quiet import quiet_tensorflow

quiet_tensorflow()

import tensorflow as tf  # noqa: E402
import tf_keras as keras  # noqa: E402

from secateurs.learners.channels.blocks.discrimination import BlockObjective, find_blocks  # noqa: E402
from secateurs.nets.resnet import cifar_resnet  # noqa: E402
from secateurs.utils.graph.flat.walk import flatten_model  # noqa: E402
from secateurs.utils.training import distributed  # noqa: E402
from secateurs.utils.training.engine.hooks import WeightDecay  # noqa: E402
from secateurs.utils.training.engine.loop import TrainStep  # noqa: E402
from secateurs.utils.training.tasks.classification import Classification  # noqa: E402
from secateurs.utils.training.tasks.heads import make_head  # noqa: E402
from secateurs.utils.training.tasks.objectives import TaskObjective  # noqa: E402

BATCH = 128


def main() -> None:
  """Prints the table."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--rounds', type=int, default=9)
  parser.add_argument('--steps', type=int, default=6, help='steps of a window')
  args = parser.parse_args()
  distributed.start()
  rank, size = distributed.shard()
  cores = sorted(os.sched_getaffinity(0))
  os.sched_setaffinity(0, {cores[rank % len(cores)]})
  rng = np.random.RandomState(rank)
  images = rng.randn(BATCH, 32, 32, 3).astype(np.float32)
  labels = rng.randint(0, 10, BATCH).astype(np.int32)
  batches = tf.data.Dataset.from_tensors((images, labels)).repeat()
  for title, make in (('full-prec', full_precision), ('dis-chn-pruned, block phase', block_phase)):
    figures = measure(make, batches, args.rounds, args.steps)
    if rank == 0:
      show(title, figures, size)
  distributed.stop()


def full_precision() -> tuple:
  """Returns objective and variables of plain training."""
  model = cifar_resnet(20)
  return TaskObjective(model, Classification(model.output_shape[-1])), model.trainable_variables


def block_phase() -> tuple:
  """Objective and variables of training with an auxiliary loss in the middle (L_p + L)."""
  from secateurs.learners.channels.cuts.units import find_units
  from secateurs.utils.graph import ChannelGraph

  model = cifar_resnet(20)
  flat = flatten_model(model)
  block = find_blocks(flat, 3, find_units(ChannelGraph(model), 'couple', ()).units)[1]
  branch = make_head(flat.shapes[block.tensor], (10,), 'branch', 0)
  variables = [*model.trainable_variables, *branch.trainable_variables]
  objective = TaskObjective(model, Classification(10))
  return BlockObjective(flat, block, branch, objective), variables


def measure(make, batches: tf.data.Dataset, nb_rounds: int, nb_steps: int) -> dict:  # noqa: ANN001
  """Measures (wall, processor) seconds of a step on rank 0, by variant and round."""
  ways = {way: _step(make) for way in ('alone', 'no exchange', 'packed')}
  ways['one by one'] = _step(make, one_by_one=True)
  found: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
  for turn in range(nb_rounds + 1):
    for way, step in ways.items():
      distributed.barrier()
      if way == 'alone' and not distributed.is_chief():
        continue
      seconds = _window(step, batches, nb_steps, way)
      if turn:  # The first round compiles.
        found[way].append(seconds)
  return found


def _step(make, one_by_one: bool = False) -> TrainStep:  # noqa: ANN001
  objective, variables = make()
  optimizer = keras.optimizers.SGD(0.01, momentum=0.9, jit_compile=False)
  step = TrainStep(objective, variables, optimizer, penalties=[WeightDecay(2e-4, variables)])
  if one_by_one:
    step._averaged = _each_by_itself
  return step


def _each_by_itself(gradients: list, values: dict) -> tuple:
  """Replaces the packed exchange by one operation for each gradient."""
  import horovod.tensorflow as hvd

  return [hvd.allreduce(g, op=hvd.Average) for g in gradients], values


def _window(
  step: TrainStep, batches: tf.data.Dataset, nb_steps: int, way: str
) -> tuple[float, float]:
  iterator = iter(batches)
  wall, processor = time.perf_counter(), time.process_time()
  if way in ('alone', 'no exchange'):
    with distributed.alone():
      step.run(iterator, nb_steps)
  else:
    step.run(iterator, nb_steps)
  return (time.perf_counter() - wall) / nb_steps, (time.process_time() - processor) / nb_steps


def show(title: str, figures: dict, size: int) -> None:
  """Prints images/s and efficiency of one kind of training."""
  print(f'{title}, ResNet-20, batch {BATCH} a rank')
  print(f'{"":<24}{"ranks":>6}{"images/s":>10}{"efficiency":>12}{"range":>14}{"best":>7}{"cpu":>7}')
  alone = figures['alone']
  for way, found in figures.items():
    ranks = 1 if way == 'alone' else size
    speed = statistics.median(BATCH * ranks / wall for wall, _ in found)
    shares = sorted(a / b for (a, _), (b, _) in zip(alone, found, strict=True))
    cpu = statistics.median(a / b for (_, a), (_, b) in zip(alone, found, strict=True))
    best = min(wall for wall, _ in alone) / min(wall for wall, _ in found)
    spread = f'{shares[0]:.2f}..{shares[-1]:.2f}'
    print(
      f'{way:<24}{ranks:>6}{speed:>10.0f}{statistics.median(shares):>12.3f}{spread:>14}'
      f'{best:>7.3f}{cpu:>7.3f}',
      flush=True,
    )


if __name__ == '__main__':
  main()
