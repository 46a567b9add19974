"""Data that the user hands over in Python: arrays, or tf.data pipelines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

from secateurs.nets.datasets.images import Shard, pipeline_options, sample_order, spread
from secateurs.utils.errors import UserError

Pair = tuple[np.ndarray, np.ndarray]
_NB_COUNTED = 1024  # Labels at a time.


class GivenData:
  """Training and evaluation data, as the network sees it; there is no validation split.

  Arrays are copied once, and read in a new order in each epoch, a function of the seed alone. A
  pipeline is read in its own order, over and over; after an interruption, what was read is read again
  and dropped.

  Attributes:
    name: `given`.
    image_shape: (height, width, channels).
    nb_classes: number of labels.
    augments: False: images come as they were augmented.
  """

  name, augments = 'given', False

  def __init__(
    self,
    train: Pair | tf.data.Dataset,
    evaluation: Pair | tf.data.Dataset,
    image_shape: Sequence[int],
    nb_classes: int,
  ) -> None:
    """Checks shapes and labels, and counts the samples of pipelines by reading them once.

    Raises:
      UserError: they do not fit the network.
    """
    self.image_shape, self.nb_classes = tuple(image_shape), nb_classes
    self._splits = {
      'train': _given(train, 'training', self.image_shape, nb_classes),
      'eval': _given(evaluation, 'evaluation', self.image_shape, nb_classes),
    }

  def nb_samples(self, split: str) -> int:
    """Number of samples of a split."""
    return len(self._splits[split]) if split in self._splits else 0

  def notes(self) -> list[str]:
    """Nothing."""
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
    """Endless batches from step `start` on, augmented as they came, whatever `augment` is."""
    del augment
    index, count = shard
    samples = self._splits['train'].endless(seed, start * batch_size * count)
    batches = samples.shard(count, index).batch(batch_size, drop_remainder=True)
    return batches.prefetch(2).with_options(pipeline_options())

  def eval_batches(self, split: str, batch_size: int, *, shard: Shard = (0, 1)) -> tf.data.Dataset:
    """Every sample of a split, or of a process's part of it, exactly once."""
    index, count = shard
    samples = self._splits[split].once().shard(count, index)
    return samples.batch(batch_size).prefetch(2).with_options(pipeline_options())

  def calibration_images(self, nb_images: int) -> np.ndarray:
    """Training images, float32 [n, h, w, c]: from all over arrays, the first of a pipeline."""
    samples = self._splits['train'].some(nb_images)
    return next(iter(samples.batch(nb_images)))[0].numpy()


def labels_of(data: object, output: str | None) -> object:
  """Data whose labels are a dict, with those of one output instead; other data as it is.

  Raises:
    UserError: there are no labels of that output.
  """
  if isinstance(data, tf.data.Dataset):
    spec = data.element_spec
    labels = spec[1] if isinstance(spec, tuple) and len(spec) == 2 else None
  else:
    labels = data[1] if isinstance(data, (tuple, list)) and len(data) == 2 else None
  if not isinstance(labels, Mapping):
    return data
  if output not in labels:
    raise UserError(
      f'The labels are for the outputs {", ".join(labels)}, but those of output {output} were '
      'expected: name the output of the model and its labels alike.'
    )
  if isinstance(data, tf.data.Dataset):
    return data.map(lambda image, labels: (image, labels[output]))
  return data[0], labels[output]


class _Arrays:
  """Images and labels in memory."""

  def __init__(self, images: np.ndarray, labels: np.ndarray) -> None:
    self._images, self._labels = tf.constant(images), tf.constant(labels)

  def __len__(self) -> int:
    return len(self._labels)

  def endless(self, seed: int, start: int) -> tf.data.Dataset:
    return self._at(sample_order(len(self), seed, start))

  def once(self) -> tf.data.Dataset:
    return self._at(tf.data.Dataset.range(len(self)))

  def some(self, nb_samples: int) -> tf.data.Dataset:
    return self._at(tf.data.Dataset.from_tensor_slices(spread(len(self), nb_samples)))

  def _at(self, indices: tf.data.Dataset) -> tf.data.Dataset:
    return indices.map(lambda i: (tf.cast(self._images[i], tf.float32), self._labels[i]))


class _Pipeline:
  """A finite tf.data.Dataset of single samples."""

  def __init__(self, samples: tf.data.Dataset, nb_samples: int) -> None:
    self._samples, self._nb_samples = samples, nb_samples

  def __len__(self) -> int:
    return self._nb_samples

  def endless(self, seed: int, start: int) -> tf.data.Dataset:
    del seed
    first = self._samples.skip(start % len(self))
    return first.concatenate(self._samples.repeat())

  def once(self) -> tf.data.Dataset:
    return self._samples

  def some(self, nb_samples: int) -> tf.data.Dataset:
    return self._samples.take(nb_samples)


def _given(
  data: Pair | tf.data.Dataset, split: str, shape: tuple[int, ...], nb_classes: int
) -> _Arrays | _Pipeline:
  if isinstance(data, tf.data.Dataset):
    return _pipeline(data, split, shape, nb_classes)
  try:
    images, labels = (np.asarray(part) for part in data)
  except (TypeError, ValueError) as error:
    raise UserError(
      f'The {split} data must be (images, labels) as arrays or a tf.data.Dataset, but a '
      f'{type(data).__name__} came.'
    ) from error
  labels = labels.argmax(-1) if labels.ndim == 2 and labels.shape[1] > 1 else labels.reshape(-1)
  if images.shape[1:] != shape or len(images) != len(labels) or not len(images):
    raise UserError(
      f'The {split} data has images {images.shape} and labels {labels.shape}, but (n, '
      f'{", ".join(map(str, shape))}) and (n,) were expected: give what the model takes.'
    )
  _check_labels(labels, split, nb_classes)
  return _Arrays(images, labels.astype(np.int32))


def _pipeline(
  data: tf.data.Dataset, split: str, shape: tuple[int, ...], nb_classes: int
) -> _Pipeline:
  spec = data.element_spec
  if not (isinstance(spec, tuple) and len(spec) == 2 and all(hasattr(s, 'shape') for s in spec)):
    raise UserError(f'The {split} pipeline must give (image, label) pairs, but it gives {spec}.')
  if data.cardinality() == tf.data.INFINITE_CARDINALITY:
    raise UserError(f'The {split} pipeline never ends: leave its repeat() out.')
  for part, name in zip(spec, ('images', 'labels')):
    if part.shape.rank is None:
      raise UserError(
        f'The {split} pipeline gives {name} of unknown shape, but the number of their axes was '
        'expected: set it with tf.ensure_shape in the last map().'
      )
  if len(spec[0].shape) == len(shape) + 1:
    data = data.unbatch()
  found = data.element_spec[0].shape
  if not found.is_compatible_with(shape):
    raise UserError(
      f'The {split} pipeline gives images of {tuple(found)}, but the model takes {shape}.'
    )
  one_hot = len(data.element_spec[1].shape) == 1 and data.element_spec[1].shape[0] != 1

  def plain(image: tf.Tensor, label: tf.Tensor) -> tuple:
    label = tf.argmax(label, -1) if one_hot else tf.reshape(label, [])
    return tf.ensure_shape(tf.cast(image, tf.float32), shape), tf.cast(label, tf.int32)

  samples = data.map(plain, num_parallel_calls=tf.data.AUTOTUNE)
  batches = list(samples.map(lambda _, label: label).batch(_NB_COUNTED).as_numpy_iterator())
  if not batches:
    raise UserError(f'The {split} pipeline is empty.')
  labels = np.concatenate(batches)
  _check_labels(labels, split, nb_classes)
  return _Pipeline(samples, len(labels))


def _check_labels(labels: np.ndarray, split: str, nb_classes: int) -> None:
  if labels.min() < 0 or labels.max() >= nb_classes:
    raise UserError(
      f'The {split} labels go from {labels.min()} to {labels.max()}, but the model has '
      f'{nb_classes} classes, 0 to {nb_classes - 1}: number them so.'
    )
