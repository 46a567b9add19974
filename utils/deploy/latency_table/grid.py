"""The numbers of channels at which segments are timed, and among which widths are chosen."""

from __future__ import annotations

_NB_OUTPUTS, _NB_INPUTS = 16, 4


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
