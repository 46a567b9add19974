"""The one module that touches a TensorFlow Lite interpreter.

`ai_edge_litert` is taken when it is installed, else `tf.lite`; both offer the same class.
"""

import importlib.util
import os
from functools import cached_property
from pathlib import Path

import numpy as np

from secateurs.utils.errors import UserError
from secateurs.utils.quiet import quiet_native

PREDICT_BATCH = 16
"""Images per invocation in `predict`: with two threads 1.2 to 1.8 times as fast as one by one,
with one thread equal, and a bigger batch gained nothing more but memory (ResNet-20)."""


def _interpreter_class() -> type:
  if importlib.util.find_spec('ai_edge_litert') is not None:
    from ai_edge_litert.interpreter import Interpreter

    return Interpreter
  import tensorflow as tf

  return tf.lite.Interpreter


def open_interpreter(content: bytes, *, reference: bool) -> object:
  """An interpreter that keeps the values of all tensors, without delegates.

  Args:
    content: of a .tflite file.
    reference: whether the slow reference kernels compute, which everything else is measured by.
  """
  if importlib.util.find_spec('ai_edge_litert') is not None:
    from ai_edge_litert.interpreter import OpResolverType
  else:
    from tensorflow.lite.python.interpreter import OpResolverType
  kind = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
  with quiet_native():
    return _interpreter_class()(
      model_content=bytes(content),
      experimental_op_resolver_type=OpResolverType.BUILTIN_REF if reference else kind,
      experimental_preserve_all_tensors=True,
    )


def quantize(values: np.ndarray, scale: float, zero_point: int, dtype: np.dtype) -> np.ndarray:
  """Maps real values to integers: round(values / scale) + zero_point, held to the dtype's range."""
  limits = np.iinfo(dtype)
  steps = np.rint(np.asarray(values, np.float64) / scale) + zero_point
  return np.clip(steps, limits.min, limits.max).astype(dtype)


def dequantize(steps: np.ndarray, scale: float, zero_point: int) -> np.ndarray:
  """Maps integers to real values (float32): (steps - zero_point) * scale."""
  return ((steps.astype(np.float64) - zero_point) * scale).astype(np.float32)


class TFLiteModel:
  """A `.tflite` file with one image input and one output, run on the CPU.

  The file is opened at first use. Float and full-integer files look the same from outside:
  images and outputs are float32, and an integer file's scales are applied here.

  Args:
    path: the file.
    nb_threads: threads of the interpreter, at least 1.
  """

  def __init__(self, path: str | os.PathLike, nb_threads: int = 1):
    if nb_threads < 1:
      raise ValueError(f'nb_threads must be at least 1, got {nb_threads}')
    self.path = Path(path)
    self.nb_threads = int(nb_threads)

  @cached_property
  def _interpreter(self):
    if not self.path.is_file():
      raise UserError(f'No file {self.path}; expected a .tflite file: export the model first.')
    with quiet_native():
      try:
        interpreter = _interpreter_class()(str(self.path), num_threads=self.nb_threads)
        interpreter.allocate_tensors()
      except (ValueError, RuntimeError) as error:
        raise UserError(
          f'{self.path} does not open as a TensorFlow Lite model ({str(error).splitlines()[0]}); '
          'export the model again.'
        ) from error
    if len(interpreter.get_input_details()) != 1 or len(interpreter.get_output_details()) != 1:
      raise UserError(
        f'{self.path} has {len(interpreter.get_input_details())} inputs and '
        f'{len(interpreter.get_output_details())} outputs; expected a file with one of each.'
      )
    return interpreter

  @property
  def _input(self) -> dict:
    return self._interpreter.get_input_details()[0]

  @property
  def _output(self) -> dict:
    return self._interpreter.get_output_details()[0]

  @property
  def input_shape(self) -> tuple[int, ...]:
    """Height, width and channels of one image."""
    return tuple(int(size) for size in self._input['shape'][1:])

  @property
  def is_quantized(self) -> bool:
    """Whether the file takes integers."""
    return np.issubdtype(self._input['dtype'], np.integer)

  @property
  def output_step(self) -> float | None:
    """The real value of one integer step of the output; None for a float file."""
    if not np.issubdtype(self._output['dtype'], np.integer):
      return None
    return float(self._output['quantization'][0])

  def _resize(self, batch: int) -> bool:
    """Sets the batch size; False (and batch 1) when the graph is built for single images only."""
    current = self._input['shape']
    if current[0] == batch:
      return True
    with quiet_native():
      try:
        self._interpreter.resize_tensor_input(self._input['index'], [batch, *current[1:]])
        self._interpreter.allocate_tensors()
        self._interpreter.invoke()
        if self._output['shape'][0] == batch:
          return True
      except (ValueError, RuntimeError):
        pass
      self._interpreter.resize_tensor_input(self._input['index'], [1, *current[1:]])
      self._interpreter.allocate_tensors()
    return False

  def predict(self, images: np.ndarray) -> np.ndarray:
    """Runs the images through the file.

    Args:
      images: float32 [n, height, width, channels], as the Keras model takes them.

    Returns:
      Outputs, float32 [n, classes].

    Raises:
      UserError: the images' shape is not the file's.
    """
    images = np.asarray(images, np.float32)
    if images.shape[1:] != self.input_shape or not len(images):
      raise UserError(
        f'{self.path} takes images of shape {self.input_shape}, got an array of shape '
        f'{images.shape}; give [n, height, width, channels] of that size.'
      )
    batch = min(PREDICT_BATCH, len(images))
    if not self._resize(batch):
      batch = 1
    outputs = []
    for start in range(0, len(images), batch):
      chunk = images[start : start + batch]
      missing = batch - len(chunk)
      if missing:  # filled up rather than resized: a resize prepares the whole graph again
        chunk = np.concatenate([chunk, np.zeros((missing, *chunk.shape[1:]), np.float32)])
      self._set(chunk)
      self._interpreter.invoke()
      outputs.append(self._get()[: batch - missing])
    return np.concatenate(outputs)

  def _set(self, images: np.ndarray) -> None:
    details = self._input
    if self.is_quantized:
      scale, zero_point = details['quantization']
      images = quantize(images, scale, zero_point, details['dtype'])
    self._interpreter.set_tensor(details['index'], images)

  def _get(self) -> np.ndarray:
    details = self._output
    values = self._interpreter.get_tensor(details['index'])
    if np.issubdtype(details['dtype'], np.integer):
      values = dequantize(values, *details['quantization'])
    return values.reshape(len(values), -1)

  def set_single(self, image: np.ndarray) -> None:
    """Puts one image, float32 [height, width, channels], in place for `invoke_once`."""
    self._resize(1)
    self._set(np.asarray(image, np.float32)[np.newaxis])

  def invoke_once(self) -> None:
    """Runs the graph once on what the input tensor holds, and nothing else."""
    self._interpreter.invoke()

  def weights(self) -> dict[str, np.ndarray]:
    """Returns the constant tensors of the graph by name, as stored (integers in an int8 file)."""
    found = {}
    for details in self._interpreter.get_tensor_details():
      try:
        found[details['name']] = self._interpreter.get_tensor(details['index'])
      except ValueError:  # an activation: it has no value before the graph has run
        continue
    return found
