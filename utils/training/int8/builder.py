"""Makes a program: new tensors, and steps that compute them."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from secateurs.utils.graph.flat.walk import FlatModel
from secateurs.utils.training.int8.program import AFFINE, Program, Step

X, XY = [('x', None)], [('x', None), ('y', None)]
"""Names of the arguments of most operations on one and on two tensors."""


class Builder:
  """A program that grows, with the tensors of a flat model under their numbers.

  Attributes:
    program: what there is by now.
  """

  def __init__(self, flat: FlatModel) -> None:
    inputs = [number for number, _ in flat.inputs]
    self.program = Program(
      inputs,
      list(flat.outputs),
      shapes=dict(enumerate(flat.shapes)),
      dtypes=dict(enumerate(flat.dtypes)),
      dynamic=set(inputs),
    )
    self._last = len(flat.shapes) - 1
    self._variables: dict[int, int] = {}
    self._same: dict[int, int] = {}

  # Tensors.

  def of(self, number: int) -> int:
    """The number under which a tensor of the flat model is computed."""
    return self._same.get(number, number)

  def rename(self, number: int, made: int) -> None:
    """Notes that a tensor of the flat model is computed under another number."""
    self._same[number] = made

  def new(self, shape: tuple, dtype: tf.DType) -> int:
    """A number for a new tensor."""
    self._last += 1
    self.program.shapes[self._last], self.program.dtypes[self._last] = shape, dtype
    return self._last

  def constant(self, value: Any) -> int:
    """The number of a new constant."""
    value = np.asarray(value)
    number = self.new(value.shape, tf.as_dtype(value.dtype))
    self.program.sources[number] = value
    return number

  def variable(self, variable: tf.Variable) -> int:
    """The number of a variable, the same one each time."""
    if id(variable) not in self._variables:
      number = self.new(tuple(variable.shape), variable.dtype)
      self.program.sources[number] = variable
      self._variables[id(variable)] = number
    return self._variables[id(variable)]

  def is_constant(self, number: int) -> bool:
    """Whether a tensor does not depend on the network's inputs."""
    return number not in self.program.dynamic

  def number(self, number: int) -> float | None:
    """The value of a constant without axes; None for other tensors."""
    source = self.program.sources.get(number)
    return float(source) if isinstance(source, np.ndarray) and source.shape == () else None

  # Steps.

  def add(
    self, kind: str, inputs: list[int], outputs: list[int], layer: str, **options: Any
  ) -> None:
    """Adds a step."""
    self.program.steps.append(Step(kind, inputs, outputs, layer=layer, **options))
    if self.program.dynamic.intersection(inputs):
      self.program.dynamic.update(outputs)

  def expression(self, one: Any, layer: str) -> int:
    """The number of what an expression of constants gives.

    Args:
      one: a number, a variable, an array, or (operation, expression, ...).
      layer: that it is part of.
    """
    if isinstance(one, int):
      return one
    if isinstance(one, tf.Variable):
      return self.variable(one)
    if not isinstance(one, tuple):
      return self.constant(one)
    kind, *operands = one
    numbers = [self.expression(operand, layer) for operand in operands]
    shape = max((self.program.shapes[number] for number in numbers), key=len)
    output = self.new(shape, tf.float32)
    self.add(kind, numbers, [output], layer, arguments=XY[: len(numbers)])
    return output

  def add_affine(self, x: int, scale: Any, offset: Any, output: int, layer: str) -> None:
    """Adds x scale + offset, both given as expressions [channels]."""
    numbers = [self.expression(one, layer) for one in (scale, offset)]
    self.add(AFFINE, [x, *numbers], [output], layer)

  def flattened(self, number: int, layer: str) -> int:
    """A constant as one axis."""
    program = self.program
    shape = (int(np.prod(program.shapes[number], dtype=np.int64)),)
    output, size = self.new(shape, program.dtypes[number]), self.constant(np.int32(shape))
    arguments = [('tensor', None), ('shape', None)]
    self.add('Reshape', [number, size], [output], layer, arguments=arguments)
    return output
