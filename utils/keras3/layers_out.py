"""A tf_keras layer as a layer of Keras 3 of the same name, from its config."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import keras as keras3
import tf_keras as keras

from secateurs.utils.errors import UserError, first_line
from secateurs.utils.keras3.activations import SAME

_SPELLED = {'swish': 'silu'}
_COMMON = ('name', 'dtype', 'trainable')


def make_layer(layer: keras.layers.Layer, name: str) -> tuple[Any, Callable[[Any], Any] | None]:
  """The layer of Keras 3 that a layer is there, without its weights.

  Args:
    layer: a built tf_keras layer.
    name: what it is called.

  Returns:
    (layer, operation on its output or None).

  Raises:
    UserError: there is none.
  """
  kind = type(layer)
  if kind.__module__.split('.')[0] != 'tf_keras':
    return _registered(layer, name), None
  if kind.__name__ == 'LayerScale':
    gamma = keras3.layers.EinsumDense('...c,c->...c', layer.projection_dim, name=name)
    return gamma, None
  if kind.__name__ == 'StochasticDepth':
    shape = (None, *[1] * (len(layer.input_shape) - 1))
    return keras3.layers.Dropout(layer.drop_path_rate, noise_shape=shape, name=name), None
  target = getattr(keras3.layers, kind.__name__.removeprefix('Sync'), None)
  if target is None:
    raise UserError(
      f'Layer {layer.name!r} is a {kind.__name__} of tf_keras, which Keras 3 does not have: the model '
      'cannot be written as a file of Keras 3 with it; its other files are as good.'
    )
  try:
    config = config_out(target, layer.get_config())
    config['name'] = name
    after = _take_activation(config)
    return target.from_config(config), after
  except Exception as error:  # Whatever a constructor raises on settings that it does not know.
    reason = first_line(error)
    raise UserError(
      f'Layer {layer.name!r} ({kind.__name__}) of tf_keras cannot be made as a layer of Keras 3 '
      f'({reason}): put a layer that both have in its place.'
    ) from error


def config_out(target: type, config: Mapping[str, Any]) -> dict[str, Any]:
  """A config as Keras 3 takes it: settings that it lacks are left out; the proof sees to the rest."""
  config = dict(config)
  if target.__name__ == 'LeakyReLU':
    config['negative_slope'] = float(config.pop('alpha'))
  if target.__name__ == 'BatchNormalization' and not isinstance(config['axis'], int):
    (config['axis'],) = config['axis']
  parameters = inspect.signature(target.__init__).parameters
  known = set(parameters)
  if any(one.kind == one.VAR_KEYWORD for one in parameters.values()):
    known |= set(_COMMON)
  config = {key: _plain(value) for key, value in config.items() if key in known}
  return {key: _inner(value) for key, value in config.items()}


def _plain(value: Any) -> Any:
  """Lists that tf_keras tracks as lists."""
  if isinstance(value, (list, tuple)):
    return (
      type(value)(_plain(one) for one in value) if type(value) in (list, tuple) else list(value)
    )
  return value


def _inner(value: Any) -> Any:
  """A layer inside a wrapper's config, likewise."""
  if isinstance(value, list):
    return [_inner(one) for one in value]
  if not isinstance(value, Mapping) or 'class_name' not in value:
    return value
  target = getattr(keras3.layers, value['class_name'], None)
  if target is None or not isinstance(value.get('config'), Mapping):
    return value
  config = config_out(target, value['config'])
  if _take_activation(config) is not None:
    raise ValueError(f'its activation is another function in Keras 3, inside a {target.__name__}')
  return keras3.saving.serialize_keras_object(target.from_config(config))


def _take_activation(config: dict[str, Any]) -> Callable[[Any], Any] | None:
  """Replaces the names of activations; one that is another function in Keras 3 is taken out."""
  from secateurs.utils.keras3.operations_back import hard_sigmoid_of_tf_keras

  after = None
  for key in ('activation', 'recurrent_activation'):
    name = config.get(key)
    if not isinstance(name, str):
      continue
    config[key] = _SPELLED.get(name, name)
    if name == 'hard_sigmoid':
      if 'recurrent_activation' in config:
        raise ValueError('hard_sigmoid is another function in Keras 3')
      config[key], after = 'linear', hard_sigmoid_of_tf_keras
    elif name not in SAME:
      keras3.activations.get(name)  # Raises where there is none.
  return after


def _registered(layer: keras.layers.Layer, name: str) -> Any:
  """The class that is registered with Keras 3 under the name that it has with tf_keras."""
  kind = type(layer)
  for known in (keras.utils.get_registered_name(kind), kind.__name__):
    found = keras3.saving.get_registered_object(known)
    if found is not None:
      return found.from_config({**layer.get_config(), 'name': name})
  raise UserError(
    f'Layer {layer.name!r} is a {kind.__name__}, a class of your own for tf_keras, and no class of '
    'Keras 3 is known for it: register one under the same name with keras '
    '(keras.saving.register_keras_serializable), or give a mapping.'
  )
