"""Any image classifier as a flat functional model that gives logits, and back.

Networks are trained and cut as functional models that give logits. A given model is opened up into one
(nested and Sequential models become flat), and a softmax at its end is taken off and put on again.
"""

from __future__ import annotations

import numpy as np
import tf_keras as keras

from secateurs.utils.errors import UserError
from secateurs.utils.graph.flat.walk import FlatModel
from secateurs.utils.graph.groups.channel_graph import ChannelGraph
from secateurs.utils.graph.slicing.builder import slice_model
from secateurs.utils.untrusted import INSTEAD_OF_LAMBDA

PROBABILITIES = 'probabilities'
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
      f'Model {model.name} gives {tuple(outputs[0].shape)}, but one number for each of at least two '
      'classes was expected, (None, classes): give a classifier.'
    )
  graph = ChannelGraph(model)
  _refuse_lambdas(graph.traced.flat)
  flat = slice_model(graph, {})
  # Inputs and outputs in a dict, as tensors.
  return _without_softmax(keras.Model(flat.inputs[0], flat.outputs[0], name=flat.name))


def _refuse_lambdas(flat: FlatModel) -> None:
  for name, layer in flat.layers().items():
    if type(layer) is keras.layers.Lambda:
      raise UserError(
        f'Model {flat.model.name} has the Lambda layer {name}, which holds Python code that no '
        f'exported file can carry: {INSTEAD_OF_LAMBDA}.'
      )


def classifying_part(model: keras.Model, output: str | None) -> keras.Model:
  """The part of a model that one of its outputs needs; the model itself if it has but one.

  Args:
    model: with any number of outputs; layers and weights are shared with it.
    output: name of the layer that gives the output, as in `model.output_names`, or its key where the
      outputs are a dict; None if there is but one.

  Raises:
    UserError: several outputs, or others than the named one.
  """
  if not isinstance(model, keras.Model) or not model.outputs:
    return model  # Refused by `as_classifier`.
  outputs = dict(zip(model.output_names, model.outputs, strict=True))
  if isinstance(model.output, dict):
    outputs |= model.output
  names = ', '.join(model.output if isinstance(model.output, dict) else model.output_names)
  if output is None and len(model.outputs) > 1:
    raise UserError(
      f'Model {model.name} has {len(model.outputs)} outputs ({names}), but one that classifies was '
      'expected: name it with output=NAME, as in output='
      f'{names.split(", ")[0]!r}; on the command line with --model_output.'
    )
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
  found = keras.layers.Softmax(name=PROBABILITIES)(model.outputs[0])
  return keras.Model(model.inputs, found, name=model.name)


def _without_softmax(model: keras.Model) -> tuple[keras.Model, bool]:
  last = model.outputs[0]._keras_history.layer
  if _is_softmax(last):
    return keras.Model(model.inputs, last.input, name=model.name), True
  if getattr(last, 'activation', None) is keras.activations.softmax:
    config = model.get_config()
    entry = next(one for one in config['layers'] if one['name'] == last.name)
    entry['config']['activation'] = 'linear'
    twin = type(model).from_config(config)
    twin.set_weights(model.get_weights())
    return twin, True
  _refuse_other_probabilities(model)
  return model, False


def _is_softmax(layer: keras.layers.Layer) -> bool:
  if isinstance(layer, keras.layers.Softmax):
    return True
  if isinstance(layer, keras.layers.Activation):
    return layer.activation is keras.activations.softmax
  return getattr(layer, 'symbol', None) == 'nn.softmax'  # As an operation on the tensor.


def _refuse_other_probabilities(model: keras.Model) -> None:
  """Outputs that always add up to one are probabilities, which no loss here takes for logits."""
  shape = model.inputs[0].shape[1:]
  if None in shape:
    return
  images = np.random.default_rng(0).normal(0, 1, (_NB_PROBES, *shape)).astype(np.float32)
  found = model(images, training=False).numpy()
  if (found >= 0).all() and np.allclose(found.sum(-1), 1, atol=1e-3):
    last = model.outputs[0]._keras_history.layer
    raise UserError(
      f'Model {model.name} gives probabilities, but not by a softmax that can be taken off (its last '
      f'layer is {last.name}, a {type(last).__name__}): end it in logits, or in a Softmax layer.'
    )


def at_size(model: keras.Model, shape: tuple[int, int, int]) -> keras.Model:
  """A model that takes images of any size, for one of them; the weights are copied.

  Raises:
    UserError: it does not work at that size.
  """
  config = model.get_config()
  for entry in config['layers']:
    if entry['class_name'] == 'InputLayer':
      entry['config']['batch_input_shape'] = (None, *shape)
  try:
    twin = type(model).from_config(config)
    twin.set_weights(model.get_weights())
  except ValueError as error:
    raise UserError(
      f'Model {model.name} does not work on images of {shape} ({str(error).splitlines()[0]}): give '
      'another --image_size.'
    ) from error
  return twin
