"""Channels that carry one number everywhere, and how they pass through a network.

A filter whose weights are all zero still emits its bias, and a BatchNorm whose gamma is zero its
beta. Such a channel is a constant: one value at every position of the map. A constant that meets a
convolution may be added to that convolution's bias instead.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class Constant:
  """Which channels of a tensor are constant.

  Attributes:
    value: float array [channels]; NaN where the channel is not one known number.
    spoiled: bool array [channels]; True where the channel carries no signal, yet is not one
      number everywhere (zero padding around a constant, say).
  """

  value: np.ndarray
  spoiled: np.ndarray

  @staticmethod
  def live(size: int) -> Constant:
    """All channels carry a signal."""
    return Constant(np.full(size, np.nan), np.zeros(size, bool))

  @staticmethod
  def of(value: np.ndarray) -> Constant:
    """From values; NaN means that the channel carries a signal."""
    return Constant(value, np.zeros(len(value), bool))

  @staticmethod
  def merged(ins: Sequence[Constant], value: np.ndarray) -> Constant:
    """The outcome of element-wise work: a signal in any input makes a signal.

    Args:
      ins: constants of the operands, same channels each.
      value: what the operation gives, NaN wherever an operand is NaN.
    """
    silent = np.logical_and.reduce([one.silent for one in ins])
    value = np.where(silent, value, np.nan)
    return Constant(value, silent & np.isnan(value))

  @staticmethod
  def unknown(ins: Sequence[Constant], size: int) -> Constant:
    """What a layer without a rule for constants gives: no known value.

    Channels count as silent only where one input of equal size says so.
    """
    silent = np.zeros(size, bool)
    if len(ins) == 1 and len(ins[0].value) == size:
      silent = ins[0].silent
    return Constant(np.full(size, np.nan), silent)

  @property
  def silent(self) -> np.ndarray:
    """Bool array: no signal, whether or not the value is known."""
    return self.spoiled | ~np.isnan(self.value)
