"""Tensors and operators of a .tflite file, as the integer model reads them."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from secateurs.utils.errors import UserError

# Numbers of TensorFlow Lite's schema.
_TYPES = {0: np.float32, 2: np.int32, 4: np.int64, 9: np.int8, 7: np.int16}
INT8 = 9


@dataclasses.dataclass(frozen=True)
class Tensor:
  """One tensor of the file.

  Attributes:
    name: in the file.
    type: number of its type in the schema.
    shape: as the file has it.
    scales: float64 [channels], of one element for a single scale; empty for what is not quantised.
    zero: zero point, Z.
    values: what the file holds, int64; None for what is computed.
  """

  name: str
  type: int
  shape: tuple[int, ...]
  scales: np.ndarray
  zero: int
  values: np.ndarray | None

  @property
  def scale(self) -> float:
    """The single scale."""
    return float(self.scales[0])


@dataclasses.dataclass(frozen=True)
class Operator:
  """One operator: its kind, the numbers of its tensors (-1 for none), its options."""

  kind: str
  inputs: list[int]
  outputs: list[int]
  options: Any


@dataclasses.dataclass(frozen=True)
class Graph:
  """A file: tensors, operators in order, numbers of the inputs and of the first output."""

  tensors: list[Tensor]
  operators: list[Operator]
  inputs: list[int]
  output: int

  @property
  def input(self) -> int:
    """The first input."""
    return self.inputs[0]


def read_graph(path: str | os.PathLike) -> Graph:
  """Reads a .tflite file.

  Raises:
    UserError: it is missing, damaged, or no .tflite file.
  """
  from tensorflow.lite.tools import flatbuffer_utils

  path = Path(path)
  if not path.is_file():
    raise UserError(f'{path} does not exist: export the network with --export_int8 first.')
  try:
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(path.read_bytes()))
    return _graph(model, flatbuffer_utils.opcode_to_name)
  except Exception as error:  # flatbuffers raises many types for what it cannot read.
    raise UserError(f'{path} is no .tflite file: export the network again.') from error


def _graph(model: Any, kind_of: Callable[[Any, int], str]) -> Graph:
  main = model.subgraphs[0]
  return Graph(
    [_tensor(one, model.buffers) for one in main.tensors],
    [
      Operator(
        kind_of(model, op.opcodeIndex),
        [int(number) for number in op.inputs],
        [int(number) for number in op.outputs],
        op.builtinOptions,
      )
      for op in main.operators
    ],
    [int(number) for number in main.inputs],
    int(main.outputs[0]),
  )


def _tensor(one: Any, buffers: list[Any]) -> Tensor:
  given = one.quantization
  scales = np.array([] if given is None or given.scale is None else given.scale, np.float64)
  zeros = [0] if given is None or given.zeroPoint is None else given.zeroPoint
  shape = tuple(int(size) for size in one.shape) if one.shape is not None else ()
  data, values = buffers[one.buffer].data, None
  if data is not None and len(data) and one.type in _TYPES:
    raw = np.frombuffer(np.asarray(data, np.uint8).tobytes(), _TYPES[one.type]).reshape(shape)
    values = raw.astype(np.int64) if raw.dtype != np.float32 else raw
  return Tensor(one.name.decode(), one.type, shape, scales, int(zeros[0]), values)
