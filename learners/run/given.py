"""Weights that the user gave a network to start from."""

from __future__ import annotations

import numpy as np

from secateurs.learners.run.settings import Settings
from secateurs.utils.training.models.weight_files import read_weights


def given_weights(settings: Settings) -> tuple[dict[str, np.ndarray], str] | None:
  """Weights by name and where they come from: --warm_start_path, or those that the network came with.

  Raises:
    UserError: the file cannot be read.
  """
  helper, path = settings.helper, settings.run.warm_start_path
  if path:
    return dict(helper.own_weights(read_weights(path))), path
  weights = helper.given_weights()
  return None if weights is None else (weights, f'the weights that {helper.net} came with')
