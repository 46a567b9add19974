"""Does an exported file compute what the Keras model computes?"""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf
import tf_keras as keras

from secateurs.utils.deploy.interpreter import TFLiteModel
from secateurs.utils.quiet import quiet_native

FLOAT_TOLERANCE = 1e-3
"""Largest allowed difference of a float file, as a fraction of the output's range."""

_BATCH = 16


class ParityError(RuntimeError):
  """An exported file computes something else than the model it was made from."""


@dataclass(frozen=True)
class Parity:
  """How far a file's outputs are from the model's.

  Attributes:
    nb_images: images compared.
    max_abs_diff: largest absolute difference of any output.
    output_range: largest minus smallest output of the model over the images.
    max_rel_diff: max_abs_diff / output_range.
    top1_agreement: fraction of the images with the same largest class, in [0, 1].
    max_diff_steps: max_abs_diff in integer output steps; None for float files.
  """

  nb_images: int
  max_abs_diff: float
  output_range: float
  max_rel_diff: float
  top1_agreement: float
  max_diff_steps: float | None = None


def compare_outputs(
  reference: np.ndarray, outputs: np.ndarray, output_step: float | None = None
) -> Parity:
  """Compares two sets of outputs, both [n, classes].

  Args:
    reference: the model's outputs.
    outputs: the file's outputs for the same images.
    output_step: the real value of one integer step of the file's output, if it has one.

  Raises:
    ParityError: the shapes differ, or the model's own outputs are not finite.
  """
  if reference.shape != outputs.shape:
    raise ParityError(f'expected outputs of shape {reference.shape}, got {outputs.shape}')
  if not np.all(np.isfinite(reference)):
    raise ParityError("the Keras model's outputs are not finite: train it again before exporting")
  reference = reference.astype(np.float64)
  diff = float(np.max(np.abs(reference - outputs)))
  span = float(np.ptp(reference))
  # A model with one constant output has no range; its size is the next best measure.
  scale = span or float(np.max(np.abs(reference))) or 1.0
  return Parity(
    nb_images=len(reference),
    max_abs_diff=diff,
    output_range=span,
    max_rel_diff=diff / scale,
    top1_agreement=float(np.mean(reference.argmax(1) == outputs.argmax(1))),
    max_diff_steps=diff / output_step if output_step else None,
  )


def keras_outputs(model: keras.Model, images: np.ndarray) -> np.ndarray:
  """Returns the model's outputs in inference mode, float32 [n, classes]."""
  parts = [
    np.asarray(model(images[start : start + _BATCH], training=False), np.float32)
    for start in range(0, len(images), _BATCH)
  ]
  outputs = np.concatenate(parts)
  return outputs.reshape(len(outputs), -1)


def graph_def_outputs(
  path: str | os.PathLike, images: np.ndarray, input_name: str, output_name: str
) -> np.ndarray:
  """Returns the outputs of a frozen GraphDef, float32 [n, classes].

  Args:
    path: the `.pb` file.
    images: float32 [n, height, width, channels].
    input_name: tensor name of the input, like 'image:0'.
    output_name: tensor name of the output, like 'output:0'.
  """
  graph_def = tf.compat.v1.GraphDef.FromString(Path(path).read_bytes())
  graph = tf.Graph()
  with graph.as_default():
    tf.import_graph_def(graph_def, name='')
  with quiet_native(), tf.compat.v1.Session(graph=graph) as session:
    parts = [
      session.run(output_name, {input_name: images[start : start + _BATCH]})
      for start in range(0, len(images), _BATCH)
    ]
  outputs = np.concatenate(parts)
  return outputs.reshape(len(outputs), -1)


def require_parity(name: str, parity: Parity, tolerance: float = FLOAT_TOLERANCE) -> Parity:
  """Returns `parity`, or raises when the difference is over `tolerance` of the output's range.

  Raises:
    ParityError: the file called `name` does not compute what the model computes.
  """
  if not parity.max_rel_diff <= tolerance:  # also true for NaN
    raise ParityError(
      f'{name} differs from the Keras model by {parity.max_rel_diff:.2e} of the output range on '
      f'{parity.nb_images} images (top-1 agreement {parity.top1_agreement:.1%}), expected at most '
      f'{tolerance:.0e}; the file was not kept: please report this with the model.'
    )
  return parity


def check_tflite(
  path: str | os.PathLike,
  reference: np.ndarray,
  images: np.ndarray,
  *,
  name: str | None = None,
  tolerance: float | None = FLOAT_TOLERANCE,
) -> Parity:
  """Compares a `.tflite` file with the model's outputs.

  A full-integer file is compared, and the difference reported in output steps, but never refused:
  how much rounding costs is the user's judgement, a wrong float file is not.

  Args:
    path: the file.
    reference: the Keras model's outputs for `images`, [n, classes].
    images: float32 [n, height, width, channels].
    name: what the error calls the file; its own name by default.
    tolerance: largest difference of a float file as a fraction of the output's range.

  Raises:
    ParityError: a float file differs by more than `tolerance`.
  """
  model = TFLiteModel(path)
  parity = compare_outputs(reference, model.predict(images), model.output_step)
  if model.is_quantized:
    return parity
  return require_parity(name or Path(path).name, parity, tolerance)


def check_graph_def(
  path: str | os.PathLike,
  reference: np.ndarray,
  images: np.ndarray,
  *,
  input_name: str,
  output_name: str,
  name: str | None = None,
) -> Parity:
  """Compares a frozen GraphDef with the model's outputs.

  Raises:
    ParityError: the file differs by more than FLOAT_TOLERANCE of the output's range.
  """
  outputs = graph_def_outputs(path, images, input_name, output_name)
  return require_parity(name or Path(path).name, compare_outputs(reference, outputs))


def check_keras(
  path: str | os.PathLike, reference: np.ndarray, images: np.ndarray, *, name: str | None = None
) -> Parity:
  """Compares a reloaded `.keras` file with the model's outputs.

  Raises:
    ParityError: the file differs by more than FLOAT_TOLERANCE of the output's range.
  """
  model = keras.models.load_model(path, compile=False)
  parity = compare_outputs(reference, keras_outputs(model, images))
  return require_parity(name or Path(path).name, parity)
