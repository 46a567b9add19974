"""What of a program is folded together, and which results are rounded: as TensorFlow Lite does it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import tensorflow as tf

from secateurs.utils.names import unique_name
from secateurs.utils.training.int8.kinds import (
  BETWEEN,
  FIXED,
  MIXING,
  MOVING,
  PRELU,
  SUMS,
  UNBOUNDED,
  WITH_CONSTANTS,
  Rule,
)
from secateurs.utils.training.int8.linear import (
  ACTIVATIONS,
  Linear,
  channels_of,
  is_product,
  rounded_constant,
  rounded_kernel,
  rounded_offset,
)
from secateurs.utils.training.int8.program import (
  LAYER,
  Program,
  Step,
  run_step,
  source_values,
)

Round = Callable[[int, Rule, tf.Tensor], tf.Tensor]
"""Rounds a tensor, given its number and rule."""
StepOf = Callable[[Rule], tf.Tensor]
"""The step of a tensor's range, given its rule."""
Constants = dict[tuple[str, int], tf.Tensor | None]
"""What does not depend on inputs: ('value', number), ('rounded', number), and for the results of
products ('kernel', number) and ('offset', number)."""


class Plan:
  """A program with what is folded and rounded.

  Attributes:
    program: what is computed.
    rules: how tensors are rounded, by number.
  """

  def __init__(self, program: Program) -> None:
    self.program = program
    self.rules: dict[int, Rule] = {}
    self._layers = {step.layer for step in program.steps}
    self._names: set[str] = set()
    self._readers = program.readers()
    self._linears: dict[int, Linear] = {}  # By the number of the result.
    self._passed: dict[int, int] = {}  # Results of folded steps: the tensor that they are.
    self._like: dict[int, int] = {}  # Tensors of the range of another one.
    for place, number in enumerate(program.inputs):
      if program.dtypes[number].is_floating:
        self._names.add(name := f'input{place or ""}')
        self.rules[number] = Rule(name)
    self._steps = [step for step in program.steps if program.is_dynamic(step)]
    for step in self._steps:
      if step.outputs[0] not in self._passed:
        self._add(step)
    self._last = {number: step for step in self._steps for number in step.inputs}

  # Choosing.

  def _add(self, step: Step) -> None:
    program = self.program
    if is_product(step) and step.inputs[1] not in program.dynamic:
      self._add_linear(step)
      return
    moved = (n for n in step.inputs if n in program.dynamic and program.dtypes[n].is_floating)
    source = next(moved, -1)
    for number in step.outputs:
      if not program.dtypes[number].is_floating:
        continue
      if self._keeps_range(step, source):
        self._like[number] = self._root(source)
        if step.kind in MIXING:
          self.rules[number] = Rule(like=self._root(source))
      elif not self._is_inside(step, number):
        fixed = None if step.unit else FIXED.get(step.kind)
        self.rules[number] = (
          self._own(step.layer, step.kind not in UNBOUNDED) if fixed is None else Rule(fixed=fixed)
        )

  def _root(self, number: int) -> int:
    return self._like.get(number, number)

  def _keeps_range(self, step: Step, source: int) -> bool:
    """Whether a step only moves or mixes values that have a range."""
    keeps = step.attrs.get('moves') if step.kind == LAYER else step.kind in MOVING | MIXING
    return bool(keeps) and self._root(source) in self.rules

  def _is_inside(self, step: Step, number: int) -> bool:
    """Whether a result is used up inside the operator that makes it."""
    readers = self._readers.get(number, [])
    if number in self.program.outputs:
      return False
    if step.unit and all(reader.unit == step.unit for reader in readers):
      return True
    return step.kind in SUMS and len(readers) == 1 and readers[0].kind in ACTIVATIONS

  def _own(self, layer: str, moves: bool = True) -> Rule:
    name = unique_name(layer, self._names, self._layers)
    self._names.add(name)
    return Rule(name, moves=moves)

  def _add_linear(self, step: Step) -> None:
    program = self.program
    linear = Linear(step, channels_of(step, program))
    result = number = step.outputs[0]
    layer = step.layer
    while number not in program.outputs and len(self._readers.get(number, ())) == 1:
      (reader,) = self._readers[number]
      if reader.unit != step.unit or linear.activation:
        break
      if linear.takes(reader, number, program):
        linear.absorbed.append(reader)
      elif reader.kind in ACTIVATIONS:
        linear.activation = reader.kind
      elif self._keeps_channels(linear, reader, number):
        number = reader.outputs[0]
        continue
      else:
        break
      self._passed[reader.outputs[0]] = number
      self._like[reader.outputs[0]] = result
      number, layer = reader.outputs[0], reader.layer
    self._linears[result] = linear
    self.rules[result] = self._own(layer)

  def _keeps_channels(self, linear: Linear, reader: Step, number: int) -> bool:
    """Whether a step moves places alone, so that what follows it can come before it."""
    shapes = self.program.shapes
    before, after = shapes[number], shapes[reader.outputs[0]]
    return (
      reader.kind in BETWEEN
      and reader.inputs[0] == number
      and len(linear.channels) == 1
      and before[-1:] == after[-1:] == linear.channels
    )

  # Computing.

  def constants(self, *, rounded: bool = True) -> Constants:
    """All that does not depend on inputs and is read by what does.

    Args:
      rounded: whether kernels and constant operands are on their grids.
    """
    program, found = self.program, {}
    values = source_values(program.sources)
    for step in program.steps:
      if not program.is_dynamic(step):
        made = run_step(step, [values[number] for number in step.inputs])
        values.update(zip(step.outputs, made, strict=True))
    for step in self._steps:
      result = step.outputs[0]
      if result in self._passed:
        continue
      linear = self._linears.get(result)
      if linear is not None:
        kernel, offset = linear.folded(values)
        found['kernel', result] = rounded_kernel(kernel) if rounded else kernel
        found['offset', result] = offset
      for place, number in enumerate(step.inputs):
        if number in values and not (linear and place):
          found['value', number] = values[number]
        if number in values and self._is_rounded(step, number):
          value = values[number]
          found['rounded', number] = rounded_constant(value) if rounded else value
    return found

  def _is_rounded(self, step: Step, number: int) -> bool:
    """Whether a constant operand is an integer tensor in the file, too."""
    # The numbers of a GELU are in its operator.
    alone = step.unit.rpartition('/')[2] in ('', PRELU)
    return alone and step.kind in WITH_CONSTANTS and self.program.dtypes[number].is_floating

  def run(
    self,
    inputs: Sequence[tf.Tensor],
    constants: Constants,
    round_: Round,
    *,
    training: bool = False,
    step_of: StepOf | None = None,
  ) -> list[tf.Tensor]:
    """The outputs.

    Args:
      inputs: of the network.
      constants: of `constants()`.
      round_: what is done to each tensor that has a rule.
      training: whether layers that stay whole train.
      step_of: for biases in whole numbers; without it they are exact.
    """
    program, values = self.program, {}

    def put(number: int, tensor: tf.Tensor) -> None:
      rule = self.rules.get(number)
      values[number] = tensor if rule is None else round_(number, rule, tensor)

    for number, tensor in zip(program.inputs, inputs, strict=True):
      put(number, tensor)
    for step in self._steps:
      result = step.outputs[0]
      if result in self._passed:
        values[result] = values[self._passed[result]]
      else:
        operands = [
          values[number] if number in program.dynamic else self._operand(step, number, constants)
          for number in step.inputs
        ]
        with tf.name_scope(step.layer):
          made = self._made(step, operands, constants, training, step_of)
          for number, tensor in zip(step.outputs, made):
            put(number, tensor)
      for number in {*step.inputs, *step.outputs}.difference(program.outputs):
        if self._last.get(number, step) is step:
          values.pop(number, None)  # Maps of all layers together may not fit into memory.
    return [values[number] for number in program.outputs]

  def _operand(self, step: Step, number: int, constants: Constants) -> tf.Tensor | None:
    kind = 'rounded' if self._is_rounded(step, number) else 'value'
    return constants.get((kind, number))

  def _made(
    self,
    step: Step,
    operands: list,
    constants: Constants,
    training: bool,
    step_of: StepOf | None,
  ) -> list[tf.Tensor]:
    result = step.outputs[0]
    if result not in self._linears:
      return run_step(step, operands, training)
    kernel, offset = constants['kernel', result], constants['offset', result]
    rule = self.rules.get(self._root(step.inputs[0]))
    if step_of is not None and rule is not None and offset is not None:
      offset = rounded_offset(offset, kernel, step_of(rule))
    shape = self.program.shapes[step.inputs[1]]
    return [self._linears[result].run(operands, kernel, offset, shape)]
