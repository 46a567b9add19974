"""Pixels of a batch: random changes for training, and the numbers that a network reads."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import tensorflow as tf

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
PREPROCESSINGS = ('torch', 'tf', 'caffe', '0..1', 'none')
_CAFFE_MEAN = (103.939, 116.779, 123.68)  # BGR
# Random streams of one seed; stream 0 is the order of samples.
_CROP_STREAM, _FLIP_STREAM = 1, 2


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
