"""The one module that touches a TensorFlow Lite interpreter.

`ai_edge_litert` is taken when it is installed, else `tf.lite`; both offer the same class.
"""

import importlib.metadata
import importlib.util
import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from secateurs.utils import nested
from secateurs.utils.deploy.runtime.refusals import RAISED, ExplainedInterpreter, refused
from secateurs.utils.errors import UserError, first_line
from secateurs.utils.quiet import quiet_native
from secateurs.utils.rounding import nearest_whole

PREDICT_BATCH = 16
"""Images per invocation in `predict`: with two threads 1.2 to 1.8 times as fast as one by one,
with one thread equal, and a bigger batch gained nothing more but memory (ResNet-20)."""


def runtimes() -> dict[str, type]:
  """The interpreters that are installed, by name and version."""
  import tensorflow as tf

  found = {f'TensorFlow Lite in tensorflow {tf.__version__}': tf.lite.Interpreter}
  if importlib.util.find_spec('ai_edge_litert') is not None:
    from ai_edge_litert.interpreter import Interpreter

    found[f'ai-edge-litert {importlib.metadata.version("ai-edge-litert")}'] = Interpreter
  return found


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
  """Maps real values to integers: round(values / scale) + zero_point, held to the dtype's range.

  Halves are rounded away from zero, as TensorFlow Lite does.

  Args:
    values: real numbers of any shape.
    scale: the real value of one step.
    zero_point: the integer that stands for zero.
    dtype: of the integers, such as int8.

  Returns:
    Integers of the same shape.
  """
  limits = np.iinfo(dtype)
  steps = nearest_whole(np.asarray(values, np.float64) / scale) + zero_point
  return np.clip(steps, limits.min, limits.max).astype(dtype)


def dequantize(steps: np.ndarray, scale: float, zero_point: int) -> np.ndarray:
  """Maps integers of any shape to real values, float32: (steps - zero_point) * scale."""
  return ((steps.astype(np.float64) - zero_point) * scale).astype(np.float32)


def _is_scaled(details: dict) -> bool:
  """Whether a tensor holds real numbers as integers; those of tokens have no scale."""
  return np.issubdtype(details['dtype'], np.integer) and bool(details['quantization'][0])


def _are_of(tensors: Sequence[dict], batch: int) -> bool:
  """Whether tensors are of so many samples."""
  return all(one['shape'][:1].tolist() == [batch] for one in tensors)


class TFLiteModel:
  """A `.tflite` file, run on the CPU.

  The file is opened at first use. Float and full-integer files look the same from outside:
  images and outputs are float32, and an integer file's scales are applied here.

  Args:
    path: the file.
    nb_threads: threads of the interpreter, at least 1.

  Raises:
    ValueError: nb_threads is below 1.
    UserError: at first use: there is no such file, or it is no TensorFlow Lite model.
  """

  def __init__(self, path: str | os.PathLike, nb_threads: int = 1):
    if nb_threads < 1:
      raise ValueError(f'nb_threads must be at least 1, got {nb_threads}')
    self.path = Path(path)
    self.nb_threads = int(nb_threads)
    self._refused: set[int] = set()  # Numbers of samples that the graph does not take.

  @cached_property
  def _interpreter(self) -> ExplainedInterpreter:
    return ExplainedInterpreter(self._opened, self.path)

  @cached_property
  def _opened(self) -> Any:
    if not self.path.is_file():
      raise UserError(f'No file {self.path}; expected a .tflite file: export the model first.')
    with quiet_native():
      try:
        interpreter = _interpreter_class()(str(self.path), num_threads=self.nb_threads)
        interpreter.allocate_tensors()
      except RAISED as error:
        raise UserError(
          f'{self.path} does not open as a TensorFlow Lite model ({first_line(error)}); '
          'export the model again.'
        ) from error
    return interpreter

  @property
  def _inputs(self) -> list[dict]:
    return self._interpreter.get_input_details()

  @property
  def _outputs(self) -> list[dict]:
    return self._interpreter.get_output_details()

  @property
  def input_shapes(self) -> tuple[tuple[int, ...], ...]:
    """Shape of a sample for each input."""
    return tuple(tuple(int(size) for size in one['shape'][1:]) for one in self._inputs)

  @property
  def input_shape(self) -> tuple[int, ...]:
    """Shape of a sample of the first input, such as height, width and channels."""
    return self.input_shapes[0]

  @property
  def output_shapes(self) -> tuple[tuple[int, ...], ...]:
    """Shape of each output for one sample."""
    return tuple(tuple(int(size) for size in one['shape'][1:]) for one in self._outputs)

  @property
  def is_quantized(self) -> bool:
    """Whether the file takes or gives integers for real numbers."""
    return any(_is_scaled(one) for one in (*self._inputs, *self._outputs))

  @property
  def output_steps(self) -> list[float | None]:
    """The real value of one integer step of each output; None for a float one."""
    return [float(one['quantization'][0]) if _is_scaled(one) else None for one in self._outputs]

  @property
  def output_step(self) -> float | None:
    """The real value of one integer step of the first output; None for a float file."""
    return self.output_steps[0]

  def _resize(self, batch: int) -> bool:
    """Sets the batch size; False (and batch 1) when the graph is built for single samples only."""
    if _are_of(self._inputs, batch):
      return True
    with quiet_native():
      if batch not in self._refused:  # Each attempt prepares the whole graph.
        try:
          self._resize_inputs(batch)
          self._interpreter.invoke()
          if _are_of(self._outputs, batch):
            return True
        except UserError:
          pass
        self._refused.add(batch)
        self._resize_inputs(1)
      elif not _are_of(self._inputs, 1):
        self._resize_inputs(1)
    return False

  def _resize_inputs(self, batch: int) -> None:
    for one in self._inputs:
      self._interpreter.resize_tensor_input(one['index'], [batch, *one['shape'][1:]])
    self._interpreter.allocate_tensors()

  def predict(self, images: Any) -> Any:
    """Runs the samples through the file.

    Args:
      images: [n, ...] as the Keras model takes them; for several inputs a tuple in its order.

    Returns:
      Outputs, float32 [n, ...]; several in a tuple.

    Raises:
      UserError: the shapes are not those of the file, or it is damaged.
    """
    given = [np.asarray(one) for one in nested.parts(images)]
    shapes = tuple(one.shape[1:] for one in given)
    if shapes != self.input_shapes or not len(given[0]):
      shown = ' and '.join(str(one.shape) for one in given)
      raise UserError(
        f'{self.path} takes images of shape {" and ".join(map(str, self.input_shapes))}, got an '
        'array '
        f'of shape {shown}; give [n, height, width, channels] of that size.'
      )
    batch = min(PREDICT_BATCH, len(given[0]))
    if not self._resize(batch):
      batch = 1
    pieces = []
    for start in range(0, len(given[0]), batch):
      chunk = [one[start : start + batch] for one in given]
      missing = batch - len(chunk[0])
      if missing:  # filled up rather than resized: a resize prepares the whole graph again
        chunk = [
          np.concatenate([one, np.zeros((missing, *one.shape[1:]), one.dtype)]) for one in chunk
        ]
      self._set(chunk)
      self._interpreter.invoke()
      found = self._get()
      if not all(one.ndim for one in found):
        raise refused(self.path, 'an output has no axis of samples')
      pieces.append(nested.one_or_all([one[: batch - missing] for one in found]))
    return nested.joined(pieces)

  def _set(self, images: Sequence[np.ndarray]) -> None:
    for details, values in zip(self._inputs, images, strict=True):
      if _is_scaled(details):
        values = quantize(values, *details['quantization'], details['dtype'])
      self._interpreter.set_tensor(details['index'], np.asarray(values, details['dtype']))

  def _get(self) -> list[np.ndarray]:
    found = []
    for details in self._outputs:
      values = self._interpreter.get_tensor(details['index'])
      found.append(dequantize(values, *details['quantization']) if _is_scaled(details) else values)
    return found

  def set_single(self, images: Any) -> None:
    """Puts one sample, [...] without the axis of samples, in place for `invoke_once`."""
    self._resize(1)
    self._set([np.asarray(one)[np.newaxis] for one in nested.parts(images)])

  def made_up(self, rng: np.random.Generator) -> Any:
    """A sample of noise for real inputs, of zeros for whole numbers, such as those of tokens."""
    return nested.one_or_all(
      [
        rng.standard_normal(shape, np.float32)
        if _is_scaled(one) or np.issubdtype(one['dtype'], np.floating)
        else np.zeros(shape, one['dtype'])
        for one, shape in zip(self._inputs, self.input_shapes, strict=True)
      ]
    )

  def invoke_once(self) -> None:
    """Runs the graph once on what the input tensor holds, and nothing else."""
    try:  # It is timed: nothing but the runtime's own call is between.
      self._opened.invoke()
    except RAISED as error:
      raise refused(self.path, error) from error

  def nb_bytes(self) -> int:
    """About what the interpreter holds: the file, and all of its tensors at the set batch size."""
    tensors = self._interpreter.get_tensor_details()
    sizes = [int(np.prod(one['shape'])) * np.dtype(one['dtype']).itemsize for one in tensors]
    return self.path.stat().st_size + sum(sizes)

  def operator_names(self) -> list[str]:
    """Kinds of all operators, `DELEGATE` for each piece that a delegate runs."""
    return [one['op_name'] for one in self._interpreter._get_ops_details()]

  def weights(self) -> dict[str, np.ndarray]:
    """Returns the constant tensors of the graph by name, as stored (integers in an int8 file)."""
    found = {}
    for details in self._interpreter.get_tensor_details():
      try:
        found[details['name']] = self._interpreter.get_tensor(details['index'])
      except UserError:  # an activation: it has no value before the graph has run
        continue
    return found
