"""The config of a layer of Keras 3 as tf_keras takes it.

It is nearly the same in both. What is not: types are nested, a few settings have other names, and
Keras 3 has settings that tf_keras lacks, which must have the value that means nothing there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import tf_keras as keras

from secateurs.utils.errors import UserError
from secateurs.utils.keras3 import activations

_NOTHING: dict[str, tuple] = {
  'autocast': (True,),
  'fill_mode': ('constant',),
  'flash_attention': (None, False),
  'noise_shape': (None,),
  'pad_to_aspect_ratio': (False,),
  'quantization_config': (None,),
  'renorm': (False,),
  'rms_scaling': (False,),
  'sliding_window': (None,),
  'use_gate': (False,),
  'oov_method': ('floormod',),
  'salt': (None,),
}
_WITHOUT_EFFECT = (
  'fill_value lora_alpha lora_rank renorm_clipping renorm_momentum use_cudnn optional'
)
_DATA_FORMAT_ONLY_IN_KERAS3 = (
  'CenterCrop RandomBrightness RandomContrast RandomCrop RandomFlip RandomRotation '
  'RandomTranslation RandomZoom Resizing SpatialDropout2D SpatialDropout3D ZeroPadding1D'
)
_RECURRENT = 'SimpleRNN GRU LSTM ConvLSTM1D ConvLSTM2D ConvLSTM3D GRUCell LSTMCell SimpleRNNCell'
_WITHOUT_SEED = [*_RECURRENT.split(), 'MultiHeadAttention', 'Attention', 'AdditiveAttention']


def config_in(layer: Any, config: Mapping[str, Any]) -> dict[str, Any]:
  """A config as tf_keras takes it.

  Raises:
    UserError: it has a setting that tf_keras lacks.
  """
  kind, config = type(layer).__name__, dict(config)
  config['dtype'] = dtype_in(config.get('dtype'))
  if config['dtype'] is None:
    del config['dtype']
  for key, nothing in _NOTHING.items():
    if key in config and not _takes(kind, key):
      value = config.pop(key)
      if value not in nothing:
        raise UserError(
          f'Layer {layer.name!r} ({kind}) of Keras 3 has {key}={value!r}, which tf_keras does not '
          f'have: build it with {key}={nothing[0]!r}.'
        )
  for key in _WITHOUT_EFFECT.split():
    if key in config and not _takes(kind, key):
      del config[key]
  if (
    kind in _DATA_FORMAT_ONLY_IN_KERAS3.split()
    and config.pop('data_format', None) == 'channels_first'
  ):
    raise UserError(
      f'Layer {layer.name!r} ({kind}) has channels first, which tf_keras does not have.'
    )
  if not config.get('zero_output_for_mask'):
    config.pop('zero_output_for_mask', None)
  if kind in ('IntegerLookup', 'StringLookup'):
    if config.get('output_mode') == 'int':
      config['dtype'] = 'int64'  # Keras 3 says float32, and gives integers all the same.
    if hasattr(layer, 'get_vocabulary'):  # What was adapted is not in the config.
      config['vocabulary'] = layer.get_vocabulary(include_special_tokens=False)
  if kind in _WITHOUT_SEED:
    config.pop('seed', None)
  if kind == 'LeakyReLU':
    config['alpha'] = config.pop('negative_slope')
  if kind == 'RandomContrast':
    config.pop('value_range', None)
  if kind == 'Resizing' and config.pop('antialias', False):
    raise UserError(
      f'Layer {layer.name!r} resizes with antialias=True, which tf_keras does not have.'
    )
  if kind == 'Conv3DTranspose' and set(config.pop('dilation_rate', [1])) != {1}:
    raise UserError(f'Layer {layer.name!r} is dilated, which a Conv3DTranspose of tf_keras is not.')
  return {key: _inner(layer, value) for key, value in config.items()}


def _takes(kind: str, key: str) -> bool:
  return (kind, key) in (
    ('Dropout', 'noise_shape'),
    ('RandomRotation', 'fill_mode'),
    ('RandomTranslation', 'fill_mode'),
    ('RandomZoom', 'fill_mode'),
    ('RandomRotation', 'fill_value'),
    ('RandomTranslation', 'fill_value'),
    ('RandomZoom', 'fill_value'),
  )


def dtype_in(dtype: Any) -> str | None:
  """The name of a type or policy."""
  if isinstance(dtype, Mapping):
    dtype = (dtype.get('config') or {}).get('name')
  return dtype if dtype is None or isinstance(dtype, str) else getattr(dtype, 'name', str(dtype))


def _inner(layer: Any, value: Any) -> Any:
  """A layer inside a wrapper's config, likewise."""
  if isinstance(value, list):
    return [_inner(layer, one) for one in value]
  if not isinstance(value, Mapping) or 'class_name' not in value:
    return value
  kind = value['class_name']
  if hasattr(keras.layers, kind) and isinstance(value.get('config'), Mapping):
    found = _Named(layer, kind)
    config = config_in(found, value['config'])
    if take_activation(config) is not None:
      raise UserError(
        f'Layer {layer.name!r} wraps a {kind} whose activation tf_keras does not have: put it after '
        'the layer as an Activation.'
      )
    for key in [key for key in config if key.endswith('_initializer')]:
      config[key] = initializer_in(config[key])
    return keras.layers.serialize(getattr(keras.layers, kind).from_config(config))
  return value


def _Named(layer: Any, kind: str) -> Any:
  """Stands for a layer of a kind of which only the config is known."""
  return type(kind, (), {'name': layer.name})()


def take_activation(config: dict[str, Any]) -> Callable[[Any], Any] | None:
  """Replaces the names of activations; one that tf_keras lacks is taken out and returned.

  Raises:
    ValueError: tf_keras has no such activation, and it cannot follow the layer.
  """
  after = None
  for key in ('activation', 'recurrent_activation'):
    name = config.get(key)
    if not isinstance(name, str):
      continue
    if name in activations.SAME:
      config[key] = activations.SAME[name]
    elif (
      name in activations.FUNCTIONS and key == 'activation' and 'recurrent_activation' not in config
    ):
      config[key], after = 'linear', activations.FUNCTIONS[name]
    elif not keras.utils.get_registered_object(name):
      raise ValueError(f'tf_keras has no activation {name!r}')
  return after


def initializer_in(config: Any) -> Any:
  """The initialiser; a weight's value is given, so one that tf_keras lacks has no effect."""
  if isinstance(config, Mapping) and config.get('module') == 'keras.initializers':
    kind = config['class_name'].removesuffix('Initializer')
    settings = {k: v for k, v in config['config'].items() if k not in ('input_axes', 'output_axes')}
    found = getattr(keras.initializers, kind, None)
    return keras.initializers.GlorotUniform() if found is None else found.from_config(settings)
  return config
