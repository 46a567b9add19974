"""A .tflite file as operators and tensors that can be changed and written again."""

from __future__ import annotations

import copy
import dataclasses
import os
from typing import Any

import numpy as np

from secateurs.utils.deploy.int8.operators import KERNELS, Operator
from secateurs.utils.deploy.int8.packing import emptied, flatbuffer_tools, packed
from secateurs.utils.errors import UserError, first_line

# By TensorFlow Lite's numbers.
TYPES = {
  0: np.float32,
  1: np.float16,
  2: np.int32,
  3: np.uint8,
  4: np.int64,
  6: np.bool_,
  7: np.int16,
  9: np.int8,
}


class OpenFile:
  """The main graph of a .tflite file.

  Attributes:
    model: the flatbuffer as objects.
    operators: in the order in which they run.
  """

  def __init__(self, content: bytes, name: str | os.PathLike = 'The .tflite file') -> None:
    """Reads the content of a file.

    Args:
      content: of the file.
      name: what messages call it.

    Raises:
      UserError: it is damaged, or no .tflite file.
    """
    try:
      self.model = flatbuffer_tools().read_model_from_bytearray(bytearray(content))
      self._graph = self.model.subgraphs[0]
      self.operators = self._read_operators()
      self._check_tensors()
    except Exception as error:  # flatbuffers raises many types for what it cannot read.
      raise UserError(
        f'{name} cannot be read as a TensorFlow Lite model ({first_line(error)}): it is damaged, '
        'export the model again (--exec_mode export).'
      ) from error

  def _read_operators(self) -> list[Operator]:
    kind_of = flatbuffer_tools().opcode_to_name
    return [
      Operator(
        number,
        kind_of(self.model, op.opcodeIndex),
        tuple(map(int, op.inputs if op.inputs is not None else ())),
        tuple(map(int, op.outputs if op.outputs is not None else ())),
        op.builtinOptions,
      )
      for number, op in enumerate(self._graph.operators)
    ]

  def _check_tensors(self) -> None:
    """Decodes all names and finds all that numbers stand for.

    Raises:
      UnicodeDecodeError, LookupError: a name is no text, or a tensor or buffer is not there.
    """
    for tensor in self._graph.tensors:
      (tensor.name or b'').decode()
      self.model.buffers[tensor.buffer]
    used = [number for op in self.operators for number in (*op.inputs, *op.outputs)]
    if not all(-1 <= number < self.nb_tensors for number in (*used, *self.inputs, *self.outputs)):
      raise IndexError('a tensor is not there')

  @property
  def inputs(self) -> list[int]:
    """Numbers of the graph's inputs."""
    return [int(one) for one in self._graph.inputs]

  @property
  def outputs(self) -> list[int]:
    """Numbers of the graph's outputs."""
    return [int(one) for one in self._graph.outputs]

  @property
  def nb_tensors(self) -> int:
    """How many tensors the graph has."""
    return len(self._graph.tensors)

  def name(self, number: int) -> str:
    """Name of a tensor."""
    return self._graph.tensors[number].name.decode()

  def scope(self, op: Operator) -> str:
    """What ai-edge-quantizer calls an operator: the names of its outputs."""
    return ''.join(f'{self.name(number)};' for number in op.outputs if number >= 0)

  def shape(self, number: int) -> tuple[int, ...]:
    """Shape of a tensor."""
    shape = self._graph.tensors[number].shape
    return () if shape is None else tuple(map(int, shape))

  def type(self, number: int) -> Any:
    """NumPy type of a tensor; None for one that NumPy lacks."""
    return TYPES.get(self._graph.tensors[number].type)

  def scales(self, number: int) -> np.ndarray:
    """Scales of a quantised tensor, float64 [channels] or [1]; empty for another."""
    given = self._graph.tensors[number].quantization
    return np.array([] if given is None or given.scale is None else given.scale, np.float64)

  def zero(self, number: int) -> int:
    """Zero point of a quantised tensor."""
    given = self._graph.tensors[number].quantization
    points = None if given is None else given.zeroPoint
    return 0 if points is None or not len(points) else int(points[0])

  def is_constant(self, number: int) -> bool:
    """Whether the file holds a tensor's values."""
    if number < 0:
      return False
    data = self.model.buffers[self._graph.tensors[number].buffer].data
    return data is not None and len(data) > 0

  def constant(self, number: int) -> np.ndarray | None:
    """Values of a constant tensor, a copy; None for one that is computed or of a type unknown here."""
    if not self.is_constant(number) or self.type(number) is None:
      return None
    data = self.model.buffers[self._graph.tensors[number].buffer].data
    raw = np.asarray(data, np.uint8).tobytes()
    shape = self.shape(number)
    if len(raw) != np.dtype(self.type(number)).itemsize * int(np.prod(shape)):
      return None  # Packed into fewer bits.
    return np.frombuffer(raw, self.type(number)).reshape(shape).copy()

  def readers(self) -> dict[int, list[Operator]]:
    """The operators that read each tensor."""
    found: dict[int, list[Operator]] = {}
    for op in self.operators:
      for number in dict.fromkeys(op.inputs):
        found.setdefault(number, []).append(op)
    return found

  def set_input(self, op: Operator, position: int, values: np.ndarray) -> None:
    """Gives an operator other values of a constant input, which no other operator then shares."""
    from_file = self._graph.operators[op.number]
    numbers = [int(one) for one in from_file.inputs]
    tensor = copy.copy(self._graph.tensors[numbers[position]])
    buffer = copy.copy(self.model.buffers[tensor.buffer])
    buffer.data = np.frombuffer(np.ascontiguousarray(values).tobytes(), np.uint8)
    users = [one for one in self._graph.operators if numbers[position] in list(one.inputs)]
    sharing = [one for one in self._graph.tensors if one.buffer == tensor.buffer]
    if len(users) == 1 and len(sharing) == 1:
      self.model.buffers[tensor.buffer] = buffer
      return
    tensor.buffer = len(self.model.buffers)
    tensor.name = f'{tensor.name.decode()}/of_{op.number}'.encode()
    self.model.buffers.append(buffer)
    self._graph.tensors.append(tensor)
    numbers[position] = len(self._graph.tensors) - 1
    from_file.inputs = np.array(numbers, np.int32)
    self.operators[op.number] = dataclasses.replace(
      self.operators[op.number], inputs=tuple(numbers)
    )

  def set_fused(self, op: Operator, activation: int) -> None:
    """Changes the activation that an operator computes at its end."""
    options = copy.copy(self._graph.operators[op.number].builtinOptions)
    options.fusedActivationFunction = activation
    self._graph.operators[op.number].builtinOptions = options
    self.operators[op.number] = dataclasses.replace(self.operators[op.number], options=options)

  def alone(self, op: Operator) -> bytes:
    """A file of one operator, which reads what it reads here, and has its constants.

    Raises:
      ValueError: it makes no tensor, or runs another graph of the file, such as a loop's body.
    """
    runs_graphs = any(
      'subgraph' in name.lower() for name in (vars(op.options) if op.options else ())
    )
    if runs_graphs or not op.outputs:
      raise ValueError(f'Operator {op.number} ({op.kind}) cannot run alone.')
    used = {number for number in (*op.inputs, *op.outputs) if number >= 0}
    graph = copy.copy(self._graph)
    graph.operators = [self._graph.operators[op.number]]
    graph.inputs = [n for n in dict.fromkeys(op.inputs) if n >= 0 and not self.is_constant(n)]
    graph.outputs = list(op.outputs)
    buffers = {self._graph.tensors[number].buffer for number in used}
    model = copy.copy(self.model)
    model.subgraphs = [graph]
    model.signatureDefs = model.metadata = model.metadataBuffer = None
    model.buffers = [
      buffer if place in buffers else emptied(buffer)
      for place, buffer in enumerate(self.model.buffers)
    ]
    return packed(model)

  def content(self) -> bytes:
    """The file as it now is."""
    return packed(self.model)


def within_flatbuffer(content: bytes) -> bytes:
  """A file of ai-edge-quantizer with all weights in the flatbuffer.

  The library writes those of 256 KiB and more after it, where small runtimes do not look.
  """
  return OpenFile(content).content()


def with_kernels(file: OpenFile) -> list[Operator]:
  """The operators of a file with constant kernels, in order."""
  return [
    op
    for op in file.operators
    if op.kind in KERNELS and file.is_constant(op.inputs[KERNELS[op.kind].kernel])
  ]
