"""Measures the training engine against bare TensorFlow and Keras 3; prints ratios of interleaved runs.

Usage: python scripts/bench_training.py [--rounds 5] [--steps 60] [--skip-keras]
       python scripts/bench_training.py --pressure [--rounds 5] [--steps 60]

ResNet-20, batch 128, random 32x32 images (speed does not depend on their content). The contenders are
interleaved within each round, so that a slowdown of the machine affects all of them. The ratio of a
round compares runs that are close in time; the median of the rounds' ratios is printed.

  bare     the compiled step (forward, backward, SGD) on one fixed batch
  engine   full-prec as `Learner.fit` runs it: per-image augmentation, weight decay, summaries to
           metrics.jsonl and TensorBoard, checkpoints
  bf16     the same with --enbl_bf16
  sparse   weight-sparse: engine plus masks in every step and mask updates
  fit      Keras 3: model.fit on the engine's own batches, without summaries or checkpoints
  keras3   Keras 3: model.fit on the same work as its users usually write it: tf.image calls for each
           image, TensorBoard and ModelCheckpoint callbacks

With --pressure what learners add to a step that train under pressure, against a step without it, and
the seconds that one change of the structure of a ResNet-50 takes:

  plain    forward, backward and SGD on the engine's batches
  scales   the proximal step of L1 on the scales of batch normalisation
  norms    the proximal step of one norm for all weights that go with a channel
  masks    masks of half of the channels
  gates    a gate after the first convolution of each block
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

from secateurs.utils.quiet import quiet_tensorflow

os.environ.setdefault('KERAS_BACKEND', 'tensorflow')
quiet_tensorflow()
warnings.filterwarnings('ignore', message='`shuffle=True` was passed')

import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402
import tf_keras  # noqa: E402

from secateurs.nets.datasets.images import ImageDataset  # noqa: E402
from secateurs.nets.datasets.pixels import MEAN, STD, Augmentation  # noqa: E402
from secateurs.nets.datasets.splits import Split  # noqa: E402
from secateurs.nets.resnet import cifar_resnet  # noqa: E402
from secateurs.utils.training.engine import loop  # noqa: E402
from secateurs.utils.training.engine.events import Event  # noqa: E402
from secateurs.utils.training.engine.hooks import WeightDecay  # noqa: E402
from secateurs.utils.training.engine.masks import MaskSet  # noqa: E402
from secateurs.utils.training.engine.metrics import MetricsWriter  # noqa: E402
from secateurs.utils.training.models.checkpoints import CheckpointStore  # noqa: E402
from secateurs.utils.training.models.precision import with_policy  # noqa: E402
from secateurs.utils.training.models.weights import named_weights  # noqa: E402
from secateurs.utils.training.tasks.classification import Classification  # noqa: E402
from secateurs.utils.training.tasks.objectives import TaskObjective  # noqa: E402

BATCH = 128
SUMMARY_STEP, SAVE_STEP, MASK_STEP = 50, 200, 50
RATE, MOMENTUM, DECAY = 0.01, 0.9, 2e-4

Contender = Callable[[int], None]


def random_dataset() -> ImageDataset:
  """As many random images as CIFAR-10 has for training."""
  rng = np.random.default_rng(0)
  images = rng.integers(0, 256, (50_000, 32, 32, 3), np.uint8)
  split = Split(images, rng.integers(0, 10, 50_000).astype(np.int32))
  classes = [str(i) for i in range(10)]
  augmentation = Augmentation(pad=4, flip=True)
  return ImageDataset('random', (32, 32, 3), classes, {'train': split}, augmentation)


def bare(dataset: ImageDataset) -> Contender:
  """One compiled step on one batch, called from Python."""
  model = cifar_resnet(20)
  optimizer = tf_keras.optimizers.SGD(RATE, momentum=MOMENTUM, jit_compile=False)
  images, labels = next(iter(dataset.train_batches(BATCH, 0)))

  @tf.function
  def step(images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    with tf.GradientTape() as tape:
      logits = model(images, training=True)
      loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
    gradients = tape.gradient(loss, model.trainable_variables)
    optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))
    return loss

  def run(nb_steps: int) -> None:
    for _ in range(nb_steps):
      loss = step(images, labels)
    float(loss)

  return run


def engine(dataset: ImageDataset, folder: Path, policy: str, masked: bool) -> Contender:
  """The training loop with summaries, checkpoints and masks, as in a run."""
  model = with_policy(cifar_resnet(20), policy)
  kernels = [v for v in model.trainable_variables if 'kernel' in v.name]
  optimizer = tf_keras.optimizers.SGD(RATE, momentum=MOMENTUM, jit_compile=False)
  masks = MaskSet(kernels) if masked else None
  step = loop.TrainStep(
    TaskObjective(model, Classification(model.output_shape[-1])),
    model.trainable_variables,
    optimizer,
    penalties=[WeightDecay(DECAY, kernels)],
    constraints=[masks] if masks else [],
  )
  writer, store = MetricsWriter(folder), CheckpointStore(folder / 'model.ckpt')
  slots = {v.name: v for v in optimizer.variables}
  groups = {'model': named_weights(model), 'optimizer': slots}
  events = [
    Event(lambda done, means: writer.write('bench', done, means), every=SUMMARY_STEP),
    Event(lambda done, means: store.save(groups, {'step': done}), every=SAVE_STEP),
  ]
  if masks is not None:
    update = [0.5] * len(kernels)
    events.append(Event(lambda done, means: masks.update(update), every=MASK_STEP))
  done, batches = 0, iter(dataset.train_batches(BATCH, 0))

  def run(nb_steps: int) -> None:
    nonlocal done
    loop.run(step, batches, start=done, stop=done + nb_steps, phase='bench', events=events)
    done += nb_steps

  return run


def pressed(dataset: ImageDataset, kind: str) -> Contender:
  """The training loop with a penalty, masks or gates, and nothing else."""
  from secateurs.learners.channels.cuts.filter_units import filter_units
  from secateurs.learners.pressure.gated import GatedObjective
  from secateurs.learners.pressure.gating import Gates
  from secateurs.learners.pressure.gp_config import GpConfig
  from secateurs.learners.pressure.pressed import Pressed
  from secateurs.learners.pressure.rp_config import RpConfig
  from secateurs.learners.pressure.submodel import SubModel
  from secateurs.utils.graph import ChannelGraph

  model = cifar_resnet(20)
  graph = ChannelGraph(model)
  units = filter_units(graph, 'keep').units
  objective = TaskObjective(model, Classification(model.output_shape[-1]))
  variables, constraints = list(model.trainable_variables), []
  if kind in ('scales', 'norms'):
    penalty = {'scales': 'bn_gamma', 'norms': 'dependency'}[kind]
    pressure = Pressed(model, graph, units, RpConfig(penalty=penalty), 1000).pressure
    for strengths in pressure.strengths.values():
      strengths.assign(tf.fill(strengths.shape, 1e-4))
    constraints = pressure.constraints()
  elif kind == 'masks':
    sub = SubModel(model, graph, units)
    sub.masks.keep({unit.name: np.arange(unit.size) % 2 == 0 for unit in units})
    constraints = [sub.masks]
  elif kind == 'gates':
    gates = Gates(graph, units, GpConfig(), 0)
    network = gates.network(model, units)
    objective = GatedObjective(network, objective, gates.pulls(units), [0.5] * len(units))
    variables += gates.trainable(units)
  optimizer = tf_keras.optimizers.SGD(RATE, momentum=MOMENTUM, jit_compile=False)
  step = loop.TrainStep(objective, variables, optimizer, constraints=constraints)
  done, batches = 0, iter(dataset.train_batches(BATCH, 0))

  def run(nb_steps: int) -> None:
    nonlocal done
    loop.run(step, batches, start=done, stop=done + nb_steps, phase='bench')
    done += nb_steps

  return run


def seconds_of_a_change() -> float:
  """What one change of the structure of a ResNet-50 takes: ranking, widths, leverage, draws, masks.

  It is the second one, in which some channels have gone.
  """
  from secateurs.learners.channels.allocation.ranked import Ranked
  from secateurs.learners.channels.criteria.judged import with_fates
  from secateurs.learners.channels.cuts.filter_units import filter_units
  from secateurs.learners.channels.filter_widths import FilterWidths
  from secateurs.learners.channels.state import WidthState
  from secateurs.learners.pressure.exploring import changed
  from secateurs.learners.pressure.pr_config import PrConfig
  from secateurs.learners.pressure.submodel import SubModel
  from secateurs.nets.resnet import imagenet_resnet
  from secateurs.utils.graph import ChannelGraph

  model = imagenet_resnet(50)
  graph = ChannelGraph(model)
  sub = SubModel(model, graph, filter_units(graph, 'keep').units)
  widths = FilterWidths(PrConfig(criterion='bn_gamma', preserve_ratio=0.5), WidthState())
  present = {unit.name: np.ones(unit.size, bool) for unit in sub.units}
  for seed in range(2):
    began = time.perf_counter()
    kept = {name: np.flatnonzero(mask).tolist() for name, mask in present.items()}
    scores = sub.scores('bn_gamma', present)
    ranked = Ranked(graph, sub.units, *with_fates(graph, sub.units, scores, kept))
    counts, rng = widths.counts(ranked), np.random.default_rng(seed)
    after = changed(sub, ranked, present, counts, 0.3, rng)
    sub.change(present, after)
    present = after
  return time.perf_counter() - began


def keras3_fit(dataset: ImageDataset) -> Contender:
  """Keras 3's training loop alone."""
  model = _compiled_keras3_resnet()
  batches = dataset.train_batches(BATCH, 0)
  return lambda nb_steps: model.fit(batches, steps_per_epoch=nb_steps, verbose=0)


def keras3_usual(dataset: ImageDataset, folder: Path) -> Contender:
  """Keras 3 with the usual input pipeline and callbacks."""
  import keras

  def prepare(image: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    image = tf.image.resize_with_crop_or_pad(image, 40, 40)
    image = tf.image.random_crop(image, (32, 32, 3))
    image = tf.image.random_flip_left_right(image)
    return (tf.cast(image, tf.float32) / 255.0 - MEAN) / STD, label

  split = dataset.splits['train']
  batches = tf.data.Dataset.from_tensor_slices((split.images, split.labels))
  batches = batches.shuffle(10_000).repeat().map(prepare, num_parallel_calls=tf.data.AUTOTUNE)
  batches = batches.batch(BATCH, drop_remainder=True).prefetch(tf.data.AUTOTUNE)
  callbacks = [
    keras.callbacks.TensorBoard(str(folder), update_freq=SUMMARY_STEP, write_graph=False),
    keras.callbacks.ModelCheckpoint(str(folder / 'model.keras'), save_freq=SAVE_STEP),
  ]
  model = _compiled_keras3_resnet()
  return lambda nb_steps: model.fit(
    batches, steps_per_epoch=nb_steps, verbose=0, callbacks=callbacks
  )


def _compiled_keras3_resnet():
  import keras

  model = _keras3_resnet(keras)
  model.compile(
    keras.optimizers.SGD(RATE, momentum=MOMENTUM, weight_decay=DECAY),
    keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    metrics=['accuracy'],
  )
  return model


def _keras3_resnet(keras):  # noqa: ANN001
  """ResNet-20, layer by layer the same as `cifar_resnet`."""
  layers = keras.layers

  def conv_bn(x, width: int, kernel: int, stride: int):  # noqa: ANN001
    padding = 'same'
    if stride > 1 and kernel > 1:
      x, padding = layers.ZeroPadding2D(1)(x), 'valid'
    x = layers.Conv2D(width, kernel, stride, padding, use_bias=False)(x)
    return layers.BatchNormalization(epsilon=1e-5, momentum=0.9)(x)

  inputs = layers.Input((32, 32, 3))
  x = layers.ReLU()(conv_bn(inputs, 16, 3, 1))
  for stage, width in enumerate((16, 32, 64)):
    for block in range(3):
      stride = 2 if stage and not block else 1
      shortcut = conv_bn(x, width, 1, stride) if stride > 1 else x
      y = layers.ReLU()(conv_bn(x, width, 3, stride))
      x = layers.ReLU()(layers.Add()([conv_bn(y, width, 3, 1), shortcut]))
  logits = layers.Dense(10)(layers.GlobalAveragePooling2D()(x))
  return keras.Model(inputs, logits)


def measure(contenders: dict[str, Contender], rounds: int, nb_steps: int) -> dict[str, list[float]]:
  """Measures images/s of each contender in each round; each is compiled and warmed up first."""
  for run in contenders.values():
    run(5)
  speeds = {name: [] for name in contenders}
  for _ in range(rounds):
    for name, run in contenders.items():
      began = time.perf_counter()
      run(nb_steps)
      speeds[name].append(nb_steps * BATCH / (time.perf_counter() - began))
  return speeds


def main() -> None:
  """Runs the benchmark."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--rounds', type=int, default=5)
  parser.add_argument('--steps', type=int, default=60)
  parser.add_argument('--skip-keras', action='store_true')
  parser.add_argument('--pressure', action='store_true')
  args = parser.parse_args()
  dataset = random_dataset()
  if args.pressure:
    kinds = ('plain', 'scales', 'norms', 'masks', 'gates')
    speeds = measure({k: pressed(dataset, k) for k in kinds}, args.rounds, args.steps)
    for kind in kinds[1:]:
      ratios = [a / b for a, b in zip(speeds['plain'], speeds[kind], strict=True)]
      print(f'{kind:<8} a step takes {statistics.median(ratios):.3f} of a plain one')
    print(f'ResNet-50: one change of the structure takes {seconds_of_a_change():.2f} s')
    return
  with tempfile.TemporaryDirectory() as folder:
    paths = [Path(folder) / name for name in ('engine', 'bf16', 'sparse')]
    contenders = {
      'bare': bare(dataset),
      'engine': engine(dataset, paths[0], 'float32', masked=False),
      'sparse': engine(dataset, paths[2], 'float32', masked=True),
      'bf16': engine(dataset, paths[1], 'mixed_bfloat16', masked=False),
    }
    if not args.skip_keras:
      contenders['fit'] = keras3_fit(dataset)
      contenders['keras3'] = keras3_usual(dataset, Path(folder) / 'keras3')
    speeds = measure(contenders, args.rounds, args.steps)
  for name, values in speeds.items():
    print(
      f'{name:<8} median {statistics.median(values):6.0f} images/s   '
      f'(min {min(values):.0f}, max {max(values):.0f})'
    )
  for above, below in (
    ('engine', 'bare'),
    ('engine', 'fit'),
    ('engine', 'keras3'),
    ('bf16', 'engine'),
    ('sparse', 'engine'),
  ):
    if below in speeds:
      ratios = [a / b for a, b in zip(speeds[above], speeds[below], strict=True)]
      print(
        f'{above}/{below}: median {statistics.median(ratios):.3f}   (min {min(ratios):.3f}, max '
        f'{max(ratios):.3f}, {len(ratios)} rounds)'
      )


if __name__ == '__main__':
  main()
