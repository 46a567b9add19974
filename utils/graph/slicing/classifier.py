"""Classifiers as flat functional models that give logits, and parts of models.

Networks are trained and cut as functional models that give logits. A given model is opened up into one
(nested and Sequential models become flat), and a softmax at its end is taken off and put on again.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tf_keras as keras

from secateurs.utils.errors import UserError, first_line
from secateurs.utils.graph.slicing.endings import (
  SOFTMAX,
  ending_of,
  opened,
  with_endings,
  without_endings,
)

_NB_PROBES = 4


def as_classifier(model: keras.Model) -> tuple[keras.Model, bool]:
  """A flat functional model that gives logits, with the weights of a given one.

  Returns:
    (classifier, whether a softmax was taken off its end).

  Raises:
    UserError: the model is no image classifier that can be opened up.
  """
  if not isinstance(model, keras.Model):
    raise UserError(
      f'A tf_keras model was expected, but a {type(model).__module__}.{type(model).__name__} came: '
      'build or load it with tf_keras (import tf_keras as keras).'
    )
  outputs = model.outputs or ()
  if len(model.inputs or ()) != 1 or len(outputs) != 1:
    raise UserError(
      f'Model {model.name} has {len(model.inputs or ())} inputs and {len(outputs)} outputs, but an '
      'image classifier with one of each was expected: give the part of it that classifies.'
    )
  if len(outputs[0].shape) != 2 or (outputs[0].shape[-1] or 0) < 2:
    raise UserError(
      f'Model {model.name} gives {tuple(outputs[0].shape)}, but one number for each of at least '
      'two classes was expected, (None, classes): give a classifier.'
    )
  flat = opened(model)
  if ending_of(flat) == SOFTMAX:
    return without_endings(flat, [SOFTMAX]), True
  refuse_other_probabilities(flat)
  return flat, False


def classifying_part(model: keras.Model, output: str | None) -> keras.Model:
  """The part of a model that one of its outputs needs; the model itself if it has but one.

  Args:
    model: with any number of outputs; layers and weights are shared with it.
    output: name of the layer that gives the output, as in `model.output_names`, or its key where the
      outputs are a dict; None for all.

  Raises:
    UserError: there is no output of that name.
  """
  if not isinstance(model, keras.Model) or not model.outputs:
    return model  # Refused by `as_classifier`.
  outputs = dict(zip(model.output_names, model.outputs, strict=True))
  if isinstance(model.output, dict):
    outputs |= model.output
  names = ', '.join(model.output if isinstance(model.output, dict) else model.output_names)
  if output is None:
    return model
  if output not in outputs:
    raise UserError(
      f'Model {model.name} has no output {output}: its outputs are {names}, name one of these.'
    )
  if len(model.outputs) == 1:
    return model
  return keras.Model(model.inputs, outputs[output], name=model.name)


def with_softmax(model: keras.Model) -> keras.Model:
  """The model with a softmax after it; layers and weights are shared."""
  return with_endings(model, [SOFTMAX])


def refuse_other_probabilities(model: keras.Model, ending: str | None = None) -> None:
  """Refuses outputs that always add up to one, but by no softmax: no loss here takes them for logits.

  Args:
    model: that classifies.
    ending: the activation at its end, if it is known to have one.

  Raises:
    UserError: it gives probabilities.
  """
  shapes = [tensor.shape[1:] for tensor in model.inputs]
  if ending is not None or any(None in shape for shape in shapes):
    return
  rng = np.random.default_rng(0)
  images = [
    rng.normal(0, 1, (_NB_PROBES, *shape)).astype(np.float32)
    if tensor.dtype.is_floating
    else np.zeros((_NB_PROBES, *shape), tensor.dtype.as_numpy_dtype)
    for shape, tensor in zip(shapes, model.inputs, strict=True)
  ]
  found = model(images[0] if len(images) == 1 else images, training=False).numpy()
  if (found >= 0).all() and np.allclose(found.sum(-1), 1, atol=1e-3):
    last = model.outputs[0]._keras_history.layer
    raise UserError(
      f'Model {model.name} gives probabilities, but not by a softmax that can be taken off (its '
      f'last layer is {last.name}, a {type(last).__name__}): end it in logits, or in a Softmax '
      'layer.'
    )


def at_size(model: keras.Model, shape: tuple[int, ...]) -> keras.Model:
  """A model that takes images of any size, for one of them; the weights are copied.

  Raises:
    UserError: it does not work at that size.
  """
  return at_shapes(model, [shape])


def at_shapes(model: keras.Model, shapes: Sequence[tuple[int, ...]]) -> keras.Model:
  """A model with other shapes of samples, for each input in order; the weights are copied.

  Raises:
    UserError: it does not work at these shapes.
  """
  config = model.get_config()
  by_name = {
    tensor._keras_history.layer.name: shape
    for tensor, shape in zip(model.inputs, shapes, strict=True)
  }
  for entry in config['layers']:
    if entry['class_name'] == 'InputLayer':
      entry['config']['batch_input_shape'] = (None, *by_name[entry['config']['name']])
  try:
    twin = type(model).from_config(config)
    twin.set_weights(model.get_weights())
  except ValueError as error:
    shown = ' and '.join(map(str, shapes))
    raise UserError(
      f'Model {model.name} does not work on images of {shown} ({first_line(error)}): give '
      'another --image_size.'
    ) from error
  return twin
