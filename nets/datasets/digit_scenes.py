"""Handwritten digits of several sizes on textured canvases, with boxes; works offline."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np

from secateurs.nets.datasets.box_augmentation import BoxAugmentation
from secateurs.nets.datasets.boxed_images import BoxedImages
from secateurs.nets.datasets.boxed_split import BoxedSplit, make_split, object_rows
from secateurs.nets.datasets.source import DataConfig
from secateurs.utils.config import option

_NB_TRAIN, _NB_EVAL = 2000, 500
_NB_EVAL_DIGITS, _SPLIT_SEED = 360, 0
_SIDES = (0.14, 0.5)  # Height of a digit, as a fraction of the canvas.
_MOST_OBJECTS, _MOST_OVERLAP, _NB_TRIES = 6, 0.1, 20
_VISIBLE = 0.35  # Opacity above which a pixel belongs to a digit.
_CONTRAST = (70, 130)
_AUGMENTATION = BoxAugmentation(expansion=1.3, crop=True, colours=True, least_side=0.6)


@dataclasses.dataclass(frozen=True)
class DigitScenesConfig(DataConfig):
  """Scenes of handwritten digits: numbers and size of the images."""

  scene_size: int = option(
    96, 'Height and width of the images, in pixels; the network must take them.', low=32, high=1024
  )


def load(config: DigitScenesConfig) -> BoxedImages:
  """Makes 2,000 training and 500 evaluation images, always the same ones.

  The 1,797 digits of scikit-learn are divided before: no digit is in both splits. Each image has one
  to six digits of 14 to 50 % of its height, of any colour that stands out, on a canvas of coloured
  noise of several scales. A box is the smallest one around a digit's visible pixels; two digits share
  at most 10 % of the smaller one's box. Training does not mirror, because a mirrored digit is none.

  Raises:
    UserError: more images are requested.
  """
  from sklearn.datasets import load_digits

  glyphs, labels = load_digits(return_X_y=True)
  glyphs = np.round(glyphs.reshape(-1, 8, 8) * (255.0 / 16.0)).astype(np.uint8)
  order = np.random.RandomState(_SPLIT_SEED).permutation(len(labels))
  size = config.scene_size
  splits = []
  for number, (part, nb_scenes) in enumerate(
    ((order[_NB_EVAL_DIGITS:], _NB_TRAIN), (order[:_NB_EVAL_DIGITS], _NB_EVAL))
  ):
    splits.append(_scenes(glyphs[part], labels[part], nb_scenes, size, number))
  classes = [str(digit) for digit in range(10)]
  return BoxedImages('digit_scenes', size, classes, *splits, config, _AUGMENTATION)


def _scenes(
  glyphs: np.ndarray, labels: np.ndarray, nb_scenes: int, size: int, number: int
) -> BoxedSplit:
  images = np.empty((nb_scenes, size, size, 3), np.uint8)
  objects = []
  for n in range(nb_scenes):
    images[n], boxes, chosen = scene(glyphs, size, np.random.default_rng([number, n]))
    objects.append(object_rows(boxes, labels[chosen], size**2))
  return make_split(images, objects, np.full(nb_scenes, size**2))


def scene(
  glyphs: np.ndarray, size: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """One image: uint8 [size, size, 3], the boxes [m, 4] of its digits, and which glyphs they are [m]."""
  image = canvas(size, rng)
  boxes, chosen = [], []
  for _ in range(int(rng.integers(1, _MOST_OBJECTS + 1))):
    which = int(rng.integers(len(glyphs)))
    low, high = np.log(_SIDES)
    opacity = _opacity(glyphs[which], max(int(size * np.exp(rng.uniform(low, high))), 8))
    for _ in range(_NB_TRIES):
      top, left = (int(rng.integers(0, size - side + 1)) for side in opacity.shape)
      box = _visible(opacity, top, left)
      if all(_shared(box, other) <= _MOST_OVERLAP for other in boxes):
        _paint(image, opacity, top, left, rng)
        boxes.append(box)
        chosen.append(which)
        break
  image += 5 * rng.standard_normal(image.shape, np.float32)
  pixels = np.clip(image, 0, 255).round().astype(np.uint8)
  return pixels, np.array(boxes, np.float64) / size, np.array(chosen)


def canvas(size: int, rng: np.random.Generator) -> np.ndarray:
  """A texture, float32 [size, size, 3]: a colour, and noise of three scales."""
  image = np.full((size, size, 3), rng.uniform(50, 205, 3), np.float32)
  for cells, strength in ((3, 25.0), (8, 15.0), (24, 8.0)):
    noise = strength * rng.standard_normal((3, cells, cells), np.float32)
    between = _interpolation(size, cells)
    image += (between @ noise @ between.T).transpose(1, 2, 0)
  return image


@functools.cache
def _interpolation(size: int, cells: int) -> np.ndarray:
  """Linear interpolation of `cells` values at `size` places, as a matrix, float32 [size, cells]."""
  places = np.linspace(0, cells - 1, size)
  distance = np.abs(places[:, None] - np.arange(cells)[None])
  return np.maximum(1 - distance, 0).astype(np.float32)


def _enlarged(values: np.ndarray, height: int, width: int) -> np.ndarray:
  from PIL import Image

  return np.asarray(Image.fromarray(values).resize((width, height), Image.Resampling.BICUBIC))


def _opacity(glyph: np.ndarray, height: int) -> np.ndarray:
  """A digit of a given height without the empty columns around it, float32 [h, w] in [0, 1]."""
  rows, columns = np.any(glyph > 0, 1), np.any(glyph > 0, 0)
  glyph = glyph[np.ix_(rows, columns)].astype(np.float32) / 255
  width = max(round(height * glyph.shape[1] / glyph.shape[0]), 4)
  return np.clip(_enlarged(glyph, height, width) * 1.3, 0, 1)


def _visible(opacity: np.ndarray, top: int, left: int) -> tuple[int, int, int, int]:
  """The smallest box around the visible pixels of a digit that is placed somewhere, in pixels."""
  rows, columns = (np.flatnonzero((opacity > _VISIBLE).any(axis)) for axis in (1, 0))
  return (
    top + int(rows[0]),
    left + int(columns[0]),
    top + int(rows[-1]) + 1,
    left + int(columns[-1]) + 1,
  )


def _shared(one: tuple[int, ...], other: tuple[int, ...]) -> float:
  """Intersection over the smaller box."""
  height = min(one[2], other[2]) - max(one[0], other[0])
  width = min(one[3], other[3]) - max(one[1], other[1])
  smaller = min((b[2] - b[0]) * (b[3] - b[1]) for b in (one, other))
  return max(height, 0) * max(width, 0) / smaller


def _paint(
  image: np.ndarray, opacity: np.ndarray, top: int, left: int, rng: np.random.Generator
) -> None:
  """Draws a digit, brighter or darker than the canvas there."""
  height, width = opacity.shape
  part = image[top : top + height, left : left + width]
  mean = part.mean((0, 1))
  step = rng.uniform(*_CONTRAST, 3)
  colour = mean + step if mean.mean() < 128 else mean - step
  part += (np.clip(colour, 0, 255) - part) * opacity[..., None]
