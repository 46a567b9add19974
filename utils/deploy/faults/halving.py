"""Finds the first layer that a TensorFlow Lite file computes differently from the model."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf
import tf_keras as keras

from secateurs.utils.deploy.faults.rewritings import LayerCall, rewritten
from secateurs.utils.deploy.files.convert import convert, trace_function
from secateurs.utils.deploy.runtime.interpreter import TFLiteModel
from secateurs.utils.errors import UserError
from secateurs.utils.graph.flat.cuts import crossing, run_calls
from secateurs.utils.graph.flat.walk import Call, FlatModel, flatten_model

_NB_IMAGES = 4


def first_difference(
  model: keras.Model,
  images: np.ndarray,
  tolerance: float,
  rewritings: Mapping[keras.layers.Layer, LayerCall] | None = None,
) -> tuple[Call, FlatModel] | None:
  """The first call whose outputs a file computes differently, found by halving.

  Everything that crosses a place of the network is compared there, so that a difference once made is
  seen at each later place: log2(layers) conversions.

  Args:
    model: with one input, whose file is known to differ.
    images: float32 [n, h, w, c], of which a few are taken.
    tolerance: largest difference of a tensor, as a fraction of its range.
    rewritings: calls that the file is made with in place of layers' own.

  Returns:
    The call and the flattened model, or None where no place of the network differs.
  """
  flat, images = flatten_model(model), images[:_NB_IMAGES]
  low, high = 0, len(flat.calls)
  if not _differs(flat, high, images, tolerance, rewritings or {}):
    return None
  while high - low > 1:
    middle = (low + high) // 2
    if _differs(flat, middle, images, tolerance, rewritings or {}):
      high = middle
    else:
      low = middle
  return flat.calls[high - 1], flat


def _differs(
  flat: FlatModel,
  position: int,
  images: np.ndarray,
  tolerance: float,
  rewritings: Mapping[keras.layers.Layer, LayerCall],
) -> bool:
  """Whether a file of the first calls gives other values than Keras for a tensor that crosses."""
  ((number, _),) = flat.inputs
  wanted = [n for n in crossing(flat, position) if n != number]

  def tensors(image: tf.Tensor) -> list[tf.Tensor]:
    values = run_calls(flat.calls[:position], {number: image}, wanted=wanted)
    return [tf.cast(values[n], tf.float32) for n in wanted]

  def joined(image: tf.Tensor) -> tf.Tensor:
    return tf.concat([tf.reshape(one, (1, -1)) for one in tensors(image)], axis=1)

  expected = [value.numpy().reshape(len(images), -1) for value in tensors(tf.constant(images))]
  try:
    with rewritten(rewritings):
      function = trace_function(joined, images.shape[1:])
    found = outputs_of(convert(function, flat.model.name), images)
  except (UserError, RuntimeError, ValueError):
    return False  # Not known here; a later place shows it.
  ends = np.cumsum([value.shape[1] for value in expected])[:-1]
  for value, given in zip(expected, np.split(found, ends, axis=1), strict=True):
    span = float(np.ptp(value)) or float(np.abs(value).max(initial=0.0)) or 1.0
    if not np.abs(value - given).max(initial=0.0) <= tolerance * span:
      return True
  return False


def outputs_of(content: bytes, images: np.ndarray) -> np.ndarray:
  """What a .tflite file gives for images, float32 [n, outputs]."""
  with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / 'part.tflite'
    path.write_bytes(content)
    file = TFLiteModel(path)
    found = [np.reshape(file.predict(image[np.newaxis]), (1, -1)) for image in images]
    return np.concatenate(found)
