"""Where a training step's time goes: by kind of operation, and as a fraction of the peak of products.

Usage: python scripts/bench_step.py [--batch 128] [--rounds 5] [--steps 4]

ResNet-20 on random 32x32 images, one thread. It prints the step's arithmetic as a fraction of what one
large matrix product reaches, and milliseconds by kind of operation. It also times, interleaved, a step
with the fused batch normalisation against one with the products that are used on processors without
AVX-512 (`utils.training.models.norm_kernels`). ONEDNN_MAX_CPU_ISA=AVX2 has oneDNN work as on such a
processor.
Times are the process's own, so that other work on the machine matters little.
"""

from __future__ import annotations

import argparse
import collections
import functools
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from secateurs.utils.quiet import quiet_tensorflow

quiet_tensorflow()

import tensorflow as tf  # noqa: E402
import tf_keras  # noqa: E402

from secateurs.nets.resnet import cifar_resnet  # noqa: E402
from secateurs.utils import processor  # noqa: E402
from secateurs.utils.graph import count  # noqa: E402
from secateurs.utils.training.engine import loop  # noqa: E402
from secateurs.utils.training.tasks.classification import Classification  # noqa: E402
from secateurs.utils.training.tasks.objectives import TaskObjective  # noqa: E402

_SIDE = 1024  # Of the matrices whose product is the peak.
_WHOLE = ('While', 'StatelessWhile', 'PartitionedCall', 'StatefulPartitionedCall')  # Hold others.


def stepper(batch: int, by_products: bool) -> tuple[Callable[[int], None], int]:
  """A function that makes steps, and the multiply-adds of one image."""
  model = cifar_resnet(20)
  images = tf.random.stateless_normal((batch, 32, 32, 3), (0, 0))
  labels = tf.zeros((batch,), tf.int32)
  batches = iter(tf.data.Dataset.from_tensors((images, labels)).repeat())
  optimizer = tf_keras.optimizers.SGD(0.01, momentum=0.9, jit_compile=False)
  objective = TaskObjective(model, Classification(10))
  step = loop.TrainStep(objective, model.trainable_variables, optimizer)
  chosen = processor.normalises_slowly
  processor.normalises_slowly = lambda: by_products
  step.run(batches, 2)  # Traced while that holds.
  processor.normalises_slowly = chosen
  return functools.partial(step.run, batches), count(model).macs


def seconds(run: Callable[[], object]) -> float:
  """What a call takes of the processor."""
  began = time.process_time()
  run()
  return time.process_time() - began


def peak_product(rounds: int) -> float:
  """Multiply-adds a second of one large matrix product."""
  a, b = (tf.random.stateless_normal((_SIDE, _SIDE), (i, 1)) for i in range(2))
  product = tf.function(tf.matmul)
  product(a, b)
  return _SIDE**3 / statistics.median(seconds(lambda: product(a, b).numpy()) for _ in range(rounds))


def by_kind(run: Callable[[int], None], nb_steps: int) -> collections.Counter:
  """Milliseconds of one step by kind of operation, from TensorFlow's profiler."""
  from tensorflow.tsl.profiler.protobuf import xplane_pb2

  space = xplane_pb2.XSpace()
  with tempfile.TemporaryDirectory() as folder:
    with tf.profiler.experimental.Profile(folder):
      run(nb_steps)
    for path in Path(folder).rglob('*.xplane.pb'):
      space.ParseFromString(path.read_bytes())
  found = collections.Counter()
  for plane in (plane for plane in space.planes if 'CPU' in plane.name):
    for event in (event for line in plane.lines for event in line.events):
      name, _, kind = plane.event_metadata[event.metadata_id].name.rpartition(':')
      if '/' in name and kind not in _WHOLE:
        found[kind] += event.duration_ps / 1e9 / nb_steps
  return found


def main() -> None:
  """Runs the benchmark."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--batch', type=int, default=128)
  parser.add_argument('--rounds', type=int, default=5)
  parser.add_argument('--steps', type=int, default=4)
  args = parser.parse_args()
  tf.config.threading.set_intra_op_parallelism_threads(1)
  tf.config.threading.set_inter_op_parallelism_threads(1)
  print(processor.describe(), '- products are used' if processor.normalises_slowly() else '')
  fused, macs = stepper(args.batch, by_products=False)
  products, _ = stepper(args.batch, by_products=True)
  took = {'fused': [], 'products': []}
  peak = []
  for _ in range(args.rounds):
    peak.append(peak_product(3))
    for name, run in (('fused', fused), ('products', products)):
      took[name].append(seconds(functools.partial(run, args.steps)) / args.steps)
  for name, values in took.items():
    shares = [3 * macs * args.batch / v / p for v, p in zip(values, peak, strict=True)]
    print(
      f'{name:<8} {args.batch / statistics.median(values):6.0f} images/s, arithmetic '
      f'{statistics.median(shares):.2f} of {statistics.median(peak) / 1e9:.0f} G multiply-adds/s'
    )
  ratios = [a / b for a, b in zip(took['fused'], took['products'], strict=True)]
  print(
    f'fused/products: median {statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f})'
  )
  for name, run in (('fused', fused), ('products', products)):
    kinds = by_kind(run, args.steps)
    total = sum(kinds.values())
    print(f'{name}, by kind of operation:')
    for kind, spent in kinds.most_common(12):
      print(f'  {kind:<36} {spent:8.1f} ms {100 * spent / total:5.1f} %')


if __name__ == '__main__':
  main()
