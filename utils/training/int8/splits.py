"""Divisions of tensors that the converter of TensorFlow Lite 2.21 may leave in float.

Those of which some parts are not read, such as the gates of an LSTM's first step: an unread part has
no range. And those of gates in general: one conversion in four of the same network left them.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import tensorflow as tf

from secateurs.utils.training.int8.program import Program, Step

_VALUES = {'Split': (1, 0), 'SplitV': (0, 2)}
"""Positions of what is divided and of the axis among the inputs."""
_ARGUMENTS = [('input', None), ('begin', None), ('size', None)]


def cut_splits(program: Program, recurrent: Collection[str]) -> None:
  """Has each part that is read cut out alone, in some layers or where other parts are not read.

  Args:
    program: changed in place.
    recurrent: names of layers all of whose divisions are replaced.
  """
  readers, steps = program.readers(), []
  for step in program.steps:
    read = [number for number in step.outputs if number in readers or number in program.outputs]
    alone = len(read) < len(step.outputs) or step.layer in recurrent
    if step.kind in _VALUES and alone:
      steps += _slices(program, step, read)
    else:
      steps.append(step)
  program.steps = steps


def _slices(program: Program, step: Step, read: list[int]) -> list[Step]:
  value, axis = (step.inputs[position] for position in _VALUES[step.kind])
  rank = len(program.shapes[value])
  place = int(program.sources[axis]) % rank
  starts = np.cumsum([0, *(program.shapes[number][place] for number in step.outputs)])
  found = []
  for number, start in zip(step.outputs, starts, strict=False):
    if number in read:
      begin, size = np.zeros(rank, np.int32), np.full(rank, -1, np.int32)
      begin[place], size[place] = start, program.shapes[number][place]
      inputs = [value, _constant(program, begin), _constant(program, size)]
      found.append(
        Step('Slice', inputs, [number], arguments=_ARGUMENTS, layer=step.layer, unit=step.unit)
      )
  return found


def _constant(program: Program, value: np.ndarray) -> int:
  number = max(program.shapes) + 1
  program.sources[number], program.shapes[number] = value, value.shape
  program.dtypes[number] = tf.as_dtype(value.dtype)
  return number
