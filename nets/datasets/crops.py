"""Crops square images from JPEG data; only the cropped part is decoded, and huge ones are shrunk."""

from __future__ import annotations

import functools

import tensorflow as tf

MOST_PIXELS = 178_956_970
"""Of a JPEG file; the check of headers before any training refuses more, too."""
AREA = (0.08, 1.0)
ASPECT = (3 / 4, 4 / 3)
_CENTRAL = 0.875  # 224 of a short side of 256.
_NB_ATTEMPTS = 10
_LEAST_EXCESS = 2  # An image that is shrunk while it is decoded is still so many times too large.


def jpeg_shape(data: tf.Tensor) -> tf.Tensor:
  """Height, width and channels of JPEG data, int32 [3], from its header.

  Reading it raises an InvalidArgumentError for more than MOST_PIXELS: a progressive file holds the
  coefficients of the whole image while it is decoded, at whatever size, up to 6 bytes for each pixel.
  """
  shape = tf.io.extract_jpeg_shape(data)
  fits = tf.reduce_prod(tf.cast(shape[:2], tf.int64)) <= MOST_PIXELS
  with tf.control_dependencies([tf.debugging.Assert(fits, ['a huge JPEG file', shape])]):
    return tf.identity(shape)


def random_crop(data: tf.Tensor, size: int, seed: tf.Tensor) -> tf.Tensor:
  """Returns a random part of a JPEG image, mirrored with probability 1/2.

  As in Szegedy et al. 2015, section 6: the part has 8 % to 100 % of the image's area and an aspect
  ratio (width / height) between 3/4 and 4/3. If ten attempts do not fit, the whole image is used.

  Args:
    data: scalar string.
    size: height and width of the result.
    seed: int64 [2].

  Returns:
    float32 [size, size, 3] in [0, 255].
  """
  shape = jpeg_shape(data)
  begin, extent, _ = tf.image.stateless_sample_distorted_bounding_box(
    shape,
    tf.constant([[[0.0, 0.0, 1.0, 1.0]]]),
    seed,
    min_object_covered=0.0,
    aspect_ratio_range=ASPECT,
    area_range=AREA,
    max_attempts=_NB_ATTEMPTS,
    use_image_if_no_bounding_boxes=True,
  )
  window = tf.concat([begin[:2], extent[:2]], 0)
  mirrored = tf.random.stateless_uniform([], seed + 1) < 0.5
  part = tf.raw_ops.Reverse(
    tensor=decode_window(data, window, (size, size)), dims=tf.stack([False, mirrored, False])
  )
  return _resized(part, size)


def central_crop(data: tf.Tensor, size: int) -> tf.Tensor:
  """Returns the central square of a JPEG image, with sides of 7/8 of the image's short side.

  Equivalent to resizing the short side to 8/7 of `size` and cropping the centre, but resizes fewer
  pixels.

  Args:
    data: scalar string.
    size: height and width of the result.

  Returns:
    float32 [size, size, 3] in [0, 255].
  """
  height, width = tf.unstack(jpeg_shape(data)[:2])
  side = tf.cast(tf.round(_CENTRAL * tf.cast(tf.minimum(height, width), tf.float32)), tf.int32)
  side = tf.maximum(side, 1)
  window = tf.stack([(height - side) // 2, (width - side) // 2, side, side])
  return _resized(decode_window(data, window, (size, size)), size)


def decode_window(
  data: tf.Tensor, window: tf.Tensor, wanted: tuple[int, int], channels: int = 3
) -> tf.Tensor:
  """Decodes a window of a JPEG image, at 1/2, 1/4 or 1/8 of its size where that is still large.

  libjpeg leaves out the high frequencies, so that memory and time of a huge image are those of a small
  one: a window that is at least 4 times as large as wanted comes at half of its size, and so on.

  Args:
    data: scalar string.
    window: int32 [4]: top, left, height, width.
    wanted: height and width that it will be resized to.
    channels: 3, or 1 for grey.

  Returns:
    uint8 [height, width, channels].
  """
  excess = tf.reduce_min(window[2:] // tf.constant(wanted))

  def whole() -> tf.Tensor:
    return tf.io.decode_and_crop_jpeg(data, window, channels=channels, dct_method='INTEGER_FAST')

  def shrunk(ratio: int) -> tf.Tensor:
    image = tf.io.decode_jpeg(data, channels=channels, ratio=ratio, dct_method='INTEGER_FAST')
    top, left, height, width = tf.unstack(window // ratio)
    return image[top : top + height, left : left + width]

  ratios = (2, 4, 8)
  chosen = tf.add_n([tf.cast(excess >= _LEAST_EXCESS * ratio, tf.int32) for ratio in ratios])
  branches = [whole, *(functools.partial(shrunk, ratio) for ratio in ratios)]
  return tf.switch_case(chosen, branches)


def _resized(image: tf.Tensor, size: int) -> tf.Tensor:
  # Faster from float32 than from uint8, including the cast.
  image = tf.cast(image, tf.float32)
  resized = tf.raw_ops.ResizeBilinear(
    images=image[None], size=[size, size], half_pixel_centers=True
  )
  return tf.ensure_shape(resized[0], [size, size, 3])
