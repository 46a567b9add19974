"""Augmentation of images with boxes: expansion, crops that keep objects, mirror, colours.

Liu et al. 2016, sections 2.2 and 3.6. Expansion and crop choose one window of the image, which may
reach over its borders; pixels are then read once, and boxes follow the window.
"""

from __future__ import annotations

import dataclasses

import tensorflow as tf

from secateurs.utils.detection.boxes import iou

FILL = 118.0
"""Grey around an expanded image: the mean of natural images. Deviation: one grey, not a mean colour."""

_NB_TRIES = 50
_LEAST_OVERLAPS = (-1.0, 0.1, 0.3, 0.5, 0.7, 0.9)
_HUE, _BRIGHTNESS, _FACTORS = 18 / 360, 32.0, (0.5, 1.5)
_GEOMETRY, _CROPS, _COLOURS = 0, 1, 2


@dataclasses.dataclass(frozen=True)
class BoxAugmentation:
  """Random changes of training images and their boxes.

  Attributes:
    expansion: greatest side of the canvas on which half of the images are placed, in sides of the
      image; 1: none.
    crop: whether parts of the image are taken, of at least `least_side` of its sides.
    flip: whether half of the images are mirrored.
    colours: whether brightness, contrast, saturation and hue change.
    least_side: of a crop, as a fraction.
  """

  expansion: float = 1.0
  crop: bool = False
  flip: bool = False
  colours: bool = False
  least_side: float = 0.3

  def only(self, kind: str) -> BoxAugmentation:
    """This augmentation restricted to `all`, `mirror` or `none`."""
    return {
      'all': self,
      'mirror': BoxAugmentation(flip=self.flip),
      'none': BoxAugmentation(),
    }[kind]


SSD = BoxAugmentation(expansion=4.0, crop=True, flip=True, colours=True)
WHOLE = (0.0, 0.0, 1.0, 1.0)


def augmented(
  image: tf.Tensor, objects: tf.Tensor, size: int, how: BoxAugmentation, seeds: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
  """Changes one image and its objects at random.

  Args:
    image: uint8 or float32 [h, w, 3] in [0, 255].
    objects: float32 [m, 4 + ...]: box, class (negative where there is none), more.
    size: height and width of the result.
    how: allowed changes.
    seeds: integers [2]; the same ones give the same result.

  Returns:
    float32 [size, size, 3] in [0, 255], and the objects in it: those whose centre is not in it have
    class -1, boxes of the others end at its borders.
  """
  seeds = tf.cast(seeds, tf.int32)
  window = tf.constant(WHOLE)
  chance = _uniform(seeds, _GEOMETRY, [6])
  if how.expansion > 1:
    window = _expanded(chance[:4], how.expansion)
  if how.crop:
    window = _cropped(window, objects, how.least_side, seeds)
  mirrored = chance[4] < 0.5 if how.flip else tf.constant(False)
  pixels = read_window(image, window, size, mirrored)
  if how.colours:
    pixels = _recoloured(pixels, _uniform(seeds, _COLOURS, [9]))
  return pixels, moved(objects, window, mirrored)


def read_window(
  image: tf.Tensor, window: tf.Tensor, size: int, mirrored: tf.Tensor | bool = False
) -> tf.Tensor:
  """The pixels of a window, float32 [size, size, 3]; FILL outside of the image.

  Args:
    image: [h, w, 3] in [0, 255].
    window: (y_min, x_min, y_max, x_max) in sides of the image.
    size: height and width of the result.
    mirrored: whether left and right change places.
  """
  sides = tf.cast(tf.shape(image)[:2], tf.float32)
  low, high = window[:2], window[2:]
  inset = (high - low) * (0.5 / size)  # From the window's edge to the centre of a pixel.
  # The operation counts from the centre of the first pixel to that of the last one.
  last = tf.maximum(sides - 1, 1e-3)
  low = ((low + inset) * sides - 0.5) / last
  high = ((high - inset) * sides - 0.5) / last
  left, right = low[1], high[1]
  mirrored = tf.convert_to_tensor(mirrored)
  left, right = tf.where(mirrored, right, left), tf.where(mirrored, left, right)
  pixels = tf.image.crop_and_resize(
    image[None],
    [tf.stack([low[0], left, high[0], right])],
    [0],
    (size, size),
    extrapolation_value=FILL,
  )
  return tf.ensure_shape(pixels[0], [size, size, 3])


def moved(objects: tf.Tensor, window: tf.Tensor, mirrored: tf.Tensor | bool = False) -> tf.Tensor:
  """Objects as they lie in a window, [m, 4 + ...]; class -1 where the centre is outside of it."""
  low, sides = window[:2], window[2:] - window[:2]
  boxes, kinds, rest = objects[:, :4], objects[:, 4:5], objects[:, 5:]
  centres = (boxes[:, :2] + boxes[:, 2:]) / 2
  inside = tf.reduce_all((centres > low) & (centres < window[2:]), 1, keepdims=True)
  boxes = (boxes - tf.concat([low, low], 0)) / tf.concat([sides, sides], 0)
  boxes = tf.clip_by_value(boxes, 0.0, 1.0)
  other = tf.stack([boxes[:, 0], 1 - boxes[:, 3], boxes[:, 2], 1 - boxes[:, 1]], 1)
  boxes = tf.where(tf.convert_to_tensor(mirrored), other, boxes)
  there = inside & (kinds >= 0)
  return tf.concat([tf.where(there, boxes, 0.0), tf.where(there, kinds, -1.0), rest], 1)


def _uniform(seeds: tf.Tensor, stream: int, shape: list[int]) -> tf.Tensor:
  return tf.random.stateless_uniform(shape, seeds * 4 + stream)


def _between(chance: tf.Tensor, low: float | tf.Tensor, high: float | tf.Tensor) -> tf.Tensor:
  return low + chance * (high - low)


def _expanded(chance: tf.Tensor, most: float) -> tf.Tensor:
  """A canvas around the image, of 1 to `most` of its sides, in half of the cases."""
  side = tf.where(chance[0] < 0.5, _between(chance[1], 1.0, most), 1.0)
  low = -chance[2:4] * (side - 1)
  return tf.concat([low, low + side], 0)


def _cropped(
  canvas: tf.Tensor, objects: tf.Tensor, least_side: float, seeds: tf.Tensor
) -> tf.Tensor:
  """A part of the canvas with an object's centre in it, and an IoU with one of at least a chosen one.

  One case of seven takes the whole canvas, one any part; so does the whole where no try fits.
  """
  chance = _uniform(seeds, _CROPS, [_NB_TRIES, 4])
  case = tf.cast(_uniform(seeds, _CROPS + 2, [1])[0] * (len(_LEAST_OVERLAPS) + 1), tf.int32)
  least = tf.gather(tf.constant((*_LEAST_OVERLAPS, 2.0)), case)  # Nothing fits the last.
  sides = _between(chance[:, :2], least_side, 1.0)
  low = chance[:, 2:] * (1 - sides)
  extent = canvas[2:] - canvas[:2]
  low, sides = canvas[:2] + low * extent, sides * extent
  windows = tf.concat([low, low + sides], 1)
  shape = sides[:, 0] / sides[:, 1]
  valid = objects[:, 4] >= 0
  centres = (objects[:, :2] + objects[:, 2:4]) / 2
  inside = tf.reduce_all((centres > low[:, None]) & (centres < (low + sides)[:, None]), -1)
  overlap = iou(windows, objects[:, :4])
  fits = tf.reduce_any(inside & valid, 1)
  fits &= tf.reduce_any((overlap >= least) & valid, 1) & (shape >= 0.5) & (shape <= 2.0)
  first = tf.argmax(tf.cast(fits, tf.int32))
  return tf.where(tf.reduce_any(fits), windows[first], canvas)


def _recoloured(image: tf.Tensor, chance: tf.Tensor) -> tf.Tensor:
  """Each change in half of the cases; contrast before or after saturation and hue."""
  low, high = _FACTORS

  def factor(number: int) -> tf.Tensor:
    drawn = _between(2 * chance[number] - 1, low, high)
    return tf.where(chance[number] < 0.5, 1.0, drawn)

  shift = tf.where(chance[0] < 0.5, 0.0, _between(2 * chance[0] - 1, -_BRIGHTNESS, _BRIGHTNESS))
  contrast, early = factor(1), chance[2] < 0.5
  hue = tf.where(chance[3] < 0.5, 0.0, _between(2 * chance[3] - 1, -_HUE, _HUE))
  image = (image + shift) * tf.where(early, contrast, 1.0)
  image = tf.clip_by_value(image, 0.0, 255.0) * (1 / 255)
  image = tf.image.adjust_hue(tf.image.adjust_saturation(image, factor(4)), hue)
  return tf.clip_by_value(image * (255 * tf.where(early, 1.0, contrast)), 0.0, 255.0)
