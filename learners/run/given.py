"""Weights that the user gave a network to start from."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from secateurs.learners.run.configs import RunConfig
from secateurs.learners.run.helper import Helper
from secateurs.learners.run.settings import Settings
from secateurs.utils.errors import UserError
from secateurs.utils.training.models.structured_weights import STRUCTURED, read_structured
from secateurs.utils.training.models.weight_files import read_weights


def given_weights(settings: Settings) -> tuple[dict[str, np.ndarray], str] | None:
  """Weights by name and where they come from: --warm_start_path, or those that the network came with.

  Raises:
    UserError: the file cannot be read, or has numbers that no network can compute with.
  """
  helper, path = settings.helper, settings.run.warm_start_path
  if path:
    return weights_of(settings, path), path
  weights, source = helper.given_weights(), f'the weights that {helper.net} came with'
  return None if weights is None else (_usable(weights, source), source)


def came_trained(helper: Helper, run: RunConfig | None) -> bool:
  """Whether the network has such weights; they are not read from --warm_start_path."""
  return bool(run is not None and run.warm_start_path) or helper.given_weights() is not None


def weights_of(settings: Settings, path: str | Path) -> dict[str, np.ndarray]:
  """Weights of the run's network by its own names, from any file of weights.

  A `.weights.h5` file has no names: it is read through the network itself.

  Raises:
    UserError: the file cannot be read, has numbers that are not finite, or belongs to another network.
  """
  helper = settings.helper
  if str(path).endswith(STRUCTURED):
    found = read_structured(path, helper.build_model(settings.run.seed))
  else:
    found = dict(helper.own_weights(read_weights(path)))
  return _usable(found, str(path))


def _usable(weights: dict[str, np.ndarray], source: str) -> dict[str, np.ndarray]:
  for name, values in weights.items():
    if name.endswith('/moving_variance') and np.min(values, initial=0) < 0:
      raise UserError(
        f'{name} has variances below 0 ({source}), which the network takes the root of: train the '
        'network again, or take an earlier copy of it.'
      )
    wrong = values.size - int(np.isfinite(values).sum()) if values.dtype.kind == 'f' else 0
    if wrong:
      raise UserError(
        f'{wrong} of {values.size} numbers of {name} are NaN or infinite ({source}), but finite ones '
        'were expected: train the network again, or take an earlier copy of it.'
      )
  return weights
