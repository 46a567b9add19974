"""Describes a network to an experiment: its name, how to build it, which weights fit."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np
import tf_keras as keras

Shape = tuple[int, int, int]
Weights = Mapping[str, np.ndarray]


def unchanged(weights: Weights) -> Weights:
  """Returns weights that already have the network's names."""
  return weights


@dataclasses.dataclass(frozen=True)
class Network:
  """One network of a family.

  Attributes:
    name: name such as `resnet20`.
    build: builds the model from (height, width, channels) and the number of classes.
    own_weights: renames weights of known other sources; returns all others unchanged.
  """

  name: str
  build: Callable[[Shape, int], keras.Model]
  own_weights: Callable[[Weights], Weights] = unchanged


def width_suffix(factor: float) -> str:
  """Returns the suffix of a network's name for a width multiplier."""
  return '' if factor == 1.0 else f'_{factor:g}'
