"""What an operator of a .tflite file is: its tensors, where its kernel has its channels, its layer."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

NONE, RELU, RELU6 = 0, 1, 3
"""Activations that an operator computes at its end."""


@dataclasses.dataclass(frozen=True)
class Slots:
  """Where an operator with a kernel has its inputs, and the kernel its channels.

  Attributes:
    data, kernel, bias: positions among the operator's inputs.
    makes: axis of the kernel along which the channels lie that it makes.
    takes: axis of those that it takes; None where it takes the one that it makes.
  """

  data: int
  kernel: int
  bias: int
  makes: int
  takes: int | None


KERNELS = {
  'CONV_2D': Slots(0, 1, 2, 0, 3),
  'DEPTHWISE_CONV_2D': Slots(0, 1, 2, 3, None),
  'FULLY_CONNECTED': Slots(0, 1, 2, 0, 1),
  'TRANSPOSE_CONV': Slots(2, 1, 3, 0, 3),
}
"""The operators whose kernels and biases are looked at, by kind."""


@dataclasses.dataclass(frozen=True)
class Operator:
  """One operator: number, kind, numbers of its tensors (-1 for none), options of its kind."""

  number: int
  kind: str
  inputs: tuple[int, ...]
  outputs: tuple[int, ...]
  options: Any

  @property
  def fused(self) -> int:
    """Number of the activation that it computes at its end."""
    return int(getattr(self.options, 'fusedActivationFunction', NONE) or NONE)


def layer_of(tensor: str, layers: Sequence[str]) -> str:
  """The name of the layer that a tensor's name mentions, the last in order; else its shortest part.

  Args:
    tensor: name of an output of an operator, which lists what was fused into it.
    layers: names of the network's layers in order.
  """
  places = {name: place for place, name in enumerate(layers)}
  parts = [part for piece in tensor.split(';') for part in piece.split('/')]
  known = [part for part in parts if part in places]
  if known:
    return max(known, key=places.get)
  return min(tensor.strip(';').split(';'), key=len)
