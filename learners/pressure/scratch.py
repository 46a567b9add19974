"""Training from random weights as Network Slimming does."""

from __future__ import annotations

import tf_keras as keras

from secateurs.utils.training.models.batch_norm import batch_norms
from secateurs.utils.training.models.weights import copy_weights

FIRST_SCALE = 0.5


def begin(model: keras.Model, fresh: keras.Model) -> None:
  """Gives a network the weights of a fresh one, and scales of 0.5 (the code of Liu et al. 2017)."""
  copy_weights(fresh, model)
  for layer in batch_norms(model):
    if layer.gamma is not None:
      layer.gamma.assign(layer.gamma * 0 + FIRST_SCALE)
