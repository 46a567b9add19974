"""ILSVRC-12 (ImageNet's 1,000 classes) from TFRecord shards, streamed."""

from __future__ import annotations

import dataclasses
import functools
import io
from pathlib import Path

import numpy as np
import tensorflow as tf

from secateurs.nets.datasets.crops import central_crop, random_crop
from secateurs.nets.datasets.images import pipeline_options
from secateurs.nets.datasets.locate import data_folder
from secateurs.nets.datasets.pixels import PREPROCESSINGS, normalize
from secateurs.nets.datasets.record_index import find_shards, index_shards
from secateurs.nets.datasets.record_order import Chunks, chunks_of, split_off
from secateurs.nets.datasets.record_stream import Decode, Faults, RecordStream
from secateurs.nets.datasets.source import DataConfig, Shard
from secateurs.nets.datasets.splits import check_counts, nb_held_out
from secateurs.utils.config import option
from secateurs.utils.errors import UserError

NB_CLASSES = 1000
IMAGE, LABEL = 'image/encoded', 'image/class/label'
_HOLD_OUT_SEED = 2018
_FEATURES = {
  IMAGE: tf.io.FixedLenFeature([], tf.string),
  LABEL: tf.io.FixedLenFeature([], tf.int64),
}


@dataclasses.dataclass(frozen=True)
class Ilsvrc12Config(DataConfig):
  """ILSVRC-12: folder and image size."""

  image_size: int = option(224, 'Height and width of the images, in pixels.', low=8)
  preprocess: str = option(
    'torch',
    'Normalisation of pixels that the weights need: torch ((x / 255 - mean) / std), tf (x / 127.5 - 1) '
    'or caffe (BGR, mean subtracted).',
    choices=PREPROCESSINGS,
  )
  nb_corrupt_max: int = option(
    100,
    'Maximum number of damaged records that are skipped; with more the run stops.',
    low=0,
    affects_result=False,
  )


def load(config: Ilsvrc12Config) -> Ilsvrc12:
  """Finds and indexes the shards train-*-of-* and validation-*-of-*; reads no image.

  Records have the features image/encoded (JPEG) and image/class/label (1 to 1000). Validation images
  are held out from the training shards, the same ones in every run.

  Raises:
    UserError: no folder is named, shards are missing, or there are fewer images than requested.
  """
  named = data_folder('ilsvrc12', config.data_dir_local)
  if named is None:
    raise UserError(
      'No folder of ILSVRC-12 was named: give --data_dir_local DIR with TFRecord shards '
      'train-*-of-* and validation-*-of-*. scripts/build_ilsvrc12.py makes them from images.'
    )
  return Ilsvrc12(config, _records_folder(named[0]))


def _records_folder(root: Path) -> Path:
  """Returns the folder itself, or the usual sub-folder that holds the shards."""
  for folder in (root, root / 'ilsvrc12', root / 'tfrecords'):
    if folder.is_dir() and any(folder.glob('train-*-of-*')):
      return folder
  return root


class Ilsvrc12:
  """Three splits of images as batches of (float32 [n, size, size, 3], int32 [n]).

  Training images are random crops, all others central crops. The order of samples and all random
  choices depend only on seed, shard and step; memory use does not depend on the number of images.
  With several processes, each reads its own chunks of records: their batches are disjoint, but differ
  from those of a single process.

  Attributes:
    name: `ilsvrc12`.
    image_shape: (height, width, channels).
    nb_classes: number of labels.
    augments: True.
  """

  name, augments = 'ilsvrc12', True
  nb_classes = NB_CLASSES

  def __init__(self, config: Ilsvrc12Config, folder: Path) -> None:
    self.image_shape = (config.image_size, config.image_size, 3)
    self._preprocess = config.preprocess
    self._faults = Faults(config.nb_corrupt_max)
    self._chunks = _splits(config, folder, self._faults)

  def nb_samples(self, split: str) -> int:
    """Number of samples of a split."""
    return self._chunks[split].nb_records

  def notes(self) -> list[str]:
    """Lists the records skipped so far, if any."""
    return self._faults.notes()

  def train_batches(
    self,
    batch_size: int,
    seed: int,
    start: int = 0,
    *,
    augment: str = 'all',
    shard: Shard = (0, 1),
  ) -> tf.data.Dataset:
    """Endless training batches from step `start` on; depends only on seed, shard and step."""
    decode = {
      'all': functools.partial(self._train_example, seed, shard),
      'mirror': functools.partial(self._mirrored_example, seed, shard),
      'none': self._eval_example,
    }[augment]
    stream = self._stream('train', decode, seed, shard)
    return _batched(stream.endless(start * batch_size), batch_size, drop_remainder=True)

  def eval_batches(self, split: str, batch_size: int, *, shard: Shard = (0, 1)) -> tf.data.Dataset:
    """Every sample of a split exactly once, in order; the last batch may be smaller."""
    stream = self._stream(split, self._eval_example, None, shard)
    return _batched(stream.once(), batch_size, drop_remainder=False)

  def calibration_images(self, nb_images: int) -> np.ndarray:
    """The first training images, cropped centrally, float32 [nb_images or fewer, h, w, c]."""
    batches = self.eval_batches('train', nb_images).take(1)
    return next(iter(batches))[0].numpy()

  def _stream(self, split: str, decode: Decode, seed: int | None, shard: Shard) -> RecordStream:
    chunks = self._chunks[split].shard(*shard)
    if not len(chunks):
      raise UserError(
        f'{self.nb_samples(split)} images of split {split} are too few for {shard[1]} processes: '
        'use fewer processes (-n).'
      )
    return RecordStream(chunks, seed, decode, explain, self._faults)

  def _train_example(
    self, seed: int, shard: Shard, record: tf.Tensor, position: tf.Tensor
  ) -> tuple[tf.Tensor, tf.Tensor]:
    data, label = _example(record)
    seeds = _seeds(seed, shard, position)
    # Normalised here, while the image is still in the CPU cache.
    return normalize(random_crop(data, self.image_shape[0], seeds), self._preprocess), label

  def _mirrored_example(
    self, seed: int, shard: Shard, record: tf.Tensor, position: tf.Tensor
  ) -> tuple[tf.Tensor, tf.Tensor]:
    image, label = self._eval_example(record, position)
    return tf.image.stateless_random_flip_left_right(image, _seeds(seed, shard, position)), label

  def _eval_example(self, record: tf.Tensor, position: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    del position
    data, label = _example(record)
    return normalize(central_crop(data, self.image_shape[0]), self._preprocess), label


def _seeds(seed: int, shard: Shard, position: tf.Tensor) -> tf.Tensor:
  """Two seeds for a position, for the crop and the mirror; different in every process."""
  index, count = shard
  return tf.stack([tf.constant(seed, tf.int64), 2 * (position * count + index)])


def _batched(samples: tf.data.Dataset, batch_size: int, *, drop_remainder: bool) -> tf.data.Dataset:
  batches = samples.batch(batch_size, drop_remainder=drop_remainder)
  return batches.prefetch(2).with_options(pipeline_options())


def _splits(config: Ilsvrc12Config, folder: Path, faults: Faults) -> dict[str, Chunks]:
  """Chunks of training, validation (from the training shards) and evaluation."""
  shards = {
    split: index_shards(find_shards(folder, name))
    for split, name in (('train', 'train'), ('eval', 'validation'))
  }
  for group in shards.values():
    for shard in group:
      if not shard.complete:
        faults.add(shard.path, len(shard.lengths), 'the file is truncated or damaged there')
  train, evaluation = chunks_of(shards['train']), chunks_of(shards['eval'])
  nb_train, nb_eval = check_counts(train.nb_records, evaluation.nb_records, config)
  # Whole chunks, so that reads stay long; the choice is the same in every run.
  order = np.random.RandomState(_HOLD_OUT_SEED).permutation(len(train))
  held_out = nb_held_out(train.nb_records, config.nb_smpls_val)
  validation, rest = split_off(train.take(order[::-1]), held_out, shards['train'])
  rest = rest.take(np.arange(len(rest))[::-1])
  return {
    'train': split_off(rest, nb_train, shards['train'])[0],
    'val': validation,
    'eval': split_off(evaluation, nb_eval, shards['eval'])[0],
  }


def _example(record: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
  """Returns JPEG data and the label, from zero; fails for an invalid label."""
  features = tf.io.parse_single_example(record, _FEATURES)
  labels = tf.range(NB_CLASSES)  # On the CPU, gather fails for an index out of range.
  return features[IMAGE], tf.gather(labels, features[LABEL] - 1)


def explain(record: bytes) -> str:
  """Returns the reason why a record cannot be used."""
  from PIL import Image

  try:
    example = tf.train.Example.FromString(record).features.feature
  except Exception:  # The exception type of protocol buffers differs between versions.
    return 'it is not a tf.train.Example'
  label, data = list(example[LABEL].int64_list.value), list(example[IMAGE].bytes_list.value)
  if len(data) != 1:
    return f'{IMAGE} is missing'
  if len(label) != 1 or not 1 <= label[0] <= NB_CLASSES:
    found = label[0] if label else 'missing'
    return f'{LABEL} is {found}, but 1 to {NB_CLASSES} was expected'
  try:
    image = Image.open(io.BytesIO(data[0]))
    if image.format != 'JPEG':
      return f'its image is {image.format}, but JPEG was expected'
    image.load()
  except Exception as error:  # PIL raises any exception of the format's decoder.
    return f'its image cannot be decoded: {error}'
  return 'its image cannot be decoded by libjpeg'
