"""Writes a .tflite file with integer weights of 4 or 8 bits, and activations of 32, 16 or 8.

The weights of a float file lie on uniform grids already (`learners.quant`). Each layer gets the
smallest container that TensorFlow Lite has for it: 4 bits where no weight is more than 7 steps from
zero, else 8 bits. Depthwise and transposed convolutions take 8 bits, the smallest that their kernels
read.
ai-edge-quantizer does the conversion; what is added here is that it takes the grids as they are.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from typing import Any

import numpy as np

from secateurs.utils.deploy.faults.loops import MOST_STEPS
from secateurs.utils.deploy.int8.opened import within_flatbuffer
from secateurs.utils.deploy.lowbits.grids import recover_steps
from secateurs.utils.deploy.lowbits.ranges import activation_ranges
from secateurs.utils.errors import UserError, first_line
from secateurs.utils.quiet import quiet_native

_MOST = {4: 7, 8: 127}
_WITH_4_BITS = ('CONV_2D', 'FULLY_CONNECTED')
_CHANNELS = {'CONV_2D': 0, 'FULLY_CONNECTED': 0, 'DEPTHWISE_CONV_2D': 3, 'TRANSPOSE_CONV': 0}
FLOAT_BITS = 32
ACTIVATION_BITS = (8, 16, FLOAT_BITS)


def quantized_bytes(
  content: bytes, activation_bits: int, calibration: Any = None
) -> tuple[bytes, dict[str, int]]:
  """A float .tflite file with its weights as integers.

  Args:
    content: of the float file, from `convert` with batch 1.
    activation_bits: 32 leaves them float, and the weights are converted back to float when the file
      is loaded or run; 8 and 16 compute in integers.
    calibration: float32 [n, h, w, c], inputs that the ranges of activations come from; not needed
      for 32.

  Returns:
    The content of the new file, and the bits of the weights by the name of the operator's output.

  Raises:
    UserError: ai-edge-quantizer is not installed or refuses the file, or activations in a loop were to
      be integers.
    ValueError: a number of bits that TensorFlow Lite has no form for.
  """
  if activation_bits not in ACTIVATION_BITS:
    raise ValueError(f'activation_bits must be in {ACTIVATION_BITS}, but {activation_bits} came.')
  quantizer_of = require_library()
  if activation_bits < FLOAT_BITS:
    _require_no_loop(content)
  layers = _layers(content)
  bits = {layer.output: layer.bits for layer in layers}
  with quiet_native():
    quantizer = quantizer_of(bytearray(content))
    _add_recipe(quantizer, bits, activation_bits)
    try:
      ranges = {}
      if activation_bits < FLOAT_BITS:
        ranges = activation_ranges(content, calibration)
      # The library takes the greatest weight as the greatest integer, unless it is given a range.
      ranges |= {layer.tensor: layer.range() for layer in layers}
      result = quantizer.quantize(ranges, enable_progress_bar=False, enable_progress_report=False)
    except (RuntimeError, ValueError) as error:
      raise UserError(
        f'ai-edge-quantizer refuses the network ({first_line(error)}): leave '
        'activations in float with --uql_activation_bits 32, or replace that layer.'
      ) from error
  return within_flatbuffer(bytes(result.quantized_model)), bits


@dataclasses.dataclass(frozen=True)
class _Layer:
  """Weights of a layer in a .tflite file: name of its output, of their tensor, and their grids."""

  output: str
  tensor: str
  kind: str
  weights: np.ndarray

  @functools.cached_property
  def grids(self) -> tuple[np.ndarray, np.ndarray]:
    rows = np.moveaxis(self.weights, _CHANNELS[self.kind], 0)
    return recover_steps(rows.reshape(len(rows), -1), _MOST[8])

  @functools.cached_property
  def bits(self) -> int:
    """The smallest container: 4 or 8."""
    fits = self.kind in _WITH_4_BITS and self.grids[1].max(initial=0) <= _MOST[4]
    return 4 if fits else 8

  def range(self) -> dict[str, np.ndarray]:
    """Of each channel, such that the library makes the grid's step of it."""
    shape = [1] * self.weights.ndim
    shape[_CHANNELS[self.kind]] = -1
    greatest = (self.grids[0] * _MOST[self.bits]).reshape(shape).astype(np.float32)
    return {'min': -greatest, 'max': greatest}


def weight_bits(content: bytes) -> dict[str, int]:
  """The smallest container of each layer's weights, 4 or 8 bits, by the name of its output."""
  return {layer.output: layer.bits for layer in _layers(content)}


def _layers(content: bytes) -> list[_Layer]:
  from ai_edge_litert.tools import flatbuffer_utils
  from ai_edge_quantizer.utils import tfl_flatbuffer_utils as reading

  model = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
  found = []
  for graph in model.subgraphs:
    for op in graph.operators:
      kind = flatbuffer_utils.opcode_to_name(model, op.opcodeIndex)
      if kind not in _CHANNELS:
        continue
      tensor = graph.tensors[op.inputs[1]]
      weights = reading.get_tensor_data(tensor, model.buffers)
      if weights is not None:
        output = reading.get_op_scope(op, graph.tensors)
        found.append(_Layer(output, tensor.name.decode(), kind, np.asarray(weights)))
  return found


def _require_no_loop(content: bytes) -> None:
  from ai_edge_litert.tools import flatbuffer_utils

  model = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
  operators = [one for graph in model.subgraphs for one in graph.operators]
  if any(flatbuffer_utils.opcode_to_name(model, one.opcodeIndex) == 'WHILE' for one in operators):
    raise UserError(
      'The network has a loop, inside of which no ranges of activations are measured: give the input a '
      f'fixed number of at most {MOST_STEPS} steps, so that recurrent layers are unrolled, or leave '
      'activations in float with --uql_activation_bits 32.'
    )


def _add_recipe(quantizer: Any, bits: dict[str, int], activation_bits: int) -> None:
  from ai_edge_quantizer.qtyping import TFLOperationName as Name

  everything = Name.ALL_SUPPORTED
  with_4_bits = (Name.CONV_2D, Name.FULLY_CONNECTED)
  kinds = (*with_4_bits, Name.DEPTHWISE_CONV_2D, Name.CONV_2D_TRANSPOSE)
  if activation_bits < FLOAT_BITS:
    quantizer.add_static_config('.*', everything, activation_bits, 8)
  for scope, number in bits.items():
    pattern = '^' + re.escape(scope) + '$'
    for kind in kinds:
      if number == 4 and kind not in with_4_bits:
        continue
      if activation_bits < FLOAT_BITS:
        quantizer.add_static_config(pattern, kind, activation_bits, number)
      else:
        quantizer.add_weight_only_config(pattern, kind, number)


def require_library() -> Any:
  """The class that converts.

  Raises:
    UserError: it is not installed.
  """
  try:
    from ai_edge_quantizer import quantizer
  except ImportError as error:
    raise UserError(
      'Files with weights of few bits need ai-edge-quantizer, which is not installed: pip install '
      "-e '.[quant]' in the project's folder."
    ) from error
  return quantizer.Quantizer
