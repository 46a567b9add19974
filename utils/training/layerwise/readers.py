"""A layer as the choice among its input channels sees it."""

from __future__ import annotations

import dataclasses

import numpy as np

from secateurs.utils.training.layerwise.least_squares import Moments


@dataclasses.dataclass(frozen=True)
class Reader:
  """One layer that reads the channels to choose from.

  Attributes:
    moments: of its input rows X [n, p] against what it should give, Y [n, q].
    weights: [p, q].
    owner: int array [p], the channel of each row, in 0..nb_channels-1.
    scale: [q], how much an error of each output counts (its square does).
  """

  moments: Moments
  weights: np.ndarray
  owner: np.ndarray
  scale: np.ndarray

  @property
  def total(self) -> float:
    """Weighted energy of Y, which makes layers comparable."""
    return float(self.moments.energy @ self.scale**2) or 1.0
