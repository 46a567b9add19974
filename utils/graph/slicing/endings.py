"""Any model as a flat functional one, and the activations at its end, taken off and put on again.

Networks are trained and cut on what comes before a softmax or a sigmoid at their end (logits).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf
import tf_keras as keras

from secateurs.utils.errors import UserError
from secateurs.utils.graph.flat.walk import FlatModel
from secateurs.utils.graph.groups.channel_graph import ChannelGraph
from secateurs.utils.graph.slicing.builder import slice_model
from secateurs.utils.untrusted import INSTEAD_OF_LAMBDA

SOFTMAX, SIGMOID = 'softmax', 'sigmoid'
PROBABILITIES = 'probabilities'
Ending = str | None
"""`softmax`, `sigmoid` or None."""

_FUNCTIONS = {keras.activations.softmax: SOFTMAX, keras.activations.sigmoid: SIGMOID}
_SYMBOLS = {'nn.softmax': SOFTMAX, 'math.sigmoid': SIGMOID, 'nn.sigmoid': SIGMOID}


def opened(model: keras.Model) -> keras.Model:
  """A flat functional model with the weights of a given one, its inputs and outputs as tensors.

  Nested and Sequential models are opened up; one input or output is a tensor, several are a list.

  Raises:
    UserError: the model cannot be opened up, or has a Lambda layer.
  """
  if not isinstance(model, keras.Model):
    raise UserError(
      f'A tf_keras model was expected, but a {type(model).__module__}.{type(model).__name__} came: '
      'build or load it with tf_keras (import tf_keras as keras).'
    )
  graph = ChannelGraph(model)
  _refuse_lambdas(graph.traced.flat)
  flat = slice_model(graph, {})
  return keras.Model(_one_or_all(flat.inputs), _one_or_all(flat.outputs), name=flat.name)


def ending_of(model: keras.Model, output: int = 0) -> Ending:
  """The activation that ends an output of a model, as its layer, its last layer's, or an operation."""
  layer = model.outputs[output]._keras_history.layer
  if isinstance(layer, keras.Model):
    return ending_of(layer, _place(layer, model.outputs[output]))
  if isinstance(layer, keras.layers.Softmax):
    return SOFTMAX
  if getattr(layer, 'symbol', None) in _SYMBOLS:
    return _SYMBOLS[layer.symbol]
  inner = layer.layer if isinstance(layer, keras.layers.TimeDistributed) else layer
  if isinstance(inner, keras.layers.RNN):
    return None  # Its activation is part of its state.
  return _FUNCTIONS.get(getattr(inner, 'activation', None))


def without_endings(model: keras.Model, endings: Sequence[Ending]) -> keras.Model:
  """A flat functional model without the activations that end its outputs.

  Args:
    model: from `opened`.
    endings: for each output what `ending_of` gives, or None to leave it.
  """
  config: dict[str, Any] = {}
  for tensor, ending in zip(model.outputs, endings, strict=True):
    layer = tensor._keras_history.layer
    if ending is not None and not _is_activation(layer):
      config = config or model.get_config()
      entry = next(one for one in config['layers'] if one['name'] == layer.name)['config']
      entry = entry['layer']['config'] if 'layer' in entry else entry
      entry['activation'] = 'linear'
  if config:
    twin = type(model).from_config(config)
    twin.set_weights(model.get_weights())
    model = twin
  outputs = [
    tensor._keras_history.layer.input
    if ending is not None and _is_activation(tensor._keras_history.layer)
    else tensor
    for tensor, ending in zip(model.outputs, endings, strict=True)
  ]
  if all(a is b for a, b in zip(outputs, model.outputs)):
    return model
  return keras.Model(model.inputs, _one_or_all(outputs), name=model.name)


def with_endings(model: keras.Model, endings: Sequence[Ending]) -> keras.Model:
  """The model with activations after its outputs; layers and weights are shared."""
  if not any(endings):
    return model
  outputs = []
  for number, (tensor, ending) in enumerate(zip(model.outputs, endings, strict=True)):
    name = PROBABILITIES if len(endings) == 1 else f'{PROBABILITIES}_{number}'
    if ending == SOFTMAX:
      tensor = keras.layers.Softmax(name=name, dtype='float32')(tensor)
    elif ending == SIGMOID:
      tensor = keras.layers.Activation(SIGMOID, name=name, dtype='float32')(tensor)
    outputs.append(tensor)
  return keras.Model(model.inputs, _one_or_all(outputs), name=model.name)


def _place(model: keras.Model, tensor: Any) -> int:
  """Which output of a nested model a tensor is."""
  return tensor._keras_history.tensor_index


def _is_activation(layer: keras.layers.Layer) -> bool:
  """Whether a layer is nothing but an activation."""
  kinds = (keras.layers.Softmax, keras.layers.Activation)
  return isinstance(layer, kinds) or getattr(layer, 'symbol', None) in _SYMBOLS


def _one_or_all(tensors: Sequence[tf.Tensor]) -> Any:
  return tensors[0] if len(tensors) == 1 else list(tensors)


def _refuse_lambdas(flat: FlatModel) -> None:
  for name, layer in flat.layers().items():
    if type(layer) is keras.layers.Lambda:
      raise UserError(
        f'Model {flat.model.name} has the Lambda layer {name}, which holds Python code that no '
        f'exported file can carry: {INSTEAD_OF_LAMBDA}.'
      )
