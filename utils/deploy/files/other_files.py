"""Writers of the formats that are exported only where they are asked for."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from secateurs.utils import nested
from secateurs.utils.deploy.files.convert import convert
from secateurs.utils.deploy.files.export_files import Job, Writer
from secateurs.utils.deploy.files.parity import Parity, compare_outputs, require_parity
from secateurs.utils.deploy.runtime.interpreter import TFLiteModel
from secateurs.utils.errors import UserError
from secateurs.utils.quiet import quiet_native

FP16_TOLERANCE = 0.02  # Of the outputs' range.


def _write_light(job: Job, partial: Path, name: str, weights: str) -> Parity:
  """A .tflite file with float inputs and outputs and smaller weights; rounding is reported only."""
  del name
  partial.write_bytes(convert(job.function, job.model.name, weights=weights))
  file = TFLiteModel(partial)
  return compare_outputs(job.reference, file.predict(job.images), None, job.agreement)


def write_fp16(job: Job, partial: Path, name: str) -> Parity:
  """Weights in float16, which are converted to float32 when the file is loaded.

  Raises:
    ParityError: outputs differ by more than 2 % of their range.
  """
  return require_parity(name, _write_light(job, partial, name, 'float16'), FP16_TOLERANCE)


def write_dynamic(job: Job, partial: Path, name: str) -> Parity:
  """Weights in 8 bits; activations are float32 and quantised within the operators as they come."""
  return _write_light(job, partial, name, 'dynamic')


def write_saved_model(job: Job, partial: Path, name: str) -> Parity:
  """A folder with TensorFlow's SavedModel, whose `serve` takes any number of samples.

  Raises:
    ParityError: it computes something else.
  """
  with quiet_native(), contextlib.redirect_stdout(io.StringIO()):
    job.model.export(str(partial))
  loaded = tf.saved_model.load(str(partial))
  inputs = [tf.constant(one) for one in nested.parts(job.images)]
  found = nested.parts(loaded.serve(inputs[0] if len(inputs) == 1 else inputs))
  outputs = nested.one_or_all([np.asarray(one) for one in found])
  return require_parity(name, compare_outputs(job.reference, outputs, None, job.agreement))


def write_onnx(job: Job, partial: Path, name: str) -> Parity:
  """An ONNX file, by Keras 3's own export, checked with onnxruntime.

  Raises:
    UserError: a library is missing, or the network has no form in Keras 3.
    ParityError: the file computes something else.
  """
  require_onnx()
  from secateurs.utils.keras3 import to_keras3

  made = partial.with_name(f'{partial.name}.onnx')  # Keras looks at the ending.
  try:
    with quiet_native():
      to_keras3(job.model).export(str(made), format='onnx', verbose=False)
    shutil.move(made, partial)
  finally:
    made.unlink(missing_ok=True)
  outputs = onnx_function(partial)(job.images)
  return require_parity(name, compare_outputs(job.reference, outputs, None, job.agreement))


def onnx_function(path: Path, threads: int = 1) -> Callable[[Any], Any]:
  """A function from inputs [n, ...] to outputs [n, ...] that runs an ONNX file with onnxruntime."""
  import onnxruntime

  options = onnxruntime.SessionOptions()
  options.intra_op_num_threads = threads
  session = onnxruntime.InferenceSession(
    path.read_bytes(), options, providers=['CPUExecutionProvider']
  )
  names = [one.name for one in session.get_inputs()]

  def run(inputs: Any) -> Any:
    given = [np.asarray(one) for one in nested.parts(inputs)]
    return nested.one_or_all(session.run(None, dict(zip(names, given, strict=True))))

  return run


def require_onnx() -> None:
  """Checks that ONNX files can be written and run.

  Raises:
    UserError: a library is missing.
  """
  missing = [one for one in ('onnx', 'onnxruntime', 'tf2onnx') if not importlib.util.find_spec(one)]
  if missing:
    raise UserError(
      f"ONNX files need {', '.join(missing)}, which is not installed: pip install -e '.[onnx]'."
    )


FURTHER: dict[str, Writer] = {
  'tflite_fp16': write_fp16,
  'tflite_dynamic': write_dynamic,
  'saved_model': write_saved_model,
  'onnx': write_onnx,
}
