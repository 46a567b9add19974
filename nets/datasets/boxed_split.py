"""Images of one split and their objects, as arrays."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from secateurs.utils.detection.hits import AREA, CLASS, IGNORED, NB_COLUMNS, PIXELS


@dataclasses.dataclass(frozen=True)
class BoxedSplit:
  """Images of one split, in memory or as files, with their objects.

  Attributes:
    images: uint8 [n, h, w, 3], or the n paths of JPEG files.
    objects: of all images in order, float32 [total, 8]: box as fractions of the image's sides, class,
      whether to ignore it (difficult or a crowd), its area and its image's in pixels.
    offsets: where each image's objects start, int64 [n + 1].
    pixels: area of each image, float32 [n].
  """

  images: np.ndarray | Sequence[str]
  objects: np.ndarray
  offsets: np.ndarray
  pixels: np.ndarray

  def __len__(self) -> int:
    return len(self.pixels)

  def take(self, indices: np.ndarray) -> BoxedSplit:
    """The samples at the given indices, in that order."""
    if isinstance(self.images, np.ndarray):
      images = self.images[indices]
    else:
      images = [self.images[i] for i in indices]
    rows = [self.of_image(i) for i in indices]
    return make_split(images, rows, self.pixels[indices])

  def of_image(self, number: int) -> np.ndarray:
    """The objects of one image, float32 [m, 8]."""
    return self.objects[self.offsets[number] : self.offsets[number + 1]]

  @property
  def has_objects(self) -> bool:
    """Whether any object counts in evaluation."""
    return bool((self.objects[:, IGNORED] == 0).any())

  @property
  def most_objects(self) -> int:
    """The greatest number of objects of an image."""
    return int(np.diff(self.offsets).max(initial=0))


def make_split(
  images: np.ndarray | Sequence[str], objects: Sequence[np.ndarray], pixels: np.ndarray
) -> BoxedSplit:
  """A split of the objects of each image, [m, 8] each."""
  offsets = np.cumsum([0, *map(len, objects)]).astype(np.int64)
  rows = np.concatenate([np.zeros((0, NB_COLUMNS)), *objects]).astype(np.float32)
  return BoxedSplit(images, rows, offsets, np.asarray(pixels, np.float32))


def object_rows(
  boxes: np.ndarray,
  classes: np.ndarray,
  pixels: float,
  ignored: np.ndarray | None = None,
  areas: np.ndarray | None = None,
) -> np.ndarray:
  """Objects of one image, float32 [m, 8]; areas are those of the boxes unless given, in pixels."""
  boxes = np.asarray(boxes, np.float32).reshape(-1, 4)
  rows = np.zeros((len(boxes), NB_COLUMNS), np.float32)
  rows[:, :4], rows[:, CLASS], rows[:, PIXELS] = boxes, classes, pixels
  rows[:, AREA] = (boxes[:, 2:] - boxes[:, :2]).prod(1) * pixels if areas is None else areas
  if ignored is not None:
    rows[:, IGNORED] = ignored
  return rows
