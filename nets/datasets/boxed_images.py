"""Images with boxes: splits, order of samples, augmentation, batches."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from secateurs.nets.datasets.box_augmentation import BoxAugmentation, augmented
from secateurs.nets.datasets.boxed_split import BoxedSplit
from secateurs.nets.datasets.crops import decode_window, jpeg_shape
from secateurs.nets.datasets.decoding import one_by_one, without_failures
from secateurs.nets.datasets.image_checks import check_images
from secateurs.nets.datasets.images import pipeline_options, sample_order
from secateurs.nets.datasets.pixels import normalize
from secateurs.nets.datasets.png_limits import decode_png
from secateurs.nets.datasets.source import DataConfig, Shard
from secateurs.nets.datasets.splits import hold_out, spread
from secateurs.utils.detection.hits import CLASS, IGNORED, NB_COLUMNS, PIXELS

_MAX_CHECKED = 20_000
_SHRUNK_FROM = 4  # So many times `_ROOM`, from where on `decode_window` shrinks.
_ROOM = 2  # How many times larger than the network's images files stay at least, for crops of them.


class BoxedImages:
  """Batches of (float32 [n, size, size, 3], objects float32 [n, m, 8]); m is that of the fullest image.

  Rows after an image's objects have class -1.

  Attributes:
    name: short name, such as `voc`.
    image_shape: (height, width, channels).
    class_names: one name per class, in order.
    splits: `train`, `val` and `eval`.
    augments: True.
  """

  augments = True

  def __init__(
    self,
    name: str,
    size: int,
    class_names: Sequence[str],
    train: BoxedSplit,
    evaluation: BoxedSplit,
    config: DataConfig,
    augmentation: BoxAugmentation,
    *,
    learns_ignored: bool = True,
    preprocess: str = 'torch',
  ) -> None:
    """Divides training data as the config says.

    Args:
      name: short name.
      size: height and width of the images that the network sees.
      class_names: of the classes.
      train: training images.
      evaluation: evaluation images.
      config: numbers of images.
      augmentation: of training images.
      learns_ignored: whether objects that do not count in evaluation are learned.
      preprocess: see `pixels.normalize`.

    Raises:
      UserError: a split has fewer samples than requested.
    """
    self.name, self.image_shape = name, (size, size, 3)
    self.class_names = list(class_names)
    parts = hold_out(train, evaluation, config)
    self.splits: dict[str, BoxedSplit] = dict(zip(('train', 'val', 'eval'), parts, strict=True))
    self.most_objects = max(1, train.most_objects, evaluation.most_objects)
    self._augmentation, self._preprocess = augmentation, preprocess
    self._learns_ignored = learns_ignored
    self._made: dict[str, tuple[tf.Tensor, ...]] = {}

  @property
  def nb_classes(self) -> int:
    """Number of classes, without the background."""
    return len(self.class_names)

  def nb_samples(self, split: str) -> int:
    """Number of samples of a split."""
    return len(self.splits[split])

  def check_files(self) -> None:
    """Reads the headers of the files, of many some that are spread evenly.

    Raises:
      UserError: a file is missing or no image that can be read.
    """
    for data in self.splits.values():
      if not isinstance(data.images, np.ndarray):
        check_images([data.images[i] for i in spread(len(data), _MAX_CHECKED).tolist()])

  def notes(self) -> list[str]:
    """Returns no remarks: annotations were checked when they were loaded."""
    return []

  def train_batches(
    self,
    batch_size: int,
    seed: int,
    start: int = 0,
    *,
    augment: str = 'all',
    shard: Shard = (0, 1),
  ) -> tf.data.Dataset:
    """Endless training batches from step `start` on; depends only on seed, step and shard."""
    index, count = shard
    first, how = start * batch_size * count, self._augmentation.only(augment)
    order = sample_order(self.nb_samples('train'), seed, first)
    positions = tf.data.Dataset.range(first, np.iinfo(np.int64).max)
    samples = tf.data.Dataset.zip((positions, order))
    if count > 1:
      samples = samples.filter(lambda position, _: position // batch_size % count == index)

    def make(position: tf.Tensor, number: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
      image, objects = self._sample('train', number)
      if not self._learns_ignored:
        kinds = tf.where(objects[:, IGNORED] > 0, -1.0, objects[:, CLASS])
        objects = tf.concat([objects[:, :CLASS], kinds[:, None], objects[:, CLASS + 1 :]], 1)
      seeds = tf.stack([tf.constant(seed, tf.int64), position])
      image, objects = augmented(image, objects, self.image_shape[0], how, seeds)
      return normalize(image, self._preprocess), objects

    made = self._made_of('train', samples, make, endless=True)
    batches = made.batch(batch_size, drop_remainder=True)
    return batches.prefetch(2).with_options(pipeline_options())

  def eval_batches(self, split: str, batch_size: int, *, shard: Shard = (0, 1)) -> tf.data.Dataset:
    """Every sample of a split (or of the shard) exactly once, in order; the last batch may be smaller.

    Shard (index, count) contains every count-th sample from `index` on; it may be empty.
    """
    numbers = tf.data.Dataset.range(shard[0], self.nb_samples(split), shard[1])
    batches = self._whole(split, numbers).batch(batch_size)
    return batches.prefetch(2).with_options(pipeline_options())

  def calibration_images(self, nb_images: int) -> np.ndarray:
    """Training images spread evenly over the split, float32 [nb_images or fewer, h, w, c]."""
    indices = spread(self.nb_samples('train'), nb_images)
    samples = self._whole('train', tf.data.Dataset.from_tensor_slices(indices))
    return next(iter(samples.batch(nb_images)))[0].numpy()

  def _whole(self, split: str, numbers: tf.data.Dataset) -> tf.data.Dataset:
    """Samples without augmentation."""

    def make(number: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
      image, objects = self._sample(split, number)
      return normalize(self._resized(image), self._preprocess), objects

    keyed = tf.data.Dataset.zip((numbers, numbers))
    return self._made_of(split, keyed, lambda _, number: make(number))

  def _made_of(
    self,
    split: str,
    samples: tf.data.Dataset,
    make: Callable[[tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]],
    *,
    endless: bool = False,
  ) -> tf.data.Dataset:
    """What `make` gives of pairs (key, number of the image); a file that cannot be decoded is named."""
    if isinstance(self.splits[split].images, np.ndarray):
      return samples.map(make, num_parallel_calls=tf.data.AUTOTUNE)
    paths = self._tensors(split)[0]
    if endless:
      found = one_by_one(samples, make)
    else:
      found = samples.map(
        lambda key, number: (key, *make(key, number)), num_parallel_calls=tf.data.AUTOTUNE
      )
    return without_failures(samples, found, lambda number: paths[number])

  def _resized(self, image: tf.Tensor) -> tf.Tensor:
    image = tf.cast(image, tf.float32)
    size = self.image_shape[:2]
    if image.shape[:2] != size:
      image = tf.raw_ops.ResizeBilinear(images=image[None], size=size, half_pixel_centers=True)[0]
    return tf.ensure_shape(image, self.image_shape)

  def _sample(self, split: str, number: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """One image as it is, uint8 [h, w, 3], and its objects, float32 [m, 8]."""
    with tf.init_scope():  # A map function refers to an eager tensor, but would copy any other.
      images, objects, offsets, pixels = self._tensors(split)
    first, end = offsets[number], offsets[number + 1]
    rest = tf.cast(self.most_objects - (end - first), tf.int32)
    nothing = tf.one_hot(CLASS, NB_COLUMNS, on_value=-1.0, off_value=0.0)
    nothing += tf.one_hot(PIXELS, NB_COLUMNS) * pixels[number]
    rows = tf.concat([objects[first:end], tf.tile(nothing[None], [rest, 1])], 0)
    rows = tf.ensure_shape(rows, [self.most_objects, NB_COLUMNS])
    image = images[number]
    if image.dtype == tf.string:
      image = self._decoded(tf.io.read_file(image))
    return image, rows

  def _decoded(self, data: tf.Tensor) -> tf.Tensor:
    """A file's pixels; a JPEG that is huge beside what the network sees is shrunk while it is read."""

    def jpeg() -> tf.Tensor:
      sides = jpeg_shape(data)[:2]
      room = tuple(_ROOM * side for side in self.image_shape[:2])
      return tf.cond(
        tf.reduce_min(sides // room) < _SHRUNK_FROM,
        lambda: tf.io.decode_jpeg(data, channels=3),
        lambda: decode_window(data, tf.concat([[0, 0], sides], 0), room),
      )

    image = tf.cond(tf.io.is_jpeg(data), jpeg, lambda: decode_png(data, 3))
    return tf.ensure_shape(image, (None, None, 3))

  def _tensors(self, split: str) -> tuple[tf.Tensor, ...]:
    """Images (or paths), objects, offsets and areas as eager tensors, created once."""
    if split not in self._made:
      data = self.splits[split]
      images = tf.constant(data.images)
      if isinstance(data.images, np.ndarray):
        # A view of the tensor's memory, so that the images are held once.
        self.splits[split] = dataclasses.replace(data, images=np.asarray(images))
      self._made[split] = (
        images,
        tf.constant(data.objects),
        tf.constant(data.offsets),
        tf.constant(data.pixels),
      )
    return self._made[split]
