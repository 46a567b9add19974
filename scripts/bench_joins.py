"""Compares how scores of several producers are joined: python scripts/bench_joins.py NET [SEED].

  resnet20      trained weights from --weights (an .npz); residual trunks have several producers
  shufflenet_v2, res2net
                small ones for 32x32 images, trained here: --epochs on --samples images of CIFAR-10, or
                with --digits on handwritten digits, a quarter as wide; splits and shuffles leave some
                channels with more producers than others

The network is cut to a fraction of its MACs by L1 norms, once for each `join` of `channel_scores`;
batch statistics are re-estimated on 2,000 training images. Prints the accuracy on the evaluation
images then, and after --tune epochs of fine-tuning (Adam, 1e-3, cosine).
"""

from __future__ import annotations

import argparse

from secateurs.utils.quiet import quiet_tensorflow

quiet_tensorflow()

import tensorflow as tf  # noqa: E402
import tf_keras as keras  # noqa: E402

from secateurs.nets.datasets import cifar10, digits  # noqa: E402
from secateurs.nets.datasets.images import ImageDataset  # noqa: E402
from secateurs.nets.datasets.source import DataConfig  # noqa: E402
from secateurs.nets.resnet import cifar_resnet  # noqa: E402
from secateurs.utils.graph import (  # noqa: E402
  ChannelGraph,
  channel_scores,
  choose_channels,
  count,
  slice_model,
)
from secateurs.utils.training.models.batch_norm import reestimate  # noqa: E402
from secateurs.utils.training.models.weight_files import read_weights  # noqa: E402
from secateurs.utils.training.models.weights import assign_weights, named_weights  # noqa: E402

L = keras.layers
BATCH = 100
JOINS = (None, 'sum', 'mean', 'relative', 'max')


def unit(x: tf.Tensor, filters: int | None, kernel: int, strides: int = 1) -> tf.Tensor:
  """Convolution (depthwise without filters), batch normalisation, and ReLU unless depthwise."""
  if filters is None:
    x = L.DepthwiseConv2D(kernel, strides, padding='same', use_bias=False)(x)
    return L.BatchNormalization(momentum=0.9)(x)
  x = L.Conv2D(filters, kernel, strides, padding='same', use_bias=False)(x)
  return L.ReLU()(L.BatchNormalization(momentum=0.9)(x))


def shuffled(x: tf.Tensor) -> tf.Tensor:
  """Channel shuffle of two groups."""
  height, width, channels = x.shape[1:]
  x = tf.reshape(x, [-1, height, width, 2, channels // 2])
  return tf.reshape(tf.transpose(x, [0, 1, 2, 4, 3]), [-1, height, width, channels])


def shufflenet_v2(thinner: int = 1) -> keras.Model:
  """ShuffleNetV2 (Ma et al. 2018) with two stages of four units, 64 and 128 channels over `thinner`."""
  image = keras.Input((32, 32, 3))
  x = unit(image, 32 // thinner, 3, 2 if thinner > 1 else 1)
  for width in (32 // thinner, 64 // thinner):
    left = unit(unit(x, None, 3, 2), width, 1)
    right = unit(unit(unit(x, width, 1), None, 3, 2), width, 1)
    x = shuffled(L.Concatenate()([left, right]))
    for _ in range(3):
      left, right = tf.split(x, 2, axis=-1)
      right = unit(unit(unit(right, width, 1), None, 3), width, 1)
      x = shuffled(L.Concatenate()([left, right]))
  x = L.GlobalAveragePooling2D()(unit(x, 128 // thinner, 1))
  return keras.Model(image, L.Dense(10)(x))


def res2net(thinner: int = 1) -> keras.Model:
  """Res2Net (Gao et al. 2019) with three stages of two bottlenecks, scale 4."""
  image = keras.Input((32, 32, 3))
  x = unit(image, 32 // thinner, 3, 2 if thinner > 1 else 1)
  for stage, width in enumerate(width // thinner for width in (32, 64, 128)):
    for block in range(2):
      strides = 2 if stage and not block else 1
      parts = tf.split(unit(x, width, 1, strides), 4, axis=-1)
      found = [parts[0]]
      for number, part in enumerate(parts[1:]):
        given = part if number == 0 else L.Add()([part, found[-1]])
        found.append(unit(given, width // 4, 3))
      y = L.Conv2D(width, 1, use_bias=False)(L.Concatenate()(found))
      y = L.BatchNormalization(momentum=0.9)(y)
      if strides > 1 or x.shape[-1] != width:
        x = L.Conv2D(width, 1, strides, use_bias=False)(x)
        x = L.BatchNormalization(momentum=0.9)(x)
      x = L.ReLU()(L.Add()([x, y]))
  return keras.Model(image, L.Dense(10)(L.GlobalAveragePooling2D()(x)))


def train(model: keras.Model, data: ImageDataset, epochs: float, rate: float, seed: int) -> None:
  """Trains with Adam and a cosine schedule."""
  steps = int(epochs * data.nb_samples('train') / BATCH)
  if not steps:
    return
  model.compile(
    keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(rate, steps)),
    keras.losses.SparseCategoricalCrossentropy(from_logits=True),
  )
  model.fit(data.train_batches(BATCH, seed).take(steps), verbose=0)


def accuracy(model: keras.Model, data: ImageDataset) -> float:
  """Share of evaluation images that are classified rightly, in percent."""
  right = total = 0
  for images, labels in data.eval_batches('eval', 500):
    found = tf.argmax(model(images, training=False), -1)
    right += int(tf.reduce_sum(tf.cast(found == tf.cast(labels, found.dtype), tf.int32)))
    total += len(labels)
  return 100 * right / total


def main() -> None:
  """Prints one line for each fraction of the MACs and join."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('net', choices=('resnet20', 'shufflenet_v2', 'res2net'))
  parser.add_argument('seed', type=int, nargs='?', default=0)
  parser.add_argument('--data', help='folder of CIFAR-10')
  parser.add_argument('--digits', action='store_true', help='handwritten digits instead')
  parser.add_argument('--weights', help='trained weights of ResNet-20')
  parser.add_argument('--samples', type=int, default=10_000)
  parser.add_argument('--epochs', type=float, default=12)
  parser.add_argument('--tune', type=float, default=1)
  parser.add_argument('--macs', type=float, nargs='+', default=[0.7, 0.5])
  args = parser.parse_args()
  keras.utils.set_random_seed(args.seed)
  if args.digits:
    data = digits.load(DataConfig())
  else:
    data = cifar10.load(DataConfig(data_dir_local=args.data, nb_smpls_train=args.samples))
  if args.net == 'resnet20':
    model = cifar_resnet(20)
    assign_weights(named_weights(model), read_weights(args.weights), args.weights)
  else:
    model = {'shufflenet_v2': shufflenet_v2, 'res2net': res2net}[args.net](4 if args.digits else 1)
    train(model, data, args.epochs, 3e-3, args.seed)
  whole = count(model).macs
  print(
    f'{args.net} seed {args.seed}: {whole / 1e6:.1f} M MACs, {accuracy(model, data):.2f} %',
    flush=True,
  )
  graph = ChannelGraph(model)
  images = data.calibration_images(min(2000, data.nb_samples('train')))
  batches = [images[i : i + BATCH] for i in range(0, len(images), BATCH)]
  for share in args.macs:
    seen: dict[str, str] = {}
    for join in JOINS:
      keep = choose_channels(graph, channel_scores(graph, 'l1', join), macs=share)
      key = str({index: kept.tolist() for index, kept in keep.items()})
      if key in seen:
        print(f'  {share:.0%} of MACs, join {join}: as {seen[key]}', flush=True)
        continue
      seen[key] = str(join)
      small = slice_model(graph, keep)
      reestimate(small, batches)
      before = accuracy(small, data)
      train(small, data, args.tune, 1e-3, args.seed)
      line = f'  {share:.0%} of MACs, join {join}: {before:.2f} %'
      print(f'{line}, tuned {accuracy(small, data):.2f} %', flush=True)


if __name__ == '__main__':
  main()
