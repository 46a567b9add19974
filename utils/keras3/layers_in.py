"""A layer of Keras 3 as a tf_keras layer of the same name, from its config."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import tf_keras as keras

from secateurs.utils.errors import UserError, first_line
from secateurs.utils.keras3.configs_in import config_in, dtype_in, initializer_in, take_activation

Custom = Mapping[Any, Any]
"""Class of Keras 3, or its name -> tf_keras class, or function of the layer that makes a layer."""

# Augmentation that tf_keras lacks: nothing happens at inference.
AUGMENTATION = (
  'AugMix CutMix MixUp RandAugment RandomColorDegeneration RandomColorJitter '
  'RandomElasticTransform RandomErasing RandomGaussianBlur RandomGrayscale RandomHue '
  'RandomInvert RandomPerspective RandomPosterization RandomSaturation RandomSharpness '
  'RandomShear'
)


@dataclasses.dataclass
class Made:
  """A tf_keras layer, and what follows it where an activation is not one of tf_keras.

  Attributes:
    layer: not yet built.
    after: operation on the layer's output.
    initializers: the layer's own, by the name of the attribute, which are put back once it is built.
    note: what the reader should know.
  """

  layer: keras.layers.Layer
  after: Callable[[Any], Any] | None = None
  initializers: dict[str, Any] = dataclasses.field(default_factory=dict)
  note: str = ''


def make_layer(layer: Any, custom: Custom, name: str) -> Made:
  """The tf_keras layer of a layer of Keras 3, without its weights.

  Args:
    layer: of Keras 3.
    custom: see `Custom`.
    name: what it is called, where that is not its own name.

  Raises:
    UserError: there is none, or not with these settings.
  """
  kind = type(layer)
  mapped = custom.get(kind, custom.get(kind.__name__))
  if mapped is not None:
    return Made(_of_user(layer, mapped, name))
  if kind.__module__.split('.')[0] != 'keras':
    return Made(_registered(layer, name))
  if kind.__name__ == 'Lambda':
    raise UserError(
      f'Model layer {layer.name!r} of Keras 3 is a Lambda layer, which holds Python code that no '
      'exported file can carry: put a Rescaling layer, an operation on the tensor itself (x / 255) or '
      'a layer class in its place.'
    )
  try:
    return _stock(layer, name)
  except UserError:
    raise
  except Exception as error:  # Whatever a constructor raises on settings that it does not know.
    reason = first_line(error)
    raise UserError(
      f'Layer {layer.name!r} ({kind.__name__}) of Keras 3 cannot be made as a tf_keras layer '
      f'({reason}): put a layer that both have in its place, or map its class to a tf_keras one.'
    ) from error


def _stock(layer: Any, name: str) -> Made:
  kind = type(layer).__name__
  if kind in AUGMENTATION.split():
    note = f'{layer.name} ({kind}) augments in Keras 3 alone: it is left out of training.'
    return Made(keras.layers.Activation('linear', **_basics(layer, name)), note=note)
  if kind == 'Identity':  # Which accepts settings that its own config cannot hold.
    return Made(keras.layers.Identity(**_basics(layer, name)))
  if kind == 'RMSNormalization':
    return _rms_norm(layer, name)
  if kind == 'LayerScale':
    return Made(_layer_scale(layer, name))
  if kind == 'CustomScaleLayer':  # InceptionResNetV2's residual: inputs[0] + scale * inputs[1].
    from tf_keras.src.applications.inception_resnet_v2 import CustomScaleLayer

    return Made(CustomScaleLayer(layer.scale, **_basics(layer, name)))
  if kind == 'StochasticDepth':
    shape = (None, *[1] * (len(_input_shape(layer)) - 1))
    rate = layer.drop_path_rate
    return Made(keras.layers.Dropout(rate, noise_shape=shape, **_basics(layer, name)))
  target = getattr(keras.layers, kind, None)
  if target is None:
    raise UserError(
      f'Layer {layer.name!r} is a {kind} of Keras 3, which tf_keras does not have: put layers that '
      'both have in its place, or map the class to a tf_keras one.'
    )
  config = {**config_in(layer, layer.get_config()), 'name': name}
  for size in ('height', 'width'):  # Keras 3 takes 8.0, or NumPy's 8, for 8.
    if config.get(size) is not None and config[size] == int(config[size]):
      config[size] = int(config[size])
  after = take_activation(config)
  own = {}
  for key in [key for key in config if key.endswith('_initializer')]:
    config[key] = initializer = initializer_in(config[key])
    if hasattr(layer, key) and not isinstance(getattr(target, key, None), property):
      config[key], own[key] = 'zeros', initializer
  if kind == 'MultiHeadAttention':
    return Made(target(**config), after, own)  # Its from_config wants the shapes of its inputs.
  return Made(target.from_config(config), after, own)


def _basics(layer: Any, name: str) -> dict[str, Any]:
  """What every layer has, for those that are not made from their config."""
  return {
    'name': name,
    'dtype': dtype_in(layer.dtype_policy),
    'trainable': layer.trainable,
  }


def _input_shape(layer: Any) -> tuple:
  return tuple(layer._inbound_nodes[0].input_tensors[0].shape)


def _layer_scale(layer: Any, name: str) -> keras.layers.Layer:
  """ConvNeXt's learned scale, which is private in both, as a layer that everybody has."""
  return keras.layers.EinsumDense('...c,c->...c', layer.projection_dim, **_basics(layer, name))


def _rms_norm(layer: Any, name: str) -> Made:
  """The scale is a layer; the division comes before it and is the same after it."""
  if layer.axis not in (-1, [-1], len(_input_shape(layer)) - 1):
    raise ValueError('it does not run over the last axis')
  scale = keras.layers.EinsumDense('...c,c->...c', _input_shape(layer)[-1], **_basics(layer, name))
  return Made(_Before(scale, layer.epsilon))


class _Before:
  """Calls a layer on its input divided by the root of its mean square."""

  def __init__(self, layer: keras.layers.Layer, epsilon: float):
    self.layer, self.epsilon = layer, epsilon

  def __call__(self, x: Any) -> Any:
    from secateurs.utils.keras3.operations_steps import rms_norm

    return self.layer(rms_norm(x, None, -1, self.epsilon))

  def __getattr__(self, name: str) -> Any:
    return getattr(self.layer, name)


def _of_user(layer: Any, mapped: Any, name: str) -> keras.layers.Layer:
  if not isinstance(mapped, type):
    return mapped(layer)
  config = {**layer.get_config(), 'dtype': dtype_in(layer.get_config().get('dtype'))}
  config['name'] = name
  return mapped.from_config(config)


def _registered(layer: Any, name: str) -> keras.layers.Layer:
  """The class that is registered with tf_keras under the name that it has with Keras 3."""
  import keras as keras3

  kind = type(layer)
  names = (keras3.saving.get_registered_name(kind), kind.__name__)
  for known in names:
    found = keras.utils.get_registered_object(known) or keras.utils.get_custom_objects().get(known)
    if found is not None:
      return _of_user(layer, found, name)
  raise UserError(
    f'Layer {layer.name!r} is a {kind.__name__}, a class of your own for Keras 3, and no tf_keras '
    'class is known for it: register one under the same name with tf_keras '
    '(tf_keras.utils.register_keras_serializable), or give a mapping, '
    f'layers={{{kind.__name__}: TfKerasClass}}.'
  )
