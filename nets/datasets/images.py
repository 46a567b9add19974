"""Common parts of all image data sets: splits, order of samples, augmentation, batches.

The order of samples and all random choices of the augmentation depend only on a seed and the step. A
run that resumes at step t therefore reads the same samples as an uninterrupted one, and no iterator
state is saved.

With K processes, the batch of a step is that of one process with K times the batch size, cut into K
equal parts; so are its random choices. `shard` = (index, count) selects the part of a process.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import tensorflow as tf

from secateurs.nets.datasets.file_names import FileNames, PathTable
from secateurs.utils.config import Config, option
from secateurs.utils.errors import UserError

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
PREPROCESSINGS = ('torch', 'tf', 'caffe', '0..1', 'none')
_CAFFE_MEAN = (103.939, 116.779, 123.68)  # BGR
_HOLD_OUT_SEED = 2018  # One fixed choice, so that every run has the same samples in its splits.
_MOST_HELD_OUT = 10_000
_SHUFFLE_STREAM, _CROP_STREAM, _FLIP_STREAM = 0, 1, 2


# The part of the data that a process reads: (index, number of processes).
Shard = tuple[int, int]

# Augmentation of training images: everything that is usual for the data set, mirroring only, nothing.
AUGMENTATIONS = ('all', 'mirror', 'none')


class ImageSource(Protocol):
  """Interface of data sets: labelled images in three splits for training and evaluation."""

  name: str
  image_shape: tuple[int, int, int]
  nb_classes: int
  augments: bool  # Whether the data set applies the augmentation itself.

  def nb_samples(self, split: str) -> int:
    """Number of samples of split `train`, `val` or `eval`."""

  def notes(self) -> list[str]:
    """Remarks about the data for the report."""

  def train_batches(
    self,
    batch_size: int,
    seed: int,
    start: int = 0,
    *,
    augment: str = 'all',
    shard: Shard = (0, 1),
  ) -> tf.data.Dataset:
    """Endless batches from step `start` on; depends only on seed, step and shard.

    `augment` is one of AUGMENTATIONS.
    """

  def eval_batches(self, split: str, batch_size: int, *, shard: Shard = (0, 1)) -> tf.data.Dataset:
    """Every sample of a split (or of the part that `shard` selects) exactly once."""

  def calibration_images(self, nb_images: int) -> np.ndarray:
    """Training images spread evenly over the split, without augmentation, float32 [n, h, w, c]."""


@dataclasses.dataclass(frozen=True)
class DataConfig(Config):
  """Data: folder and numbers of images."""

  data_dir_local: str | None = option(
    None,
    'Folder of the data set; default: path.conf, then the environment variable SECATEURS_DATA.',
    affects_result=False,
  )
  nb_smpls_train: int | None = option(
    None, 'Number of training images to use; default: all.', low=1
  )
  nb_smpls_val: int = option(
    0,
    'Number of training images to hold out for validation; -1: a fifth of them, at most 10,000.',
    low=-1,
  )
  nb_smpls_eval: int | None = option(
    None, 'Number of evaluation images to use; default: all.', low=1
  )


@dataclasses.dataclass(frozen=True)
class Augmentation:
  """Random changes of training images: shift by up to `pad` pixels (filled with zeros), mirror."""

  pad: int = 0
  flip: bool = False

  def only(self, kind: str) -> Augmentation:
    """Returns this augmentation restricted to one of AUGMENTATIONS."""
    return {
      'all': self,
      'mirror': Augmentation(flip=self.flip),
      'none': Augmentation(),
    }[kind]


@dataclasses.dataclass(frozen=True)
class Split:
  """Images and labels of one split, in memory or as files.

  Attributes:
    images: uint8 [n, h, w, c], or the names of n image files.
    labels: int32 [n].
  """

  images: np.ndarray | FileNames
  labels: np.ndarray

  def __len__(self) -> int:
    return len(self.labels)

  def take(self, indices: np.ndarray) -> Split:
    """Returns the samples at the given indices, in that order."""
    if isinstance(self.images, np.ndarray):
      return Split(self.images[indices], self.labels[indices])
    return Split(self.images.take(indices), self.labels[indices])


def check_counts(nb_train: int, nb_eval: int, config: DataConfig) -> tuple[int, int]:
  """Returns the requested numbers of training and evaluation images.

  Args:
    nb_train: number of training images of the data set.
    nb_eval: number of evaluation images of the data set.
    config: numbers requested by the user.

  Raises:
    UserError: a split has fewer samples than requested.
  """
  held_out = nb_held_out(nb_train, config.nb_smpls_val)
  wanted = nb_train - held_out
  if config.nb_smpls_train is not None:
    wanted = config.nb_smpls_train
  if wanted < 1 or wanted + held_out > nb_train:
    raise UserError(
      f'The data set has {nb_train} training images, but --nb_smpls_train and --nb_smpls_val ask '
      f'for {wanted} and {config.nb_smpls_val}: reduce one of them.'
    )
  wanted_eval = config.nb_smpls_eval or nb_eval
  if wanted_eval > nb_eval:
    raise UserError(
      f'The data set has {nb_eval} evaluation images, but --nb_smpls_eval asks for '
      f'{wanted_eval}: reduce it.'
    )
  return wanted, wanted_eval


def nb_held_out(nb_train: int, wanted: int) -> int:
  """Training samples to hold out: as many as wanted, or for -1 a fifth, at most 10,000."""
  return min(nb_train // 5, _MOST_HELD_OUT) if wanted < 0 else wanted


def hold_out(train: Split, evaluation: Split, config: DataConfig) -> tuple[Split, Split, Split]:
  """Makes the splits of the config: training, validation (held out from training), evaluation.

  If only some samples are used, they are a fixed random choice in their original order, because files
  are often sorted by class.

  Raises:
    UserError: a split has fewer samples than requested.
  """
  nb_train, nb_eval = check_counts(len(train), len(evaluation), config)
  order = fixed_order(len(train))
  held_out = nb_held_out(len(train), config.nb_smpls_val)
  validation = train.take(np.sort(order[len(train) - held_out :]))
  return _chosen(train, nb_train), validation, _chosen(evaluation, nb_eval)


def _chosen(split: Split, nb_samples: int) -> Split:
  if nb_samples == len(split):
    return split
  return split.take(np.sort(fixed_order(len(split))[:nb_samples]))


def fixed_order(nb_samples: int) -> np.ndarray:
  """A random order of samples that is the same in every run."""
  return np.random.RandomState(_HOLD_OUT_SEED).permutation(nb_samples)


def spread(nb_samples: int, nb_wanted: int) -> np.ndarray:
  """Indices of at most `nb_wanted` evenly spaced samples, int64, so that all classes occur."""
  return np.linspace(0, nb_samples - 1, min(nb_samples, nb_wanted)).astype(np.int64)


def normalize(images: tf.Tensor, preprocess: str = 'torch') -> tf.Tensor:
  """Normalises pixels [..., width, 3] in [0, 255] to the float32 input of a network.

  Args:
    images: RGB, uint8 or float32, of known width.
    preprocess: `torch` gives `(x / 255 - mean) / std` per channel, `tf` gives `x / 127.5 - 1`, `caffe`
      gives BGR with the mean subtracted (the modes of tf_keras.applications), `0..1` gives `x / 255`,
      `none` leaves the numbers unchanged. `torch` and `caffe` need three channels; the others also
      work on grey images.
  """
  images = tf.cast(images, tf.float32)
  if preprocess == 'none':
    return images
  if preprocess == '0..1':
    return images * (1 / 255)
  if preprocess == 'tf':
    return images * (1 / 127.5) - 1.0
  if preprocess == 'caffe':
    return _affine(images[..., ::-1], [1.0] * 3, [-m for m in _CAFFE_MEAN])
  return _affine(images, [1 / (255 * s) for s in STD], [-m / s for m, s in zip(MEAN, STD)])


def _affine(images: tf.Tensor, scale: Sequence[float], offset: Sequence[float]) -> tf.Tensor:
  """Scales and shifts each channel, one image row at a time.

  Broadcasting over a last axis of size three is five times as slow.
  """
  width, channels = images.shape[-2:]
  shape = tf.shape(images)
  rows = tf.reshape(images, tf.concat([shape[:-2], [width * channels]], 0))
  rows = rows * tf.constant(scale * width) + tf.constant(offset * width)
  return tf.ensure_shape(tf.reshape(rows, shape), images.shape)


def augmented(
  images: tf.Tensor,
  augmentation: Augmentation,
  seed: int,
  step: tf.Tensor,
  shard: tuple[int, int] = (0, 1),
) -> tf.Tensor:
  """Shifts and mirrors each image of a batch at random, in one gather.

  Args:
    images: uint8 [n, h, w, c].
    augmentation: allowed changes.
    seed: any integer.
    step: scalar int64; the same seed and step give the same batch.
    shard: part (index, count) of the step's whole batch that these images are.

  Returns:
    uint8 [n, h, w, c].
  """
  pad = augmentation.pad
  if not pad and not augmentation.flip:
    return images
  nb, height, width, channels = tf.shape(images)[0], *images.shape[1:]
  index, count = shard

  def mine(whole: tf.Tensor) -> tf.Tensor:
    return whole[index * nb : (index + 1) * nb]

  step = tf.cast(step, tf.int32)
  rows, columns = tf.range(height)[None], tf.range(width)[None]
  if pad:
    seeds = [seed * 4 + _CROP_STREAM, step]
    shift = mine(tf.random.stateless_uniform([nb * count, 2], seeds, 0, 2 * pad + 1, tf.int32))
    rows, columns = rows + shift[:, :1], columns + shift[:, 1:]
    images = tf.pad(images, [[0, 0], [pad, pad], [pad, pad], [0, 0]])
  if augmentation.flip:
    seeds = [seed * 4 + _FLIP_STREAM, step]
    mirrored = mine(tf.random.stateless_uniform([nb * count, 1], seeds)) < 0.5
    columns = tf.where(mirrored, columns[:, ::-1], columns)
  pixels = rows[:, :, None] * (width + 2 * pad) + columns[:, None, :]
  pixels = tf.broadcast_to(pixels, [nb, height, width])
  flat = tf.reshape(images, [nb, -1, channels])
  gathered = tf.gather(flat, tf.reshape(pixels, [nb, -1]), batch_dims=1)
  return tf.reshape(gathered, [nb, height, width, channels])


def sample_order(nb_samples: int, seed: int, start: int) -> tf.data.Dataset:
  """Endless sample indices (int64) from position `start` on, in a new order in every epoch."""

  def epoch(number: tf.Tensor) -> tf.data.Dataset:
    seeds = [seed * 4 + _SHUFFLE_STREAM, tf.cast(number, tf.int32)]
    indices = tf.range(nb_samples, dtype=tf.int64)
    return tf.data.Dataset.from_tensor_slices(
      tf.random.experimental.stateless_shuffle(indices, seeds)
    )

  first, offset = divmod(start, nb_samples)
  epochs = tf.data.Dataset.range(first, np.iinfo(np.int32).max)
  return epochs.flat_map(epoch).skip(offset)


class ImageDataset:
  """Three splits of labelled images as batches of (float32 [n, h, w, c], int32 [n]).

  Attributes:
    name: short name, such as `cifar10`.
    image_shape: (height, width, channels).
    class_names: one name per label, in order.
    splits: `train`, `val` and `eval`; images in memory are held only once.
    augments: True.
  """

  augments = True

  def __init__(
    self,
    name: str,
    image_shape: tuple[int, int, int],
    class_names: Sequence[str],
    splits: dict[str, Split],
    augmentation: Augmentation,
    decode: Callable[[tf.Tensor], tf.Tensor] | None = None,
    preprocess: str = 'torch',
  ) -> None:
    self.name = name
    self.image_shape = tuple(image_shape)
    self.class_names = list(class_names)
    self.splits = dict(splits)
    self._augmentation = augmentation
    self._decode = decode
    self._preprocess = preprocess
    self._made: dict[str, tuple[tf.Tensor | PathTable, tf.Tensor]] = {}

  def relabelled(self, labels: dict[str, np.ndarray], class_names: Sequence[str]) -> ImageDataset:
    """The same images with other labels, int [n] by split; images in memory are not copied."""
    found = copy.copy(self)
    found.class_names = list(class_names)
    found.splits = {
      name: Split(split.images, labels[name].astype(np.int32))
      for name, split in self.splits.items()
    }
    found._made = {
      name: (images, tf.constant(found.splits[name].labels))
      for name, (images, _) in self._made.items()
    }
    return found

  @property
  def nb_classes(self) -> int:
    """Number of labels."""
    return len(self.class_names)

  def nb_samples(self, split: str) -> int:
    """Number of samples of a split."""
    return len(self.splits[split])

  def labels(self, split: str) -> np.ndarray:
    """Labels of a split, int [n]."""
    return np.asarray(self.splits[split].labels)

  def notes(self) -> list[str]:
    """Returns no remarks: every sample was checked when it was loaded."""
    return []

  def train_batches(
    self,
    batch_size: int,
    seed: int,
    start: int = 0,
    *,
    augment: str = 'all',
    shard: tuple[int, int] = (0, 1),
  ) -> tf.data.Dataset:
    """Endless training batches from step `start` on; depends only on seed, step and shard.

    `batch_size` is that of one process. The parts of a step's whole batch follow each other in the
    order of samples.
    """
    index, count = shard
    indices = sample_order(self.nb_samples('train'), seed, start * batch_size * count)
    parts = indices.batch(batch_size * count, drop_remainder=True)
    if count > 1:
      first = index * batch_size
      parts = parts.map(lambda i: i[first : first + batch_size], num_parallel_calls=1)
    images = self._gathered(self._tensors('train'), parts, batch_size, drop_remainder=True)
    augmentation = self._augmentation.only(augment)

    def finish(step: tf.Tensor, batch: tuple) -> tuple:
      changed = augmented(batch[0], augmentation, seed, step, shard)
      return normalize(changed, self._preprocess), batch[1]

    steps = tf.data.Dataset.range(start, np.iinfo(np.int64).max)
    batches = tf.data.Dataset.zip((steps, images)).map(finish, num_parallel_calls=1)
    return batches.prefetch(2).with_options(pipeline_options())

  def eval_batches(
    self, split: str, batch_size: int, *, shard: tuple[int, int] = (0, 1)
  ) -> tf.data.Dataset:
    """Every sample of a split (or of the shard) exactly once, in order; the last batch may be smaller.

    Shard (index, count) contains every count-th sample from `index` on; it may be empty.
    """
    indices = tf.data.Dataset.range(shard[0], self.nb_samples(split), shard[1])
    parts = indices.batch(batch_size)
    batches = self._gathered(self._tensors(split), parts, batch_size, drop_remainder=False)
    batches = batches.map(lambda x, y: (normalize(x, self._preprocess), y), num_parallel_calls=1)
    return batches.prefetch(2).with_options(pipeline_options())

  def calibration_images(self, nb_images: int) -> np.ndarray:
    """Training images spread evenly over the split, float32 [nb_images or fewer, h, w, c]."""
    indices = tf.data.Dataset.from_tensors(spread(self.nb_samples('train'), nb_images))
    batches = self._gathered(self._tensors('train'), indices, nb_images, drop_remainder=False)
    return normalize(next(iter(batches))[0], self._preprocess).numpy()

  def _tensors(self, split: str) -> tuple[tf.Tensor | PathTable, tf.Tensor]:
    """A split's images (or paths) and labels as eager tensors, created once.

    A map function refers to an eager tensor, but copies a NumPy array into its graph.
    """
    if split not in self._made:
      data = self.splits[split]
      if isinstance(data.images, FileNames):
        images = PathTable(data.images)
      else:
        images = tf.constant(data.images)
        # A view of the tensor's memory: tf.constant copies, and the array would be held as well.
        self.splits[split] = Split(np.asarray(images), data.labels)
      self._made[split] = images, tf.constant(data.labels)
    return self._made[split]

  def _gathered(
    self,
    tensors: tuple[tf.Tensor | PathTable, tf.Tensor],
    indices: tf.data.Dataset,
    batch_size: int,
    *,
    drop_remainder: bool,
  ) -> tf.data.Dataset:
    """Batches of (uint8 images, labels) at batches of indices."""
    images, labels = tensors
    if self._decode is None:
      return indices.map(
        lambda i: (_with_shape(tf.gather(images, i), self.image_shape), tf.gather(labels, i)),
        num_parallel_calls=1,
      )
    decoded = indices.unbatch().map(
      lambda i: (self._decode(images[i]), labels[i]), num_parallel_calls=tf.data.AUTOTUNE
    )
    return decoded.batch(batch_size, drop_remainder=drop_remainder)


def _with_shape(images: tf.Tensor, shape: tuple[int, int, int]) -> tf.Tensor:
  images.set_shape([None, *shape])
  return images


def pipeline_options() -> tf.data.Options:
  """Options of every pipeline: elements keep their order, and tf.data does not shard by itself."""
  options = tf.data.Options()
  options.deterministic = True
  options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
  return options
