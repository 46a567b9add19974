"""How channels are chosen and weights refit in a sequential pass."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping

import numpy as np

from secateurs.utils.training.layerwise.maps import MapStore

_NB_POINTS = 10
NB_BATCHES = 30  # Batches of samples, where memory allows.


@dataclasses.dataclass(frozen=True)
class Method:
  """How channels are chosen and weights refit.

  Attributes:
    selection: a criterion of kind `moments`, or one of kind `score`, whose scores are given.
    alternating: for lasso, the alternating scheme instead of the two steps.
    refit: whether the weights are refit at all; with lasso they are scaled by beta otherwise.
    scalar: whether they are refit by one factor for each channel only (Luo et al. 2017).
    refit_all: whether layers that keep all inputs are refit, too, where these have changed.
    ridge: strength of the penalty, see `least_squares.solve`; more where samples are few.
    keep_zeros: whether weights that are zero stay zero.
    seed: of the random selection and of the sampled positions.
    nb_points: positions sampled per image and layer.
    scores: float [unit.size] by unit name, where the criterion gives scores; higher stays.
    store: gives a store of feature maps; default: all in memory.
  """

  selection: str = 'lasso'
  alternating: bool = False
  refit: bool = True
  scalar: bool = False
  refit_all: bool = False
  ridge: float = 1e-4
  keep_zeros: bool = False
  seed: int = 0
  nb_points: int = 10
  scores: Mapping[str, np.ndarray] | None = None
  store: Callable[[], MapStore] = MapStore

  @property
  def scales(self) -> bool:
    """Whether weights are scaled by the coefficients of LASSO, because nothing is refit."""
    return self.selection == 'lasso' and not self.refit


def nb_points(nb_batches: int, wanted: int = NB_BATCHES) -> int:
  """Points per image and layer that make up for batches that are left out of those wanted."""
  return math.ceil(_NB_POINTS * max(wanted / nb_batches, 1))
