"""What is taken from a network whose packed file has grown over its limit in the last training."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tf_keras as keras

from secateurs.learners.quant.pruning import pruned_kernels
from secateurs.learners.search.building import smallest_zero
from secateurs.utils.training.models.weights import kernels_by_name

_MAX_ROUNDS = 12
_LEAST = 0.002  # Of the weights that are left, in a round.


def trim(model: keras.Model, cost: Callable[[], float], limit: float) -> float:
  """Sets the smallest weights to zero, as large a part of each large kernel, until a limit is kept to.

  Training changes how evenly the values are used that weights share, and with it the length of their
  codes: a packed file may grow by some per cent. If the limit is not met in a few rounds, the network
  is left as it is then.

  Args:
    model: is changed.
    cost: of the network as it is.
    limit: of the cost.

  Returns:
    The fraction of the weights that were not zero that has gone.
  """
  kernels = pruned_kernels(kernels_by_name(model))
  whole, gone = {name: kernel.numpy() for name, kernel in kernels.items()}, 0.0
  for _ in range(_MAX_ROUNDS):
    over = cost() / limit - 1
    if over <= 0:
      break
    gone = min(gone + max(over, _LEAST), 1.0)
    for name, kernel in kernels.items():
      nb_kept = round((1 - gone) * np.count_nonzero(whole[name]))
      kernel.assign(smallest_zero(whole[name], nb_kept))
  return gone
