"""Where zeros may lie: which weights of a kernel go together when some of them go.

A pattern turns a kernel's values and the number of weights that should stay into a mask, true for the
weights that do. Kernels are [..., inputs, outputs]; what goes first is what is smallest.
"""

from __future__ import annotations

import dataclasses
import re
from typing import Protocol

import numpy as np

from secateurs.utils.errors import UserError


class Pattern(Protocol):
  """Chooses which weights stay.

  Attributes:
    name: from which `pattern_of` makes the pattern again.
  """

  name: str

  def mask(self, weights: np.ndarray, nb_keep: int) -> np.ndarray:
    """Bool array of the weights' shape with about `nb_keep` true entries, at least one."""

  def fits(self, shape: tuple[int, ...]) -> bool:
    """Whether kernels of a shape can have the pattern."""


def top_k_mask(scores: np.ndarray, nb_keep: int) -> np.ndarray:
  """Marks the `nb_keep` greatest scores; of equal scores the first in C order stay.

  Args:
    scores: array of any shape, not negative, without NaN.
    nb_keep: how many to mark, in [0, scores.size].

  Returns:
    Boolean array of the same shape with exactly `nb_keep` true entries.

  Raises:
    ValueError: nb_keep is out of range, or a score is NaN.

  Linear in the number of scores (introselect for the threshold, no sort).
  """
  flat = np.ascontiguousarray(scores).reshape(-1)
  if not 0 <= nb_keep <= flat.size:
    raise ValueError(f'nb_keep must be in [0, {flat.size}], but {nb_keep} was given.')
  if nb_keep == 0:
    return np.zeros(scores.shape, bool)
  if np.isnan(flat).any():
    raise ValueError('scores hold NaN, so no choice can be made from them.')
  threshold = np.partition(flat, flat.size - nb_keep)[flat.size - nb_keep]
  mask = flat > threshold
  ties = np.flatnonzero(flat == threshold)
  mask[ties[: nb_keep - int(mask.sum())]] = True
  return mask.reshape(scores.shape)


@dataclasses.dataclass(frozen=True)
class Unstructured:
  """Any weight may go; exactly `nb_keep` stay."""

  name = 'unstructured'

  def mask(self, weights: np.ndarray, nb_keep: int) -> np.ndarray:
    """The greatest magnitudes stay."""
    return top_k_mask(np.abs(weights), nb_keep)

  def fits(self, shape: tuple[int, ...]) -> bool:
    """Every kernel has this pattern."""
    del shape
    return True


@dataclasses.dataclass(frozen=True)
class Blocks:
  """Weights go in blocks of some inputs times some outputs of one kernel position.

  Rows are the inputs of all kernel positions in C order, columns the outputs. Blocks at the edges are
  smaller where the sizes do not divide. The mean magnitude of a block counts, so that these are not
  at a disadvantage (Narang et al. 2017, "Block-Sparse Recurrent Neural Networks", take the largest).
  Blocks of whole k x k kernels are another pattern, `OneByN`. As many blocks stay as bring the number
  of weights nearest to `nb_keep`, at least one.
  """

  rows: int
  columns: int

  @property
  def name(self) -> str:
    """Such as blocks 1x4."""
    return f'blocks {self.rows}x{self.columns}'

  def mask(self, weights: np.ndarray, nb_keep: int) -> np.ndarray:
    """The blocks of the greatest mean magnitudes stay."""
    flat = np.abs(weights).reshape(-1, weights.shape[-1])
    heights = np.add.reduceat(np.ones(flat.shape[0]), self._starts(flat.shape[0], self.rows))
    widths = np.add.reduceat(np.ones(flat.shape[1]), self._starts(flat.shape[1], self.columns))
    sums = np.add.reduceat(flat, self._starts(flat.shape[0], self.rows), axis=0)
    sums = np.add.reduceat(sums, self._starts(flat.shape[1], self.columns), axis=1)
    sizes = np.outer(heights, widths)
    order = np.argsort(-(sums / sizes).ravel(), kind='stable')
    stay = np.cumsum(sizes.ravel()[order])
    number = int(np.argmin(np.abs(stay - nb_keep))) + 1
    chosen = np.zeros(sizes.size, bool)
    chosen[order[:number]] = True
    kept = np.repeat(chosen.reshape(sizes.shape), heights.astype(int), axis=0)
    return np.repeat(kept, widths.astype(int), axis=1).reshape(weights.shape)

  def fits(self, shape: tuple[int, ...]) -> bool:
    """Kernels with at least one whole block: depthwise ones, of one output an input, have none."""
    return int(np.prod(shape[:-1])) >= self.rows and shape[-1] >= self.columns

  @staticmethod
  def _starts(size: int, step: int) -> np.ndarray:
    return np.arange(0, size, step)


@dataclasses.dataclass(frozen=True)
class OneByN:
  """Blocks of `n` neighbouring outputs of one input, with all positions of the kernel.

  Lin et al. 2021, "1xN Pattern for Pruning Convolutional Neural Networks" (arXiv:2105.14713), section
  3.2: the blocks of the least L1 norms go, in each layer alone. As many blocks stay as bring the number
  of weights nearest to `nb_keep`, at least one. With `n` = 1 single k x k kernels go.
  """

  n: int

  @property
  def name(self) -> str:
    """Such as 1x4 kernels; 1x1 kernels are single ones."""
    return f'1x{self.n} kernels'

  def mask(self, weights: np.ndarray, nb_keep: int) -> np.ndarray:
    """The blocks of the greatest L1 norms stay."""
    *positions, inputs, outputs = weights.shape
    shape = (*positions, inputs, outputs // self.n, self.n)
    places = tuple(range(len(positions)))
    norms = np.abs(weights).reshape(shape).sum(axis=(*places, -1))
    size = int(np.prod(positions)) * self.n
    kept = top_k_mask(norms, min(max(int(nb_keep / size + 0.5), 1), norms.size))
    return np.broadcast_to(kept[..., None], shape).reshape(weights.shape).copy()

  def fits(self, shape: tuple[int, ...]) -> bool:
    """Kernels whose outputs fall into whole blocks, of several outputs."""
    return shape[-1] % self.n == 0 and shape[-1] > 1 and len(shape) > 1


@dataclasses.dataclass(frozen=True)
class MByN:
  """Of every `n` neighbouring inputs of an output, `m` are zero in the end.

  While fewer should be zero, the smallest of those that will be in the end are.
  """

  m: int
  n: int

  @property
  def name(self) -> str:
    """Such as 2 of 4."""
    return f'{self.m} of {self.n}'

  @property
  def ratio(self) -> float:
    """The fraction of zeros that the pattern has in the end."""
    return self.m / self.n

  def mask(self, weights: np.ndarray, nb_keep: int) -> np.ndarray:
    """The `m` smallest magnitudes of each group go, or the smallest of these."""
    *positions, inputs, outputs = weights.shape
    sizes = np.abs(weights).reshape(*positions, inputs // self.n, self.n, outputs)
    ranks = np.argsort(np.argsort(sizes, axis=-2, kind='stable'), axis=-2, kind='stable')
    candidates = (ranks < self.m).reshape(weights.shape)
    scores = np.where(candidates, np.abs(weights), np.inf)
    return top_k_mask(scores, max(nb_keep, int((~candidates).sum())))

  def fits(self, shape: tuple[int, ...]) -> bool:
    """Kernels whose inputs fall into whole groups, of several outputs."""
    return shape[-2] % self.n == 0 and shape[-1] > 1


def pattern_of(name: str) -> Pattern:
  """The pattern of a name, such as unstructured, blocks 1x4, 1x4 kernels or 2 of 4.

  Raises:
    UserError: no pattern has that name.
  """
  if name == Unstructured.name:
    return Unstructured()
  if found := re.fullmatch(r'blocks ([1-9]\d*)x([1-9]\d*)', name):
    return Blocks(int(found[1]), int(found[2]))
  if found := re.fullmatch(r'1x([1-9]\d*) kernels', name):
    return OneByN(int(found[1]))
  if found := re.fullmatch(r'([1-9]\d*) of ([1-9]\d*)', name):
    return MByN(int(found[1]), int(found[2]))
  raise UserError(
    f'{name!r} is no pattern of zeros, expected {Unstructured.name}, blocks <inputs>x<outputs>, '
    '1x<outputs> kernels or <zeros> of <neighbours>.'
  )
