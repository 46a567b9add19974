"""Default boxes of single-shot detectors: at every cell of every map, of several sizes and shapes."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np


@dataclasses.dataclass(frozen=True)
class Anchors:
  """Which default boxes a detector has (Liu et al. 2016, section 2.2).

  On map k there are, at each cell, squares of sides s_k and sqrt(s_k s_{k+1}), and for each ratio a
  one box of sides s_k sqrt(a) by s_k / sqrt(a), and one standing upright.

  Attributes:
    image_size: height and width of the image, in pixels.
    grids: cells along each side of each map.
    sizes: s_1 to s_{K+1}, in pixels: one more than there are maps.
    ratios: of each map, width over height, all above one.
    steps: pixels from one cell's centre to the next, for each map; default: image_size / grid.
  """

  image_size: int
  grids: tuple[int, ...]
  sizes: tuple[float, ...]
  ratios: tuple[tuple[float, ...], ...]
  steps: tuple[float, ...] | None = None

  def __post_init__(self) -> None:
    steps = len(self.grids) if self.steps is None else len(self.steps)
    counts = (len(self.grids), len(self.sizes) - 1, len(self.ratios), steps)
    if len(set(counts)) > 1:
      raise ValueError(
        f'Default boxes of {counts[0]} maps have {len(self.sizes)} sizes, {counts[2]} lists of ratios '
        f'and {steps} steps, but one more size than maps and one of the others for each was expected.'
      )

  @property
  def per_cell(self) -> tuple[int, ...]:
    """Number of default boxes at each cell, for each map."""
    return tuple(2 + 2 * len(ratios) for ratios in self.ratios)

  @property
  def count(self) -> int:
    """Number of all default boxes."""
    return sum(grid**2 * each for grid, each in zip(self.grids, self.per_cell, strict=True))

  def boxes(self) -> np.ndarray:
    """All of them, float32 [count, 4]: map by map, row by row, cell by cell.

    Sides beyond the image's are cut to them; boxes may reach over its borders.
    """
    return np.concatenate([self._of_map(k) for k in range(len(self.grids))])

  def _of_map(self, k: int) -> np.ndarray:
    grid = self.grids[k]
    step = self.image_size / grid if self.steps is None else self.steps[k]
    centres = (np.arange(grid) + 0.5) * step / self.image_size
    rows, columns = np.meshgrid(centres, centres, indexing='ij')
    middle = np.stack([rows, columns], -1)[:, :, None]
    sides = np.minimum(np.array(self._sides(k)) / self.image_size, 1.0)
    boxes = np.concatenate(np.broadcast_arrays(middle - sides / 2, middle + sides / 2), -1)
    return boxes.reshape(-1, 4).astype(np.float32)

  def _sides(self, k: int) -> Sequence[tuple[float, float]]:
    """(height, width) of each box of a cell, in pixels."""
    size, between = self.sizes[k], math.sqrt(self.sizes[k] * self.sizes[k + 1])
    found = [(size, size), (between, between)]
    for ratio in self.ratios[k]:
      long, short = size * math.sqrt(ratio), size / math.sqrt(ratio)
      found += [(short, long), (long, short)]
    return found


_GRIDS_300, _STEPS_300 = (38, 19, 10, 5, 3, 1), (8, 16, 32, 64, 100, 300)
_RATIOS_300 = ((2,), (2, 3), (2, 3), (2, 3), (2,), (2,))
SSD300_VOC = Anchors(300, _GRIDS_300, (30, 60, 111, 162, 213, 264, 315), _RATIOS_300, _STEPS_300)
SSD300_COCO = Anchors(300, _GRIDS_300, (21, 45, 99, 153, 207, 261, 315), _RATIOS_300, _STEPS_300)
SMALL_96 = Anchors(96, (12, 6, 3, 1), (14, 24, 42, 66, 90), ((2,), (2, 3), (2, 3), (2,)))
SSDLITE_300 = Anchors(
  300, (19, 10, 5, 3, 2, 1), (60, 105, 150, 195, 240, 285, 300), ((2,), *((2, 3),) * 5)
)
