"""Runs a full-integer .tflite file in NumPy, and compares it with TensorFlow Lite's own kernels."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import numpy as np

from secateurs.utils.deploy.integers.algebra import quantize
from secateurs.utils.deploy.integers.kernels import KERNELS
from secateurs.utils.deploy.integers.tensors import INT8, Graph, read_graph
from secateurs.utils.deploy.runtime.interpreter import open_interpreter
from secateurs.utils.errors import UserError


@dataclasses.dataclass(frozen=True)
class Difference:
  """How far one tensor of the integer model lies from TensorFlow Lite's.

  Attributes:
    name: of the tensor.
    kind: the operator that made it.
    steps: the largest difference, in integer steps.
    share: fraction of the integers that differ.
  """

  name: str
  kind: str
  steps: int
  share: float


class IntegerNetwork:
  """A full-integer .tflite file in whole numbers.

  Attributes:
    graph: tensors and operators.
  """

  def __init__(self, path: str | os.PathLike) -> None:
    """Reads the file.

    Raises:
      UserError: it is no full-integer file, or has operators that the model lacks.
    """
    self.graph: Graph = read_graph(path)
    why = _refusal(self.graph, path)
    if why:
      raise UserError(why)

  def quantize(self, inputs: np.ndarray) -> np.ndarray:
    """Real inputs, float [n, ...], as the integers that the file takes."""
    given = self.graph.tensors[self.graph.input]
    return quantize(inputs, given.scale, given.zero, -128, 127)

  def run(self, inputs: np.ndarray) -> dict[int, np.ndarray]:
    """Integers, int64, of all tensors by number, for integer inputs [n, ...]."""
    tensors = self.graph.tensors
    values = {n: one.values for n, one in enumerate(tensors) if one.values is not None}
    values[self.graph.input] = np.asarray(inputs, np.int64)
    for op in self.graph.operators:
      ins = [values[number] if number >= 0 else None for number in op.inputs]
      values[op.outputs[0]] = KERNELS[op.kind](op, tensors, ins)
    return values

  def predict(self, inputs: np.ndarray) -> np.ndarray:
    """Real outputs [n, classes] for real inputs."""
    out = self.graph.tensors[self.graph.output]
    found = self.run(self.quantize(inputs))[self.graph.output]
    return ((found - out.zero) * out.scale).astype(np.float32).reshape(len(inputs), -1)


def refusal(path: str | os.PathLike) -> str | None:
  """Why the integer model cannot run a .tflite file, in a sentence; None where it can.

  Raises:
    UserError: it is missing or no .tflite file.
  """
  return _refusal(read_graph(path), path)


def _refusal(graph: Graph, path: str | os.PathLike) -> str | None:
  missing = sorted({op.kind for op in graph.operators} - set(KERNELS))
  if missing:
    return (
      f'{path} has operators that the integer model lacks ({", ".join(missing)}); expected '
      f'{", ".join(KERNELS)}: --exec_mode verify compares the file with Keras alone.'
    )
  types = [graph.tensors[number].type for number in graph.inputs]
  if types != [INT8]:
    return (
      f'{path} has {len(types)} input(s), {types.count(INT8)} of them in int8, but the integer model '
      'takes a full-integer file with one int8 input: --exec_mode verify compares the file with '
      'Keras alone.'
    )
  return None


def compare_with_reference(path: str | os.PathLike, inputs: np.ndarray) -> list[Difference]:
  """Compares all int8 tensors with those of TensorFlow Lite's reference kernels.

  Args:
    path: of a full-integer file.
    inputs: float [n, ...].

  Returns:
    One entry for each tensor that an operator made, in order.

  Raises:
    UserError: see `IntegerNetwork`.
  """
  network = IntegerNetwork(path)
  tensors = network.graph.tensors
  made = {op.outputs[0]: op.kind for op in network.graph.operators}
  made = {number: kind for number, kind in made.items() if tensors[number].type == INT8}
  reference = _Reference(path)
  steps, differing, sizes = (dict.fromkeys(made, 0) for _ in range(3))
  for place in range(len(inputs)):  # All layers of one image fit into memory, those of many do not.
    integers = network.quantize(inputs[place : place + 1])
    mine = network.run(integers)
    reference.run(integers.astype(np.int8))
    for number in made:
      theirs = reference.tensor(number).astype(np.int64).reshape(mine[number].shape)
      apart = np.abs(mine[number] - theirs)
      steps[number] = max(steps[number], int(apart.max()))
      differing[number] += int((apart > 0).sum())
      sizes[number] += apart.size
  return [
    Difference(tensors[number].name, kind, steps[number], differing[number] / sizes[number])
    for number, kind in made.items()
  ]


class _Reference:
  """TensorFlow Lite's reference kernels on a file."""

  def __init__(self, path: str | os.PathLike) -> None:
    self._interpreter = open_interpreter(Path(path).read_bytes(), reference=True)
    self._interpreter.allocate_tensors()
    self._given = self._interpreter.get_input_details()[0]['index']

  def run(self, image: np.ndarray) -> None:
    """Computes all tensors of one image, int8 [1, ...]."""
    self._interpreter.set_tensor(self._given, image)
    self._interpreter.invoke()

  def tensor(self, number: int) -> np.ndarray:
    """A tensor as it was computed last."""
    return self._interpreter.get_tensor(number)
