"""Parts of models by output, models at other sizes, and probabilities that are no softmax."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tf_keras as keras

from secateurs.utils.errors import UserError, first_line
from secateurs.utils.random_inputs import outputs, random_inputs

_NB_PROBES = 4


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
    return model  # Refused by `opened`.
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
  (found,) = outputs(model, random_inputs(model, _NB_PROBES))
  if (found >= 0).all() and np.allclose(found.sum(-1), 1, atol=1e-3):
    last = model.outputs[0]._keras_history.layer
    raise UserError(
      f'Model {model.name} gives probabilities, but not by a softmax that can be taken off (its '
      f'last layer is {last.name}, a {type(last).__name__}): end it in logits, or in a Softmax '
      'layer.'
    )


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
