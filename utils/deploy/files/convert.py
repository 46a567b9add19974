"""Turns a model into the content of its deployment files, in memory.

A model is traced into one concrete function of batch 1, which gives all TensorFlow Lite files; the
batch of such a file can still be resized at run time.

The converter freezes a small function in memory: ResNet-20 takes 0.9 s on one core, 3.4 s by way of a
SavedModel. It holds some twelve copies of the weights while it freezes, five by way of a SavedModel:
large functions go that way, which for them is faster, too (110 MB of weights: 8.6 s, not 14.3 s).
"""

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import tensorflow as tf
import tf_keras as keras

from secateurs.utils import nested
from secateurs.utils.deploy.faults.loops import require_no_loops, unrolled
from secateurs.utils.deploy.faults.rewritings import rewritten
from secateurs.utils.deploy.files.exportable import calibration_images, check_exportable
from secateurs.utils.deploy.int8.empty_ranges import has_empty_ranges, quantize_widened
from secateurs.utils.errors import UserError
from secateurs.utils.quiet import quiet_native
from secateurs.utils.temporary_folders import held_folder

INPUT_NAME = 'image'
OUTPUT_NAME = 'output'
_SIGNATURE = 'serving_default'
_LARGE = 32 << 20  # Bytes of weights.
_COPIES_FROZEN, _COPIES_SAVED = 15, 7


def trace(model: keras.Model, specs: Sequence[tf.TensorSpec], batch: int | None) -> Any:
  """Returns the model in inference mode as a concrete function; it needs the model to live on.

  Args:
    model: functional.
    specs: of `check_exportable`.
    batch: samples of a call, None for any number.
  """

  def outputs_of(*inputs: tf.Tensor) -> Any:
    outputs = nested.parts(model(inputs[0] if len(inputs) == 1 else list(inputs), training=False))
    if len(outputs) == 1:
      return tf.identity(outputs[0], name=OUTPUT_NAME)
    return [tf.identity(one, name=f'{OUTPUT_NAME}_{i}') for i, one in enumerate(outputs)]

  names = [INPUT_NAME] if len(specs) == 1 else [f'{INPUT_NAME}_{i}' for i in range(len(specs))]
  wanted = [
    tf.TensorSpec((batch, *spec.shape), spec.dtype, name=name)
    for spec, name in zip(specs, names, strict=True)
  ]
  forward = tf.function(outputs_of, autograph=False, input_signature=wanted)
  return forward.get_concrete_function()


def trace_function(function: Callable[[tf.Tensor], tf.Tensor], shape: Sequence[int]) -> Any:
  """Returns a function of one image as a concrete function, which `convert` takes."""
  spec = tf.TensorSpec((1, *shape), tf.float32, name=INPUT_NAME)
  forward = tf.function(
    lambda image: tf.identity(function(image), name=OUTPUT_NAME),
    autograph=False,
    input_signature=[spec],
  )
  return forward.get_concrete_function()


def freeze(model: keras.Model, specs: Sequence[tf.TensorSpec], batch: int | None) -> Any:
  """Returns the same with constants in place of variables."""
  from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

  return convert_variables_to_constants_v2(trace(model, specs, batch))


def graph_def(frozen: Any) -> tuple[bytes, list[str], list[str]]:
  """Returns the serialized GraphDef with the names of its input and output tensors."""
  outputs = []
  for output in frozen.outputs:
    while output.op.type == 'Identity' and output.op.inputs[0].op.name.startswith(OUTPUT_NAME):
      output = output.op.inputs[0]  # the function's return value wraps our named output
    outputs.append(output.name)
  data = frozen.graph.as_graph_def().SerializeToString(deterministic=True)
  return data, [tensor.name for tensor in frozen.inputs], outputs


def convert(
  function: Any,
  model_name: str,
  calibration: Any = None,
  sparse: bool = False,
  simulated: bool = False,
  weights: str | None = None,
) -> bytes:
  """Converts to TensorFlow Lite: float, or full-integer when there are calibration images.

  Args:
    function: what `trace` gives with batch 1.
    model_name: for the error.
    calibration: inputs [n, ...] that the integer ranges come from.
    sparse: store kernels with many zeros without them (TensorFlow Lite's EXPERIMENTAL_SPARSITY, which
      its XNNPACK runtime does not take for integer kernels).
    simulated: the function simulates 8 bits, and holds its ranges itself.
    weights: float16, or dynamic for 8 bits with activations that stay float32 between operators.

  Raises:
    UserError: TensorFlow Lite has no operator for a layer, or cannot calibrate a loop.
  """
  from tensorflow.lite.python.convert_phase import ConverterError

  if calibration is not None:
    require_no_loops(function, model_name)
  with quiet_native(), _converter(function) as converter:
    if calibration is not None:
      converter.representative_dataset = lambda: (
        nested.parts(nested.rows(calibration, slice(i, i + 1)))
        for i in range(nested.size(calibration))
      )
      converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    if calibration is not None or simulated:
      converter.optimizations = [tf.lite.Optimize.DEFAULT]
      converter.inference_input_type = tf.int8
      converter.inference_output_type = tf.int8
    if weights is not None:
      converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if weights == 'float16':
      converter.target_spec.supported_types = [tf.float16]
    if sparse:
      converter.optimizations = [tf.lite.Optimize.EXPERIMENTAL_SPARSITY]
    try:
      content = converter.convert()
      if calibration is not None and has_empty_ranges(content):
        converter._experimental_calibrate_only = True
        content = quantize_widened(converter.convert())
      return content
    except (ConverterError, RuntimeError, ValueError) as error:
      kind = 'full-integer' if calibration is not None or simulated else 'float'
      raise UserError(
        f"TensorFlow Lite cannot convert model '{model_name}' to a {kind} file "
        f'({_first_line(error)}); expected layers that it has operators for: replace that one.'
      ) from error


@contextlib.contextmanager
def _converter(function: Any) -> Iterator[tf.lite.TFLiteConverter]:
  """Yields the converter of a concrete function, by the way that takes less memory.

  Raises:
    UserError: there is no room for a large one in the folder for temporary files.
  """
  if not _by_saved_model(function):
    yield tf.lite.TFLiteConverter.from_concrete_functions([function])
    return
  holder = tf.Module()
  holder.function, holder.held = function, list(function.variables)
  with held_folder() as held:
    folder = str(held)
    try:
      tf.saved_model.save(holder, folder, signatures={_SIGNATURE: function})
    except (OSError, tf.errors.OpError) as error:
      raise UserError(
        f'A copy of the weights for the converter cannot be written to {tempfile.gettempdir()} '
        f'({_first_line(error)}); expected room there: free some, or set TMPDIR to another folder.'
      ) from error
    yield tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=[_SIGNATURE])


def _by_saved_model(function: Any) -> bool:
  """Whether a function is large; several outputs would change their order by way of a SavedModel.

  What was frozen before has no variables, and no structure of its inputs either.
  """
  weights = sum(one.shape.num_elements() * one.dtype.size for one in function.variables)
  if weights <= _LARGE:
    return False
  given, made = function.structured_input_signature[0], nested.parts(function.structured_outputs)
  return len(given) == len(made) == 1


def copies_held(weights: int) -> int:
  """How many copies of so many bytes of weights making and comparing files holds at once, about.

  Measured on processes that had trained ResNets and VGG-16 before, beside what these held.
  """
  return _COPIES_SAVED if weights > _LARGE else _COPIES_FROZEN


def tflite_bytes(model: keras.Model) -> bytes:
  """The content of a float .tflite file, unproven: for timing a network, not for shipping it.

  Raises:
    UserError: the model cannot be exported.
  """
  return convert(trace(model, check_exportable(model), batch=1), model.name)


def int8_bytes(model: keras.Model, calibration: Any) -> bytes:
  """The content of a full-integer .tflite file, quantised after training.

  Args:
    model: a functional tf_keras model that computes in float32.
    calibration: as for `export_model`.

  Raises:
    UserError: the model or the images cannot be exported.
  """
  specs = check_exportable(model)
  with rewritten(unrolled(model)):
    function = trace(model, specs, batch=1)
  return convert(function, model.name, calibration_images(calibration, specs))


def _first_line(error: Exception) -> str:
  """The converter's own reason, which comes after the word 'error:' when it is long."""
  lines = [line for line in str(error).splitlines() if line.strip()] or ['no reason given']
  reasons = [line.split('error:', 1)[1] for line in lines if 'error:' in line]
  return (reasons or lines)[0].strip()[:200]
