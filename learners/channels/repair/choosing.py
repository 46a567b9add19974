"""The choice of a unit's channels from what the layers that read it lose."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np
import tf_keras as keras

from secateurs.learners.channels.criteria.ranking import best
from secateurs.learners.channels.cuts.units import Unit
from secateurs.learners.channels.repair.method import Method
from secateurs.utils.training import distributed
from secateurs.utils.training.layerwise.channel_choice import (
  choose,
  scaled_by_lasso,
)
from secateurs.utils.training.layerwise.least_squares import Moments
from secateurs.utils.training.layerwise.linear import (
  kernel_matrix,
  row_channels,
)
from secateurs.utils.training.layerwise.readers import Reader


def reader_of(
  unit: Unit, name: str, layer: keras.layers.Layer, moments: Moments, scale: np.ndarray
) -> Reader:
  """A layer as the choice of a unit's channels sees it: other channels as they are."""
  weights, owner = kernel_matrix(layer), unit.elements[name][row_channels(layer)]
  mine = owner >= 0
  return Reader(moments.block(mine, weights), weights[mine], owner[mine], scale)


def choose_channels(
  unit: Unit, readers: Sequence[Reader], nb_keep: int, method: Method
) -> np.ndarray:
  """The channels that stay of a unit, bool array [unit.size]; all processes take the chief's choice.

  Args:
    unit: what to choose from.
    readers: the layers that read it.
    nb_keep: how many stay.
    method: how.
  """
  if method.scores is not None:
    return distributed.from_chief(lambda: best(method.scores[unit.name], nb_keep))
  rng = np.random.default_rng([method.seed, zlib.crc32(unit.name.encode())])
  return distributed.from_chief(
    lambda: choose(
      readers,
      unit.size,
      nb_keep,
      method.selection,
      ridge=method.ridge,
      rng=rng,
      alternating=method.alternating,
    )
  )


def scale_channels(
  unit: Unit, readers: Sequence[Reader], nb_keep: int, method: Method
) -> list[np.ndarray]:
  """The readers' weights as LASSO leaves them, the same on all processes; see `scaled_by_lasso`."""
  return distributed.from_chief(
    lambda: scaled_by_lasso(
      readers, unit.size, nb_keep, method.ridge, alternating=method.alternating
    )
  )
