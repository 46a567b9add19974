"""What a full-integer file still computes in floating point."""

from __future__ import annotations

from collections import Counter

_FLOAT32 = 0  # Number of the type in TensorFlow Lite's schema.
_CONVERSIONS = ('QUANTIZE', 'DEQUANTIZE')


def float_operators(content: bytes) -> str | None:
  """Names the operators of a .tflite file whose results are float32, except for conversions to it.

  Args:
    content: of the file.

  Returns:
    A sentence with their kinds, their number and the layers of the first ones; None if there are none.
  """
  from tensorflow.lite.tools import flatbuffer_utils

  model = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
  found: list[tuple[str, str]] = []
  total = 0
  for graph in model.subgraphs:
    for operator in graph.operators:
      kind = flatbuffer_utils.opcode_to_name(model, operator.opcodeIndex)
      output = graph.tensors[operator.outputs[0]]
      total += 1
      if output.type == _FLOAT32 and kind not in _CONVERSIONS:
        found.append((kind, output.name.decode().split(';')[0]))
  if not found:
    return None
  counts = Counter(kind for kind, _ in found)
  kinds = ', '.join(f'{number} {kind}' for kind, number in counts.items())
  first = ', '.join(name for _, name in found[:3])
  return (
    f'{len(found)} of its {total} operators compute in float32 ({kinds}; at {first}), because '
    'their inputs or outputs have no range of 8 bits.'
  )
