"""Ranges for activations that are zero on all calibration images, so that runtimes open their files.

For such a layer, as of a narrow one whose units are dead, the converter takes a range of 2e-6. What its
sums are multiplied by to get to such small steps is more than the 256 that XNNPACK, TensorFlow Lite's
CPU runtime, allows, and the whole file does not open. With a range of [0, 1] zeros stay zeros.
"""

from __future__ import annotations

import tensorflow as tf

from secateurs.utils.deploy.int8.packing import flatbuffer_tools, packed

_WIDTH = 2e-6
_SMALLEST_STEP = 1.01 * _WIDTH / 255
_INT8 = 9  # TensorFlow Lite's number of the type.


def has_empty_ranges(content: bytes) -> bool:
  """Whether a full-integer .tflite file has an activation whose range is the converter's least."""
  model = flatbuffer_tools().schema_fb.Model.GetRootAs(content)
  for place in range(model.SubgraphsLength()):
    graph = model.Subgraphs(place)
    for tensor in map(graph.Tensors, range(graph.TensorsLength())):
      steps = tensor.Quantization()
      if tensor.Type() != _INT8 or steps is None or steps.ScaleLength() != 1:
        continue
      if steps.Scale(0) <= _SMALLEST_STEP and not model.Buffers(tensor.Buffer()).DataLength():
        return True
  return False


def quantize_widened(calibrated: bytes) -> bytes:
  """A full-integer file from what the converter has calibrated, empty ranges widened to [0, 1]."""
  from tensorflow.lite.python.convert import mlir_quantize

  model = flatbuffer_tools().read_model_from_bytearray(bytearray(calibrated))
  for tensor in (one for graph in model.subgraphs for one in graph.tensors):
    found = tensor.quantization
    if found is None or found.min is None or found.max is None or len(found.max) != 1:
      continue
    if found.max[0] - found.min[0] <= _WIDTH:
      found.min, found.max = [min(found.min[0], 0.0)], [1.0]
  return mlir_quantize(packed(model), input_data_type=tf.int8, output_data_type=tf.int8)
