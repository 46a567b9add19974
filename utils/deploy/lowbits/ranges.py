"""Ranges of the activations of a float .tflite file over some inputs."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np

from secateurs.utils import nested
from secateurs.utils.deploy.runtime.interpreter import open_interpreter
from secateurs.utils.quiet import quiet_native

_BATCH = 16


def activation_ranges(content: bytes, images: Any) -> dict[str, dict[str, np.ndarray]]:
  """Least and greatest value of each tensor that is no constant, by name.

  Args:
    content: of the file.
    images: inputs [n, ...], n at least 1.

  Returns:
    For each tensor `min` and `max`, arrays of one element and the tensor's rank.

  Raises:
    ValueError: there are no images.
  """
  if images is None or not nested.size(images):
    raise ValueError('Integer activations need calibration images, but none came.')
  interpreter = open_interpreter(content, reference=False)
  inputs = interpreter.get_input_details()
  wanted = _activations(content)
  found: dict[str, dict[str, np.ndarray]] = {}
  size = _batch_size(interpreter)
  for start in range(0, nested.size(images), size):
    batch = nested.parts(nested.rows(images, slice(start, start + size)))
    _resize(interpreter, len(batch[0]))
    for given, part in zip(inputs, batch, strict=True):
      interpreter.set_tensor(given['index'], np.asarray(part, given['dtype']))
    interpreter.invoke()
    for details in interpreter.get_tensor_details():
      if details['name'] not in wanted or details['dtype'] is not np.float32:
        continue
      _widen(found, details['name'], interpreter.get_tensor(details['index']))
  return found


def _batch_size(interpreter: Any) -> int:
  """Samples of a call: 1 where the graph is built for single ones, as by a transposed convolution."""
  with quiet_native(), contextlib.suppress(RuntimeError, ValueError):
    _resize(interpreter, _BATCH)
    if all(one['shape'][0] == _BATCH for one in interpreter.get_output_details()):
      return _BATCH
  return 1


def _resize(interpreter: Any, batch: int) -> None:
  for given in interpreter.get_input_details():
    interpreter.resize_tensor_input(given['index'], [batch, *given['shape'][1:]])
  interpreter.allocate_tensors()


def _widen(found: dict[str, dict[str, np.ndarray]], name: str, values: np.ndarray) -> None:
  if not values.size:
    return
  shape = (1,) * values.ndim
  low, high = (np.reshape(f(values), shape) for f in (np.min, np.max))
  before = found.get(name, {'min': low, 'max': high})
  found[name] = {'min': np.minimum(low, before['min']), 'max': np.maximum(high, before['max'])}


def _activations(content: bytes) -> set[str]:
  """Names of the tensors that the file has no values of."""
  from ai_edge_litert.tools import flatbuffer_utils

  model = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
  return {
    tensor.name.decode()
    for graph in model.subgraphs
    for tensor in graph.tensors
    if model.buffers[tensor.buffer].data is None
  }
