"""The numbers of channels at which segments are timed, and among which widths are chosen."""

from __future__ import annotations

from collections.abc import Sequence

_NB_OUTPUTS, _NB_INPUTS = 16, 4
OUTPUT_STEP, INPUT_STEP = 1.08, 1.6
"""Between numbers of channels of layers of one key that are timed together: ratios, see `merged`."""


def output_grid(size: int) -> list[int]:
  """Numbers of channels that a layer of a size may make, rising: multiples of 4 or more, and all.

  Kernels compute 8, 16 or 32 channels at a time, so that what lies between is no faster.
  """
  step = max(-(-size // (4 * _NB_OUTPUTS)) * 4, 4)
  return sorted({*range(step, size, step), size})


def input_grid(size: int) -> list[int]:
  """Numbers of channels that a layer may take: few, because time is linear in them."""
  found = {max(round(size * n / _NB_INPUTS / 4) * 4, 4) for n in range(1, _NB_INPUTS)}
  return sorted({size, *(n for n in found if n < size)})


def merged(axes: Sequence[Sequence[int]], step: float) -> list[int]:
  """One rising axis for several layers: the last number of each, others a ratio `step` apart.

  Layers of one key differ in their sizes, and the product of all of their numbers would be many files
  that differ little.
  """
  every = sorted(set().union(*axes))
  if len(every) == max(map(len, axes)):
    return every
  found: list[int] = []
  for number in every:
    if not found or number >= step * found[-1] or any(number == axis[-1] for axis in axes):
      found.append(number)
  return found
