"""A network as a list of TensorFlow operations, in which 8 bits can be simulated at each of them.

Layers are opened: TensorFlow Lite makes operators of the operations inside, such as the mean and the
reciprocal root of a LayerNormalization, and an integer file rounds each of their results.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

# What gives NaN gradients at a zero that rounding has made.
_POSITIVE = ('Rsqrt', 'Sqrt', 'Log')
_TINY = 1e-12


@dataclasses.dataclass
class Step:
  """One operation, or one call of a layer that stays whole.

  Attributes:
    kind: type of the TensorFlow operation; AFFINE, CONTRACT and LAYER are those of this package.
    inputs: numbers of the tensors that go in.
    outputs: numbers of the tensors that come out.
    attrs: attributes of the operation beside the types of its inputs.
    arguments: names of its arguments, with the number of tensors of each, None for a single one.
    name: of the operation inside its layer.
    layer: name of the layer that it is part of.
    unit: name of the operations that TensorFlow Lite makes one operator of; '' for one alone.
    whole: for LAYER, calls the layer with tensors and the mode of training.
  """

  kind: str
  inputs: list[int]
  outputs: list[int]
  attrs: dict[str, Any] = dataclasses.field(default_factory=dict)
  arguments: list[tuple[str, int | None]] = dataclasses.field(default_factory=list)
  name: str = ''
  layer: str = ''
  unit: str = ''
  whole: Callable[..., Any] | None = None


AFFINE = 'Affine'
"""x scale + offset over the last axis; scale and offset do not depend on the network's inputs."""
CONTRACT = 'Contract'
"""The last n axes of x against the first n of a constant; the others of both stay. Attribute: n."""
LAYER = 'Layer'
"""A layer that stays whole. Attribute `moves`: it gives its input back when it does not train."""


@dataclasses.dataclass
class Program:
  """Steps in topological order.

  Attributes:
    inputs: numbers of the network's inputs.
    outputs: numbers of its outputs.
    steps: what is computed.
    sources: constants and variables by number.
    shapes: static shapes by number, where they are known.
    dtypes: types by number.
    dynamic: numbers of the tensors that depend on inputs.
  """

  inputs: list[int]
  outputs: list[int]
  steps: list[Step] = dataclasses.field(default_factory=list)
  sources: dict[int, np.ndarray | tf.Variable] = dataclasses.field(default_factory=dict)
  shapes: dict[int, tuple] = dataclasses.field(default_factory=dict)
  dtypes: dict[int, tf.DType] = dataclasses.field(default_factory=dict)
  dynamic: set[int] = dataclasses.field(default_factory=set)

  def readers(self) -> dict[int, list[Step]]:
    """The steps that read each tensor."""
    found: dict[int, list[Step]] = {}
    for step in self.steps:
      for number in dict.fromkeys(step.inputs):
        found.setdefault(number, []).append(step)
    return found

  def is_dynamic(self, step: Step) -> bool:
    """Whether a step depends on the network's inputs."""
    return any(number in self.dynamic for number in step.outputs)

  def prune(self) -> None:
    """Drops the steps that no output depends on."""
    needed, kept = set(self.outputs), []
    for step in reversed(self.steps):
      if needed.intersection(step.outputs):
        kept.append(step)
        needed.update(step.inputs)
    self.steps = kept[::-1]


def run_step(step: Step, values: Sequence[tf.Tensor], training: bool = False) -> list[tf.Tensor]:
  """What a step gives for its inputs."""
  if step.whole is not None:
    return tf.nest.flatten(step.whole(*values, training=training))
  if training and step.kind in _POSITIVE:
    values = [tf.maximum(values[0], _TINY)]
  values, arguments = list(values), {}
  for name, size in step.arguments:
    arguments[name] = values.pop(0) if size is None else [values.pop(0) for _ in range(size)]
  found = getattr(tf.raw_ops, step.kind)(**arguments, **step.attrs, name=step.name or None)
  return list(found) if isinstance(found, (list, tuple)) else [found]


def source_values(sources: Mapping[int, np.ndarray | tf.Variable]) -> dict[int, tf.Tensor]:
  """Constants and the values of variables, as tensors."""
  return {number: tf.convert_to_tensor(value) for number, value in sources.items()}
