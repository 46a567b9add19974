"""Makes integer files of float ones, each operator with its own number of bits."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from secateurs.utils.deploy.int8.opened import OpenFile, within_flatbuffer
from secateurs.utils.deploy.lowbits.writer import require_library
from secateurs.utils.errors import UserError, first_line
from secateurs.utils.quiet import quiet_native

Ranges = Mapping[str, Mapping[str, np.ndarray]]
"""`min` and `max` of each tensor by its name, as `lowbits.ranges.activation_ranges` gives them."""

FLOAT = 32
_NOT_ALONE = ('INPUT', 'OUTPUT', 'CUSTOM_OP', 'STABLEHLO_COMPOSITE')


def quantized(content: bytes, ranges: Ranges, bits: Mapping[str, int] | None = None) -> bytes:
  """A float file in 8 bits, except for some operators.

  Args:
    content: of the float file.
    ranges: of its activations.
    bits: 16 for activations of 16 bits and weights of 8, or 32 for float, by the scope of an operator
      (`OpenFile.scope`).

  Raises:
    UserError: ai-edge-quantizer is not installed or refuses the file.
  """
  return _made(content, ranges, True, bits or {})


def quantized_alone(content: bytes, ranges: Ranges, scopes: Collection[str]) -> bytes:
  """A float file with some operators in 8 bits, and all others in float.

  Raises:
    UserError: ai-edge-quantizer is not installed or refuses the file.
  """
  return _made(content, ranges, False, dict.fromkeys(scopes, 8))


def operator_names() -> set[str]:
  """Kinds of operators that ai-edge-quantizer knows, as TensorFlow Lite calls them."""
  require_library()
  from ai_edge_quantizer.qtyping import TFLOperationName

  names = {one.value for one in TFLOperationName} - {'*', *_NOT_ALONE}
  return {'TRANSPOSE_CONV' if name == 'CONV_2D_TRANSPOSE' else name for name in names}


def layers_of(file: OpenFile) -> list[Any]:
  """The operators whose precision is chosen: those that compute, and that the library knows."""
  known = operator_names() - _MOVING
  return [
    op for op in file.operators if op.kind in known and file.type(op.outputs[0]) is np.float32
  ]


_MOVING = {
  'RESHAPE',
  'TRANSPOSE',
  'STRIDED_SLICE',
  'SPLIT',
  'SLICE',
  'PAD',
  'PADV2',
  'MIRROR_PAD',
  'PACK',
  'UNPACK',
  'GATHER',
  'GATHER_ND',
  'BROADCAST_TO',
  'SPACE_TO_DEPTH',
  'MAX_POOL_2D',
  'RESIZE_NEAREST_NEIGHBOR',
  'SELECT',
  'SELECT_V2',
  'EQUAL',
  'NOT_EQUAL',
  'DYNAMIC_UPDATE_SLICE',
  'EMBEDDING_LOOKUP',
}


def _made(content: bytes, ranges: Ranges, everything: bool, bits: Mapping[str, int]) -> bytes:
  quantizer_of = require_library()
  from ai_edge_quantizer.algorithm_manager import AlgorithmName
  from ai_edge_quantizer.qtyping import TFLOperationName as Name

  every = Name.ALL_SUPPORTED
  with quiet_native():
    quantizer = quantizer_of(bytearray(content))
    if everything:
      quantizer.add_static_config('.*', every, 8, 8)
    for scope, number in bits.items():
      pattern = f'^{re.escape(scope)}$'
      if number == FLOAT:
        quantizer.update_quantization_recipe(
          pattern, every, algorithm_key=AlgorithmName.NO_QUANTIZE
        )
      else:
        quantizer.add_static_config(pattern, every, number, 8)
    try:
      made = quantizer.quantize(
        dict(ranges), enable_progress_bar=False, enable_progress_report=False
      )
    except (RuntimeError, ValueError, KeyError, NotImplementedError) as error:
      reason = first_line(error)
      raise UserError(
        f'ai-edge-quantizer refuses the network ({reason}): export without --export_int8 auto, or '
        'replace that layer.'
      ) from error
  return within_flatbuffer(bytes(made.quantized_model))
