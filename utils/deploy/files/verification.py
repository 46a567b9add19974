"""Compares an exported .tflite file with the Keras model, layer by layer.

The converter fuses normalisation and ReLU into the layer before, and names what is left after all of
them. A tensor of the file is therefore compared with the last layer of the model that its name mentions
and that has an output of its shape.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

from secateurs.utils import nested
from secateurs.utils.deploy.integers.network import compare_with_reference, refusal
from secateurs.utils.deploy.runtime.interpreter import dequantize, open_interpreter, quantize
from secateurs.utils.errors import UserError, first_line
from secateurs.utils.graph.flat.cuts import run_calls
from secateurs.utils.graph.flat.walk import flatten_model


@dataclasses.dataclass(frozen=True)
class LayerDifference:
  """How far a tensor of a file lies from the output of a layer.

  Attributes:
    layer: name of the Keras layer.
    largest: the largest difference.
    share: the same as a fraction of the range of the layer's outputs.
    steps: the same in integer steps of the tensor; None for a float one.
  """

  layer: str
  largest: float
  share: float
  steps: float | None


@dataclasses.dataclass(frozen=True)
class Verification:
  """What `verify` found.

  Attributes:
    layers: by kind of file, its layers in order.
    integers: for the int8 file, by tensor, the largest difference in steps between the integer model
      and TensorFlow Lite's reference kernels; None where there is no int8 file, or the model cannot
      run it.
    integers_refusal: a sentence on why the integer model cannot run the int8 file; None where it can.
  """

  layers: dict[str, list[LayerDifference]]
  integers: dict[str, int] | None
  integers_refusal: str | None = None

  def block(self) -> dict[str, Any]:
    """In plain types."""
    return dataclasses.asdict(self)


def verify(model: keras.Model, files: Mapping[str, Path], images: Any) -> Verification:
  """Runs .tflite files and the model on the same images.

  Args:
    model: the deployable Keras model.
    files: .tflite files by kind; `tflite_int8` is run as integers in NumPy, too, where the integer
      model has its operators.
    images: inputs [n, ...].

  Raises:
    UserError: a file cannot be compared with the model.
  """
  outputs = _layer_outputs(model, images)
  layers = {}
  for kind, path in files.items():
    with _comparable(path):
      layers[kind] = list(_compared(path, outputs, images))
  if 'tflite_int8' not in files:
    return Verification(layers, None)
  path = files['tflite_int8']
  why = refusal(path)
  if why:
    return Verification(layers, None, why)
  with _comparable(path):
    found = compare_with_reference(path, images)
  return Verification(layers, {one.name: one.steps for one in found})


@contextlib.contextmanager
def _comparable(path: Path) -> Iterator[None]:
  try:
    yield
  except UserError:
    raise
  except Exception as error:  # Of many types, after what a damaged file asks for.
    raise UserError(
      f'{path} cannot be compared with the model ({first_line(error)}): it is damaged or of another '
      'network, export the model again (--exec_mode export).'
    ) from error


def _layer_outputs(model: keras.Model, images: Any) -> dict[str, np.ndarray]:
  """Outputs of all layers in the order of their calls, by name, the model's first one at the end."""
  flat = flatten_model(model)
  given = zip((number for number, _ in flat.inputs), nested.parts(images), strict=True)
  made = [call.outputs[0] for call in flat.calls]
  values = run_calls(flat.calls, {n: tf.constant(one) for n, one in given}, wanted=made)
  outputs = {call.name: values[call.outputs[0]].numpy() for call in flat.calls}
  (last,) = (call.name for call in flat.calls if flat.outputs[0] in call.outputs)
  outputs[last] = outputs.pop(last)
  return outputs


def _compared(
  path: str | os.PathLike, outputs: Mapping[str, np.ndarray], images: Any
) -> Iterator[LayerDifference]:
  last = list(outputs)[-1]
  places = {name: place for place, name in enumerate(outputs)}
  found: dict[str, LayerDifference] = {}
  for name, values, scale in _tensors(path, images):
    parts = {last} if name is None else set(re.split(r'[;/:]', name))
    fits = [one for one in parts if one in outputs and outputs[one].shape == values.shape]
    if not fits:
      continue
    layer = max(fits, key=places.get)
    largest = float(np.abs(values - outputs[layer]).max())
    span = float(np.ptp(outputs[layer])) or 1.0
    steps = largest / scale if scale else None
    before = found.get(layer)
    if (
      before is None or largest < before.largest
    ):  # Two tensors of one layer: the one after it all.
      found[layer] = LayerDifference(layer, largest, largest / span, steps)
  for name in outputs:
    if name in found:
      yield found[name]


def _tensors(
  path: str | os.PathLike, images: Any
) -> Iterator[tuple[str | None, np.ndarray, float | None]]:
  """Name (None for the output), real values and step of all activations of a file.

  Constants are left out, and weights that are converted back to float: their shapes may be those of a
  layer's outputs, but a scale for each channel or 4 bits are nothing that could be compared with these.
  """
  interpreter = open_interpreter(Path(path).read_bytes(), reference=False)
  interpreter.allocate_tensors()
  inputs = interpreter.get_input_details()
  output = interpreter.get_output_details()[0]['index']
  wanted = _computed(interpreter, {one['index'] for one in inputs})
  parts: dict[int, list[np.ndarray]] = {}
  for place in range(nested.size(images)):
    sample = nested.parts(nested.rows(images, slice(place, place + 1)))
    for given, values in zip(inputs, sample, strict=True):
      if np.issubdtype(given['dtype'], np.integer) and given['quantization'][0]:
        values = quantize(values, *given['quantization'], given['dtype'])
      interpreter.set_tensor(given['index'], values)
    interpreter.invoke()
    for details in interpreter.get_tensor_details():
      shape = details['shape']
      if details['index'] in wanted and len(shape) > 1 and shape[0] == 1:
        value = interpreter.get_tensor(details['index'])
        parts.setdefault(details['index'], []).append(value.copy())
  for details in interpreter.get_tensor_details():
    if details['index'] not in parts:
      continue
    values = np.concatenate(parts[details['index']])
    name = None if details['index'] == output else details['name']
    scale, zero = details['quantization']
    if np.issubdtype(values.dtype, np.integer) and scale:
      yield name, dequantize(values, scale, zero), float(scale)
    elif values.dtype == np.float32:
      yield name, values, None


def _computed(interpreter: Any, inputs: set[int]) -> set[int]:
  """Numbers of the tensors that depend on the inputs, these with them."""
  found = set(inputs)
  for operator in interpreter._get_ops_details():  # In the order of execution.
    if not found.isdisjoint(operator['inputs']):
      found.update(int(number) for number in operator['outputs'])
  return found
