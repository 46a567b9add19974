"""Refits the kernel rows of one layer that stay, and puts them into the network."""

from __future__ import annotations

from typing import Any

import numpy as np

from secateurs.learners.channels.repair.method import Method
from secateurs.utils.training.layerwise.channel_choice import (
  channel_moments,
)
from secateurs.utils.training.layerwise.features import Features
from secateurs.utils.training.layerwise.least_squares import Moments, refit
from secateurs.utils.training.layerwise.linear import (
  kernel_of,
  row_channels,
)
from secateurs.utils.training.layerwise.readers import Reader
from secateurs.utils.training.layerwise.targets import Target, has_shift
from secateurs.utils.training.layerwise.thinet import scalars


def scarcity(moments: Moments) -> float:
  """What is added to the ridge where samples are few: 0.1 (rows / samples)^2, at most 0.1."""
  return 0.1 * min(len(moments.gram) / moments.count, 1.0) ** 2


def refit_rows(
  moments: Moments,
  rows: np.ndarray,
  weights: np.ndarray,
  owner: np.ndarray,
  scale: np.ndarray,
  method: Method,
) -> np.ndarray:
  """The weights [p, q] of a layer of which only some rows stay.

  Args:
    moments: of the whole problem.
    rows: bool array [p].
    weights: [p, q], as they are.
    owner: int array [p], the channel of each row.
    scale: [q], how much an error of each output counts.
    method: how.
  """
  ridge = method.ridge + scarcity(moments)
  if not method.scalar:
    return refit(moments, rows, ridge, weights, weights != 0 if method.keep_zeros else None)
  size = int(owner.max()) + 1
  problem = channel_moments([Reader(moments, weights, owner, scale)], size)
  keep = np.bincount(owner, rows, size) > 0
  factors = scalars(problem.gram, problem.cross, keep, ridge)
  return np.where(rows[:, None], weights * factors[owner][:, None], 0.0)


def assign(
  features: Features,
  target: Target,
  moments: Moments,
  weights: np.ndarray,
  rows: np.ndarray,
  method: Method,
) -> dict[str, Any]:
  """Puts the masked or refit weights into the pruned network.

  Args:
    features: of both networks.
    target: the layer, and what its outputs should be.
    moments: of its inputs and outputs.
    weights: its kernel as a matrix, [rows, outputs].
    rows: which rows stay, bool [rows].
    method: how they are refit.

  Returns:
    The layer's name and its errors before and after, as fractions of the outputs' variance.
  """
  name = target.call.name
  layer = features.pruned.layers()[name]
  squares = features.scale(target) ** 2
  total = float(moments.energy @ squares) or 1.0
  masked = np.where(rows[:, None], weights, 0.0)
  record = {'name': name, 'error_before': float(moments.error_as_is(masked) @ squares) / total}
  new, shift = masked, np.zeros(weights.shape[1])
  refits = method.refit and layer.trainable  # A frozen layer keeps its weights.
  if refits:
    owner = row_channels(layer)
    new = refit_rows(moments, rows, weights, owner, features.scale(target), method)
    shift = moments.shift(new)
    record['error_after'] = float(moments.error(new) @ squares) / total
  kernel_of(layer).assign(new.reshape(kernel_of(layer).shape))
  changed = {name}
  if refits and has_shift(target):
    if layer.use_bias:
      layer.bias.assign_add(shift)
    else:
      features.pruned.layers()[target.norm].moving_mean.assign_sub(shift)
      changed.add(target.norm)
  features.changed(changed)
  return record
