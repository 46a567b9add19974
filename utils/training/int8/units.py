"""Operations that TensorFlow Lite makes one operator of: only what comes out of that is rounded."""

from __future__ import annotations

import dataclasses

import numpy as np

from secateurs.utils.training.int8.program import Program, Step

HARD_SWISH = 'HardSwish'
_ADDITIONS = ('AddV2', 'Add')
_TOLERANCE = 1e-6


def mark_hard_swish(program: Program) -> None:
  """Makes a unit of each x relu6(x + 3) / 6, in whatever order it is multiplied.

  MobileNetV3 has it as layers (Howard et al. 2019, arXiv:1905.02244, section 5.2).
  """
  made = {number: step for step in program.steps for number in step.outputs}
  readers = program.readers()
  units: dict[int, str] = {}
  for step in program.steps:
    if step.kind == 'Relu6' and not step.unit:
      parts = _parts(program, step, made, readers)
      units.update({id(part): f'{parts[-1].layer}/{HARD_SWISH}_{id(step)}' for part in parts})
  program.steps = [
    dataclasses.replace(step, unit=units[id(step)]) if id(step) in units else step
    for step in program.steps
  ]


def _parts(
  program: Program, relu: Step, made: dict[int, Step], readers: dict[int, list[Step]]
) -> list[Step]:
  """The steps of a hard swish in order, given its ReLU6; none where it is another function."""
  add = made.get(relu.inputs[0])
  if add is None or add.kind not in _ADDITIONS or _only(readers, add) is not relu:
    return []
  x, three = sorted(add.inputs, key=lambda number: number not in program.dynamic)
  if not _is(program, made, three, 3.0):
    return []
  parts, waiting = [add, relu], {'x', 'sixth'}
  while waiting:
    number = parts[-1].outputs[0]
    reader = _only(readers, parts[-1])
    if reader is None or reader.kind != 'Mul' or number in program.outputs:
      return []
    other = reader.inputs[reader.inputs[0] == number]
    found = 'x' if other == x else 'sixth' if _is(program, made, other, 1 / 6) else ''
    if found not in waiting:
      return []
    waiting.remove(found)
    parts.append(reader)
  return parts


def _only(readers: dict[int, list[Step]], step: Step) -> Step | None:
  """What alone reads a step's result."""
  found = readers.get(step.outputs[0], [])
  return found[0] if len(found) == 1 else None


def _is(program: Program, made: dict[int, Step], number: int, value: float) -> bool:
  """Whether a tensor is one constant number."""
  source = program.sources.get(number)
  if source is None and number in made and made[number].kind == 'Reciprocal':
    return _is(program, made, made[number].inputs[0], 1 / value)
  known = isinstance(source, np.ndarray) and source.size == 1
  return known and abs(float(source.reshape(())) - value) < _TOLERANCE * abs(value)
