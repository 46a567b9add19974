"""What an experiment needs to know of a network: its name, how it is built, whose weights fit."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np
import tf_keras as keras

Shape = tuple[int, int, int]
Weights = Mapping[str, np.ndarray]


def unchanged(weights: Weights) -> Weights:
  """Weights whose names are the network's own."""
  return weights


@dataclasses.dataclass(frozen=True)
class Network:
  """One network of a family.

  Attributes:
    name: such as `resnet20`.
    build: makes the model from (height, width, channels) and the number of classes.
    own_weights: renames the weights of other sources that it knows, and gives others back as they are.
  """

  name: str
  build: Callable[[Shape, int], keras.Model]
  own_weights: Callable[[Weights], Weights] = unchanged


def width_suffix(factor: float) -> str:
  """What a factor of all widths adds to a network's name."""
  return '' if factor == 1.0 else f'_{factor:g}'
