"""Goes around what a TensorFlow Lite runtime computes wrongly, or says which layer it is."""

from __future__ import annotations

import dataclasses

import numpy as np
import tensorflow as tf
import tf_keras as keras

from secateurs.utils.deploy.faults.halving import first_difference, outputs_of
from secateurs.utils.deploy.faults.rewritings import (
  REWRITINGS,
  LayerCall,
  alike,
  describe,
  rewritten,
)
from secateurs.utils.deploy.files.convert import convert, trace_function
from secateurs.utils.deploy.files.parity import FLOAT_TOLERANCE, compare_outputs, keras_outputs
from secateurs.utils.errors import UserError
from secateurs.utils.graph.flat.walk import flatten_model

_MAX_ROUNDS = 8
_EXACT = 1e-5  # Difference in Keras, as a fraction of the range: another order of sums.


@dataclasses.dataclass(frozen=True)
class Repair:
  """The outcome of a search for the layers that a runtime computes wrongly.

  Attributes:
    calls: by layer the call that files are made with in its place.
    fault: the first layer that still differs, in words; None where the file is right.
    notes: a sentence for each kind of layer that was rewritten.
  """

  calls: dict[keras.layers.Layer, LayerCall]
  fault: str | None
  notes: list[str]


def repair(model: keras.Model, images: np.ndarray) -> Repair:
  """Finds the layers that a float file of a model computes wrongly, and rewrites them where it can.

  Args:
    model: with one input, whose float .tflite file differs from it.
    images: float32 [n, h, w, c], to compare on.
  """
  calls: dict[keras.layers.Layer, LayerCall] = {}
  notes: list[str] = []
  for _ in range(_MAX_ROUNDS):
    found = first_difference(model, images, FLOAT_TOLERANCE, calls)
    if found is None:
      return Repair(calls, None, notes)
    call, flat = found
    layer, text = call.layer, describe(call.layer, flat.shapes[call.inputs[0]])
    name = None if layer in calls else _rewriting(layer, flat.shapes[call.inputs[0]])
    if name is None:
      return Repair(calls, text, notes)
    for other in flatten_model(model).layers().values():
      if alike(other) == alike(layer) and (new := REWRITINGS[name](other)) is not None:
        calls[other] = new
    notes.append(
      f'TensorFlow Lite computes layer {text} wrongly here: its .tflite files hold {name} in its '
      'place, which is equal.'
    )
  return Repair(calls, text, notes)


def _rewriting(layer: keras.layers.Layer, shape: tuple[int | None, ...]) -> str | None:
  """The first rewriting of a layer that is equal in Keras and right in a file, by name."""
  inputs = keras.Input(shape[1:])
  images = np.random.default_rng(0).standard_normal((4, *shape[1:]), np.float32)
  alone = keras.Model(inputs, keras.layers.Flatten()(layer(inputs)))
  expected = keras_outputs(alone, images)
  for name, rewriting in REWRITINGS.items():
    call = rewriting(layer)
    if call is None:
      continue
    try:
      with rewritten({layer: call}):
        equal = compare_outputs(expected, keras_outputs(alone, images))
        content = convert(trace_function(lambda x: alone(x, training=False), shape[1:]), layer.name)
      right = compare_outputs(expected, outputs_of(content, images))
    except (UserError, RuntimeError, ValueError, tf.errors.OpError):
      continue  # Neither layer nor runtime takes it.
    if equal.max_rel_diff <= _EXACT and right.max_rel_diff <= FLOAT_TOLERANCE:
      return name
  return None
