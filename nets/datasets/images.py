"""Image data sets in memory or as files: the order of samples, and batches.

The order of samples and all random choices of the augmentation depend only on a seed and the step. A
run that resumes at step t therefore reads the same samples as an uninterrupted one, and no iterator
state is saved.

With K processes, the batch of a step is that of one process with K times the batch size, cut into K
equal parts; so are its random choices. `shard` = (index, count) selects the part of a process.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from secateurs.nets.datasets.decoding import decoded
from secateurs.nets.datasets.file_names import FileNames, PathTable
from secateurs.nets.datasets.pixels import Augmentation, augmented, normalize
from secateurs.nets.datasets.splits import Split, spread

_SHUFFLE_STREAM = 0  # Of a seed; augmentation has the others.


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

  @property
  def nb_bytes(self) -> int:
    """What images in memory take, or the names of their files."""
    return sum(split.images.nbytes for split in self.splits.values())

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
    found = decoded(indices.unbatch(), images, labels, self._decode)
    return found.batch(batch_size, drop_remainder=drop_remainder)


def _with_shape(images: tf.Tensor, shape: tuple[int, int, int]) -> tf.Tensor:
  images.set_shape([None, *shape])
  return images


def pipeline_options() -> tf.data.Options:
  """Options of every pipeline: elements keep their order, and tf.data does not shard by itself."""
  options = tf.data.Options()
  options.deterministic = True
  options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
  return options
