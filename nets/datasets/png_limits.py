"""PNG files are decoded whole: those whose headers say that they are huge are refused before that."""

from __future__ import annotations

import tensorflow as tf

MAX_MILLIONS = 100
"""Pixels of a PNG file: 100 million take 1.6 GB while they are decoded."""
_SIGNATURE = b'\x89PNG\r\n\x1a\n'
_SIDES = 16  # Where width and height begin, int32 each, most significant byte first.


def decode_png(data: tf.Tensor, channels: int) -> tf.Tensor:
  """Decodes a PNG file of up to MAX_MILLIONS of pixels.

  Args:
    data: scalar string.
    channels: 3, or 1 for grey.

  Returns:
    uint8 [height, width, channels]. Reading it raises an InvalidArgumentError for any other file.
  """
  is_png = tf.equal(tf.strings.substr(data, 0, len(_SIGNATURE)), _SIGNATURE)
  sides = tf.io.decode_raw(tf.strings.substr(data, _SIDES, 8), tf.int32, little_endian=False)
  sides = tf.cast(sides, tf.int64)
  fits = tf.reduce_all(sides > 0) & (tf.reduce_prod(sides) <= MAX_MILLIONS * 1_000_000)
  with tf.control_dependencies(
    [tf.debugging.Assert(is_png & fits, ['no PNG file, or huge', sides])]
  ):
    return tf.io.decode_png(tf.identity(data), channels=channels)
