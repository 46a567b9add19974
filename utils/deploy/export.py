"""Writes a model in every format that a deployment takes, and proves each file.

One concrete function of batch 1 is frozen once and gives both TensorFlow Lite files; a second one
with an open batch dimension gives the GraphDef. The batch of a TensorFlow Lite file can still be
resized at run time. Freezing and converting the function takes ResNet-20 0.4 s on one core where
`TFLiteConverter.from_keras_model`, which writes and re-reads a SavedModel first, takes 5 s.
"""

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf
import tf_keras as keras

from secateurs.utils.deploy.parity import (
  FLOAT_TOLERANCE,
  Parity,
  check_graph_def,
  check_keras,
  check_tflite,
  keras_outputs,
)
from secateurs.utils.deploy.size import file_size
from secateurs.utils.errors import UserError
from secateurs.utils.files import explain_os_errors, partial_path
from secateurs.utils.quiet import quiet_native

INPUT_NAME = 'image'
OUTPUT_NAME = 'output'
NB_PARITY_IMAGES = 64


@dataclass(frozen=True)
class ExportedFile:
  """One written file: where, how big, and how close to the Keras model."""

  path: Path
  bytes: int
  gzip_bytes: int
  parity: Parity


@dataclass(frozen=True)
class Export:
  """What `export_model` wrote.

  Attributes:
    keras: the `.keras` archive.
    pb: the frozen GraphDef.
    tflite: the float TensorFlow Lite file.
    tflite_int8: the full-integer TensorFlow Lite file, None when it was not asked for.
    tflite_sparse: the float file with zeros left out of the kernels that have many, None when it was
      not asked for. It is unpacked when it is loaded, so that it runs like the float file.
    pb_input: tensor name to feed in the GraphDef, [n, height, width, channels] float32.
    pb_output: tensor name to fetch from the GraphDef, [n, classes] float32.
    seconds: time that all of it took.
  """

  keras: ExportedFile
  pb: ExportedFile
  tflite: ExportedFile
  tflite_int8: ExportedFile | None
  tflite_sparse: ExportedFile | None
  pb_input: str
  pb_output: str
  seconds: float

  @property
  def files(self) -> dict[str, ExportedFile]:
    """The written files by format: keras, pb, tflite and, where there are, the other .tflite files."""
    named = {'keras': self.keras, 'pb': self.pb, 'tflite': self.tflite}
    others = {'tflite_int8': self.tflite_int8, 'tflite_sparse': self.tflite_sparse}
    return named | {kind: file for kind, file in others.items() if file}

  def parity_figures(self) -> dict[str, float]:
    """The report's `parity` entries: differences as shares of the output's range; int8 in steps."""
    figures = {
      'tflite_vs_keras': self.tflite.parity.max_rel_diff,
      'pb_vs_keras': self.pb.parity.max_rel_diff,
      'reloaded_vs_keras': self.keras.parity.max_rel_diff,
    }
    if self.tflite_int8:
      figures['int8_top1_agreement'] = self.tflite_int8.parity.top1_agreement
      figures['int8_max_diff_steps'] = self.tflite_int8.parity.max_diff_steps
    return figures


def check_exportable(model: keras.Model) -> tuple[int, int, int]:
  """Returns the model's image shape (height, width, channels).

  Raises:
    UserError: not a tf_keras model with one image input of fixed size and one output, computed in
      float32.
  """
  if not isinstance(model, keras.Model):
    raise UserError(
      f'Cannot export a {type(model).__module__}.{type(model).__name__}; expected a Keras 2 model '
      '(import tf_keras as keras): build the network with tf_keras and load the weights into it.'
    )
  if len(model.inputs or ()) != 1 or len(model.outputs or ()) != 1:
    raise UserError(
      f"Model '{model.name}' has {len(model.inputs or ())} inputs and "
      f'{len(model.outputs or ())} outputs; expected a functional image classifier with one of '
      'each.'
    )
  shape = tuple(model.inputs[0].shape[1:])
  if len(shape) != 3 or None in shape:
    raise UserError(
      f"Model '{model.name}' takes inputs of shape {shape}; expected a fixed (height, width, "
      'channels): build it with an Input of that shape.'
    )
  for layer in model.submodules:
    compute = getattr(layer, 'compute_dtype', None)
    if isinstance(layer, keras.layers.Layer) and compute in ('bfloat16', 'float16'):
      raise UserError(
        f"Layer '{layer.name}' of model '{model.name}' computes in {compute}; expected float32, "
        'which is what TensorFlow Lite takes: rebuild the model in float32 and copy the weights.'
      )
  return shape


def _frozen(model: keras.Model, shape: tuple[int, ...], batch: int | None):
  """Traces the model in inference mode and turns its variables into constants."""
  from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

  @tf.function(autograph=False)
  def forward(image):  # noqa: ANN001
    return tf.identity(model(image, training=False), name=OUTPUT_NAME)

  spec = tf.TensorSpec((batch, *shape), tf.float32, name=INPUT_NAME)
  return convert_variables_to_constants_v2(forward.get_concrete_function(spec))


def _graph_def(frozen) -> tuple[bytes, str, str]:  # noqa: ANN001
  """Returns the serialized GraphDef with the names of its input and output tensors."""
  output = frozen.outputs[0]
  while output.op.type == 'Identity' and output.op.inputs[0].op.name.startswith(OUTPUT_NAME):
    output = output.op.inputs[0]  # the function's return value wraps our named output
  data = frozen.graph.as_graph_def().SerializeToString(deterministic=True)
  return data, frozen.inputs[0].name, output.name


def _tflite(
  frozen,  # noqa: ANN001
  model_name: str,
  calibration: np.ndarray | None = None,
  sparse: bool = False,
  simulated: bool = False,
) -> bytes:
  """Converts to TensorFlow Lite: float, or full-integer when there are calibration images.

  A function that simulates 8 bits (`simulated`) holds its ranges itself.

  With `sparse`, kernels with many zeros are stored without them (TensorFlow Lite's
  EXPERIMENTAL_SPARSITY, which its XNNPACK runtime does not take for integer kernels).
  """
  from tensorflow.lite.python.convert_phase import ConverterError

  with quiet_native():
    converter = tf.lite.TFLiteConverter.from_concrete_functions([frozen])
    if calibration is not None:
      converter.representative_dataset = lambda: (
        [calibration[i : i + 1]] for i in range(len(calibration))
      )
      converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    if calibration is not None or simulated:
      converter.optimizations = [tf.lite.Optimize.DEFAULT]
      converter.inference_input_type = tf.int8
      converter.inference_output_type = tf.int8
    if sparse:
      converter.optimizations = [tf.lite.Optimize.EXPERIMENTAL_SPARSITY]
    try:
      return converter.convert()
    except (ConverterError, RuntimeError, ValueError) as error:
      kind = 'full-integer' if calibration is not None or simulated else 'float'
      raise UserError(
        f"TensorFlow Lite cannot convert model '{model_name}' to a {kind} file "
        f'({_first_line(error)}); expected layers that it has operators for: replace that one.'
      ) from error


def tflite_bytes(model: keras.Model) -> bytes:
  """The content of a float .tflite file, unproven: for timing a network, not for shipping it.

  Raises:
    UserError: the model cannot be exported.
  """
  return _tflite(_frozen(model, check_exportable(model), batch=1), model.name)


def int8_bytes(model: keras.Model, calibration: np.ndarray) -> bytes:
  """The content of a full-integer .tflite file, quantised after training.

  Args:
    model: a functional tf_keras classifier that computes in float32.
    calibration: as for `export_model`.

  Raises:
    UserError: the model or the images cannot be exported.
  """
  shape = check_exportable(model)
  return _tflite(_frozen(model, shape, batch=1), model.name, _calibration(calibration, shape))


def _first_line(error: Exception) -> str:
  """The converter's own reason, which stands behind the word 'error:' when it is long."""
  lines = [line for line in str(error).splitlines() if line.strip()] or ['no reason given']
  reasons = [line.split('error:', 1)[1] for line in lines if 'error:' in line]
  return (reasons or lines)[0].strip()[:200]


def _calibration(images: np.ndarray | None, shape: tuple[int, ...]) -> np.ndarray:
  came = 'none' if images is None else f'an array of shape {np.shape(images)}'
  if images is None or np.shape(images)[1:] != shape or not len(images):
    raise UserError(
      f'An int8 export needs calibration images of shape (n, {", ".join(map(str, shape))}), came '
      f'{came}; give a few hundred training images as the network sees them.'
    )
  images = np.asarray(images, np.float32)
  if not np.all(np.isfinite(images)):
    raise UserError(
      'The calibration images hold values that are not finite; expected training images as the '
      'network sees them: check the data pipeline.'
    )
  return images


def _parity_images(
  images: np.ndarray | None, calibration: np.ndarray | None, shape: tuple[int, ...]
) -> np.ndarray:
  if images is None:
    images = calibration
  if images is None:
    return np.random.default_rng(0).standard_normal((NB_PARITY_IMAGES, *shape), np.float32)
  images = np.asarray(images[:NB_PARITY_IMAGES], np.float32)
  if images.shape[1:] != shape or not len(images):
    raise UserError(
      f'The parity images have shape {images.shape}, expected (n, '
      f'{", ".join(map(str, shape))}); give images as the network sees them.'
    )
  return images


@contextlib.contextmanager
def _all_or_nothing(paths: list[Path]) -> Iterator[list[Path]]:
  """Yields a partial name for each path; renames all when the block ends, removes all on error."""
  partials = [partial_path(path) for path in paths]
  with explain_os_errors(paths[0].parent):
    paths[0].parent.mkdir(parents=True, exist_ok=True)
    try:
      yield partials
      for partial, path in zip(partials, paths, strict=True):
        os.replace(partial, path)
    finally:
      for partial in partials:
        with contextlib.suppress(OSError):
          partial.unlink(missing_ok=True)


def export_model(
  model: keras.Model,
  prefix: str | os.PathLike,
  *,
  calibration: np.ndarray | None = None,
  int8: bool = False,
  sparse: bool = False,
  parity_images: np.ndarray | None = None,
  quantized: keras.Model | None = None,
) -> Export:
  """Writes `<prefix>.keras`, `.pb`, `.tflite` and, if asked for, `_int8.tflite`, `_sparse.tflite`.

  Every file is written under a partial name, compared with the model, and takes its own name only
  when all of them are whole and right; a kill never leaves a torn file, a refused export keeps the
  earlier one.

  Args:
    model: a functional tf_keras classifier that computes in float32.
    prefix: folder and start of the files' names, e.g. './models_eval/model'.
    calibration: float32 [n, height, width, channels], training images as the network sees them;
      the integer ranges come from all of them (a few hundred do). Needed with `int8`.
    int8: also write the full-integer file, int8 in and out.
    sparse: also write the float file whose kernels leave their zeros out.
    parity_images: images for the comparison, of which the first NB_PARITY_IMAGES are taken; by
      default the first calibration images, else seeded Gaussian noise.
    quantized: a twin of the model that simulates 8 bits; the full-integer file is made from it (and
      compared with it), with or without `int8`.

  Raises:
    UserError: the model or the images cannot be exported, or the folder cannot be written.
    ParityError: a float file does not compute what the model computes.
  """
  started = time.perf_counter()
  shape = check_exportable(model)
  int8 = int8 or quantized is not None
  if int8 and quantized is None:
    calibration = _calibration(calibration, shape)
  images = _parity_images(parity_images, calibration, shape)
  reference = keras_outputs(model, images)
  prefix = Path(prefix)
  suffixes = {'keras': '.keras', 'pb': '.pb', 'tflite': '.tflite'}
  suffixes |= {'tflite_int8': '_int8.tflite'} if int8 else {}
  suffixes |= {'tflite_sparse': '_sparse.tflite'} if sparse else {}
  paths = [prefix.with_name(prefix.name + suffix) for suffix in suffixes.values()]

  parities, sizes = [], []
  with _all_or_nothing(paths) as partials:
    _save_keras(model, partials[0])
    parities.append(check_keras(partials[0], reference, images, name=paths[0].name))

    data, pb_input, pb_output = _graph_def(_frozen(model, shape, batch=None))
    partials[1].write_bytes(data)
    parities.append(
      check_graph_def(
        partials[1],
        reference,
        images,
        input_name=pb_input,
        output_name=pb_output,
        name=paths[1].name,
      )
    )

    frozen = _frozen(model, shape, batch=1)
    twin = None if quantized is None else _frozen(quantized, shape, batch=1)
    for partial, path, kind in zip(partials[2:], paths[2:], [*suffixes][2:], strict=True):
      expected = reference
      if kind == 'tflite_int8' and twin is not None:
        partial.write_bytes(_tflite(twin, model.name, simulated=True))
        expected = keras_outputs(quantized, images)
      else:
        ranges = calibration if kind == 'tflite_int8' else None
        partial.write_bytes(_tflite(frozen, model.name, ranges, sparse=kind == 'tflite_sparse'))
      parities.append(
        check_tflite(partial, expected, images, name=path.name, tolerance=FLOAT_TOLERANCE)
      )
    sizes = [file_size(partial) for partial in partials]

  files = {
    kind: ExportedFile(path, size.bytes, size.gzip_bytes, parity)
    for kind, path, size, parity in zip(suffixes, paths, sizes, parities, strict=True)
  }
  return Export(
    keras=files['keras'],
    pb=files['pb'],
    tflite=files['tflite'],
    tflite_int8=files.get('tflite_int8'),
    tflite_sparse=files.get('tflite_sparse'),
    pb_input=pb_input,
    pb_output=pb_output,
    seconds=time.perf_counter() - started,
  )


def _save_keras(model: keras.Model, path: Path) -> None:
  from secateurs.utils.graph import save_model

  save_model(model, path)
