"""Does an exported file compute what the Keras model computes?"""

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

from secateurs.utils import nested
from secateurs.utils.deploy.runtime.interpreter import TFLiteModel
from secateurs.utils.keras_archives import load_tf_keras
from secateurs.utils.quiet import quiet_native

FLOAT_TOLERANCE = 1e-3
"""Largest allowed difference of a float file, as a fraction of the output's range."""

_BATCH = 16

Agreement = Callable[[Any, Any], float | None]
"""Fraction of the decisions that two sets of outputs agree in; None where nothing is decided."""


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
    top1_agreement: fraction of the decisions that are the same, such as of largest classes, in [0, 1];
      None where outputs decide nothing.
    max_diff_steps: max_abs_diff in integer output steps; None for float files.
  """

  nb_images: int
  max_abs_diff: float
  output_range: float
  max_rel_diff: float
  top1_agreement: float | None
  max_diff_steps: float | None = None


def top1_agreement(reference: Any, outputs: Any) -> float | None:
  """Fraction of the samples (or positions) with the same largest class; None for single numbers."""
  pairs = zip(nested.parts(reference), nested.parts(outputs), strict=True)
  known = [
    np.mean(a.argmax(-1) == b.argmax(-1)) for a, b in pairs if a.ndim > 1 and a.shape[-1] > 1
  ]
  return float(min(known)) if known else None


def compare_outputs(
  reference: Any,
  outputs: Any,
  output_step: float | Sequence[float | None] | None = None,
  agreement: Agreement = top1_agreement,
) -> Parity:
  """Compares two sets of outputs [n, ...]; of several outputs the one that differs most counts.

  Args:
    reference: the model's outputs, in a tuple if there are several.
    outputs: the file's outputs for the same images.
    output_step: the real value of one integer step of the file's output, if it has one; of several
      outputs one for each.
    agreement: fraction of decisions that are the same.

  Raises:
    ParityError: the shapes differ, or the model's own outputs are not finite.
  """
  wanted, found = nested.parts(reference), nested.parts(outputs)
  if [one.shape for one in wanted] != [one.shape for one in found]:
    raise ParityError(f'expected outputs of shape {_shapes(wanted)}, got {_shapes(found)}')
  if not all(np.all(np.isfinite(one)) for one in wanted):
    raise ParityError("the Keras model's outputs are not finite: train it again before exporting")
  steps = output_step if isinstance(output_step, (list, tuple)) else [output_step] * len(wanted)
  each = [_compared(a, b, step) for a, b, step in zip(wanted, found, steps, strict=True)]
  # A number counts for less than none at all (NaN), which no comparison of numbers would find.
  worst = max(each, key=lambda one: (math.isnan(one.max_rel_diff), one.max_rel_diff))
  of_steps = [one.max_diff_steps for one in each if one.max_diff_steps is not None]
  return replace(
    worst,
    top1_agreement=agreement(reference, outputs),
    max_diff_steps=max(of_steps, default=None),
  )


def _compared(reference: np.ndarray, outputs: np.ndarray, output_step: float | None) -> Parity:
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
    top1_agreement=None,
    max_diff_steps=diff / output_step if output_step else None,
  )


def _shapes(arrays: Sequence[np.ndarray]) -> str:
  return ' and '.join(str(one.shape) for one in arrays)


def keras_outputs(model: keras.Model, images: Any) -> Any:
  """Returns the outputs in inference mode, float32 [n, ...], several in a tuple."""
  pieces = []
  for start in range(0, nested.size(images), _BATCH):
    given = nested.parts(nested.rows(images, slice(start, start + _BATCH)))
    found = model(given[0] if len(given) == 1 else given, training=False)
    pieces.append(nested.one_or_all([np.asarray(one, np.float32) for one in nested.parts(found)]))
  return nested.joined(pieces)


def graph_def_outputs(
  path: str | os.PathLike,
  images: Any,
  input_name: str | Sequence[str],
  output_name: str | Sequence[str],
) -> Any:
  """Returns the outputs of a frozen GraphDef, float32 [n, ...], in a tuple if there are several.

  Args:
    path: the `.pb` file.
    images: inputs [n, ...].
    input_name: tensor name of the input, like 'image:0'; of several inputs a list.
    output_name: tensor name of the output, like 'output:0', likewise.
  """
  graph_def = tf.compat.v1.GraphDef.FromString(Path(path).read_bytes())
  graph = tf.Graph()
  with graph.as_default():
    tf.import_graph_def(graph_def, name='')
  names, wanted = nested.parts(input_name), nested.parts(output_name)
  # The graph is run for a few images: optimising it first would take longer than that.
  config = tf.compat.v1.ConfigProto()
  config.graph_options.rewrite_options.disable_meta_optimizer = True
  with quiet_native(), tf.compat.v1.Session(graph=graph, config=config) as session:
    pieces = []
    for start in range(0, nested.size(images), _BATCH):
      given = nested.parts(nested.rows(images, slice(start, start + _BATCH)))
      found = session.run(wanted, dict(zip(names, given, strict=True)))
      pieces.append(nested.one_or_all(found))
  return nested.joined(pieces)


def require_parity(name: str, parity: Parity, tolerance: float = FLOAT_TOLERANCE) -> Parity:
  """Returns `parity`, or raises when the difference is over `tolerance` of the output's range.

  Raises:
    ParityError: the file called `name` does not compute what the model computes.
  """
  if not parity.max_rel_diff <= tolerance:  # also true for NaN
    raise ParityError(
      f'{name} differs from the Keras model by {parity.max_rel_diff:.2e} of the output range on '
      f'{parity.nb_images} images{_agreeing(parity)}, expected at most '
      f'{tolerance:.0e}; the file was not kept: please report this with the model.'
    )
  return parity


def _agreeing(parity: Parity) -> str:
  known = parity.top1_agreement
  return '' if known is None else f' (top-1 agreement {known:.1%})'


def check_tflite(
  path: str | os.PathLike,
  reference: Any,
  images: Any,
  *,
  name: str | None = None,
  agreement: Agreement = top1_agreement,
) -> Parity:
  """Compares a `.tflite` file with the model's outputs.

  A full-integer file is compared, and the difference reported in output steps, but never refused:
  how much rounding costs is the user's judgement, a wrong float file is not.

  Args:
    path: the file.
    reference: the Keras model's outputs for `images`, [n, ...].
    images: inputs [n, ...].
    name: what the error calls the file; its own name by default.
    agreement: see `compare_outputs`.

  Raises:
    ParityError: a float file differs by more than FLOAT_TOLERANCE of the output's range.
  """
  model = TFLiteModel(path)
  parity = compare_outputs(reference, model.predict(images), model.output_steps, agreement)
  if model.is_quantized:
    return parity
  return require_parity(name or Path(path).name, parity)


def check_graph_def(
  path: str | os.PathLike,
  reference: Any,
  images: Any,
  *,
  input_name: str | Sequence[str],
  output_name: str | Sequence[str],
  name: str | None = None,
  agreement: Agreement = top1_agreement,
) -> Parity:
  """Compares a frozen GraphDef with the model's outputs.

  Raises:
    ParityError: the file differs by more than FLOAT_TOLERANCE of the output's range.
  """
  outputs = graph_def_outputs(path, images, input_name, output_name)
  return require_parity(
    name or Path(path).name, compare_outputs(reference, outputs, None, agreement)
  )


def check_keras(
  path: str | os.PathLike,
  reference: Any,
  images: Any,
  *,
  name: str | None = None,
  agreement: Agreement = top1_agreement,
) -> Parity:
  """Compares a reloaded `.keras` file with the model's outputs.

  Raises:
    ParityError: the file differs by more than FLOAT_TOLERANCE of the output's range.
  """
  model = load_tf_keras(path)
  parity = compare_outputs(reference, keras_outputs(model, images), None, agreement)
  return require_parity(name or Path(path).name, parity)


def check_keras3(
  path: str | os.PathLike, reference: np.ndarray, images: np.ndarray, *, name: str | None = None
) -> Parity:
  """Compares a reloaded `.keras` file of Keras 3 with the tf_keras model's outputs.

  Raises:
    ParityError: the file differs by more than FLOAT_TOLERANCE of the output's range.
  """
  import keras as keras3

  model = keras3.saving.load_model(path, compile=False)
  parity = compare_outputs(reference, keras_outputs(model, images))
  return require_parity(name or Path(path).name, parity)
