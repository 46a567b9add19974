"""Measures the input pipeline of ILSVRC-12: python scripts/bench_ilsvrc12.py DIR [what].

  speed    images/s of the pipeline against a naive one that decodes whole images and then crops
  beside   images/s of ResNet-50 training on fresh batches against training on one batch, and of the
           pipeline alone
  memory   resident memory after each of several epochs

DIR contains the shards train-*-of-*. Runs of the compared variants are interleaved. Speeds are per
second of wall time and per second of CPU time of the process, which other load on the machine disturbs
less.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from secateurs.utils.quiet import quiet_tensorflow

quiet_tensorflow()

import tensorflow as tf  # noqa: E402
import tf_keras as keras  # noqa: E402

from secateurs.nets.datasets import crops, ilsvrc12  # noqa: E402
from secateurs.nets.datasets.pixels import MEAN, STD  # noqa: E402
from secateurs.nets.resnet import imagenet_resnet  # noqa: E402
from secateurs.utils.training.engine.loop import TrainStep  # noqa: E402
from secateurs.utils.training.tasks.classification import Classification  # noqa: E402
from secateurs.utils.training.tasks.objectives import TaskObjective  # noqa: E402

SIZE, BATCH = 224, 64


def naive(folder: Path) -> tf.data.Dataset:
  """The pipeline of tutorials: decode, crop, resize, flip and normalise image by image."""

  def example(record: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    features = tf.io.parse_single_example(
      record,
      {
        ilsvrc12.IMAGE: tf.io.FixedLenFeature([], tf.string),
        ilsvrc12.LABEL: tf.io.FixedLenFeature([], tf.int64),
      },
    )
    image = tf.io.decode_jpeg(features[ilsvrc12.IMAGE], channels=3)
    begin, extent, _ = tf.image.sample_distorted_bounding_box(
      tf.shape(image),
      tf.constant([[[0.0, 0.0, 1.0, 1.0]]]),
      min_object_covered=0.0,
      aspect_ratio_range=crops.ASPECT,
      area_range=crops.AREA,
      max_attempts=10,
      use_image_if_no_bounding_boxes=True,
    )
    image = tf.image.resize(tf.slice(image, begin, extent), [SIZE, SIZE])
    image = tf.image.random_flip_left_right(tf.ensure_shape(image, [SIZE, SIZE, 3]))
    image = (image / 255.0 - tf.constant(MEAN)) / tf.constant(STD)
    return image, tf.cast(features[ilsvrc12.LABEL] - 1, tf.int32)

  files = tf.data.Dataset.list_files(str(folder / 'train-*'), seed=0)
  records = files.interleave(tf.data.TFRecordDataset, num_parallel_calls=tf.data.AUTOTUNE)
  records = records.repeat().shuffle(1024, seed=0)
  return records.map(example, num_parallel_calls=tf.data.AUTOTUNE).batch(BATCH).prefetch(2)


def timed(work: Callable[[], None]) -> tuple[float, float]:
  """Measures the wall and CPU seconds of a function."""
  wall, cpu = time.perf_counter(), time.process_time()
  work()
  return time.perf_counter() - wall, time.process_time() - cpu


def interleaved(
  contenders: dict[str, Callable[[], None]], images: int, rounds: int
) -> dict[str, list[tuple[float, float]]]:
  """Measures images per second of wall and of CPU time, of each contender in each round."""
  speeds: dict[str, list[tuple[float, float]]] = {name: [] for name in contenders}
  for number in range(rounds + 1):
    for name, work in contenders.items():
      wall, cpu = timed(work)
      if number:  # The first round traces, fills buffers and finds the degree of parallelism.
        speeds[name].append((images / wall, images / cpu))
  return speeds


def show(speeds: dict[str, list[tuple[float, float]]], base: str) -> None:
  """Prints medians, and medians of the rounds' ratios to one contender."""
  print(f'{"":<24}{"images/s":>10}{"per CPU s":>11}{"ratio":>8}{"min":>6}{"max":>6}{"CPU":>7}')
  for name, rounds in speeds.items():
    wall, cpu = (statistics.median(r[i] for r in rounds) for i in (0, 1))
    ratios = [
      [mine[i] / other[i] for mine, other in zip(rounds, speeds[base], strict=True)] for i in (0, 1)
    ]
    median = [statistics.median(r) for r in ratios]
    print(
      f'{name:<24}{wall:>10.0f}{cpu:>11.0f}{median[0]:>8.2f}{min(ratios[0]):>6.2f}'
      f'{max(ratios[0]):>6.2f}{median[1]:>7.2f}'
    )


def drain(batches: Iterator, nb_batches: int) -> None:
  """Reads batches and discards them."""
  for _ in range(nb_batches):
    next(batches)


def speed(dataset: ilsvrc12.Ilsvrc12, folder: Path, rounds: int) -> None:
  """Measures the pipeline against the naive one."""
  nb_batches = 20
  ours, other = iter(dataset.train_batches(BATCH, seed=0)), iter(naive(folder))
  contenders = {
    'naive': lambda: drain(other, nb_batches),
    'pipeline': lambda: drain(ours, nb_batches),
  }
  show(interleaved(contenders, nb_batches * BATCH, rounds), 'naive')


def beside(dataset: ilsvrc12.Ilsvrc12, rounds: int) -> None:
  """Measures training on the pipeline against training on one stored batch."""
  batch_size = 16
  model = imagenet_resnet(50)
  step = TrainStep(
    TaskObjective(model, Classification(model.output_shape[-1])),
    model.trainable_variables,
    keras.optimizers.SGD(0.0),
  )
  fresh = iter(dataset.train_batches(batch_size, seed=0))
  stored = iter(tf.data.Dataset.from_tensors(next(fresh)).repeat())
  contenders = {
    'ResNet-50, one batch': lambda: step.run(stored, 1),
    'ResNet-50, pipeline': lambda: step.run(fresh, 1),
  }
  show(interleaved(contenders, batch_size, rounds), 'ResNet-50, one batch')
  alone = iter(dataset.train_batches(batch_size, seed=1))
  speeds = interleaved({'pipeline alone': lambda: drain(alone, 80)}, 80 * batch_size, 4)
  show(speeds, 'pipeline alone')


def memory(dataset: ilsvrc12.Ilsvrc12, epochs: int) -> None:
  """Prints the resident memory after each epoch."""
  nb_samples = dataset.nb_samples('train')
  batches = iter(dataset.train_batches(BATCH, seed=0))
  for epoch in range(epochs):
    drain(batches, -(-nb_samples // BATCH))
    pages = int(Path('/proc/self/statm').read_text().split()[1])
    megabytes = pages * os.sysconf('SC_PAGE_SIZE') / 1e6
    print(f'epoch {epoch + 1}: {nb_samples} images, {megabytes:.0f} MB', flush=True)


def main() -> None:
  """Runs the chosen measurement."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('folder', type=Path)
  parser.add_argument('what', nargs='?', default='speed', choices=('speed', 'beside', 'memory'))
  parser.add_argument('--rounds', type=int, default=10)
  parser.add_argument('--epochs', type=int, default=3)
  options = parser.parse_args()
  config = ilsvrc12.Ilsvrc12Config(data_dir_local=str(options.folder), image_size=SIZE)
  dataset = ilsvrc12.load(config)
  if options.what == 'speed':
    speed(dataset, options.folder, options.rounds)
  elif options.what == 'beside':
    beside(dataset, options.rounds)
  else:
    memory(dataset, options.epochs)


if __name__ == '__main__':
  main()
