"""Makes layers and functional models again with given configs and weights.

Random initialisation is most of the cost of building a large Keras model, so layers are built with
initialisers that hand out the final values; the layer's own initialisers are put back afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

from secateurs.utils.errors import UserError, first_line
from secateurs.utils.graph.flat.state import copy_state, held_state
from secateurs.utils.graph.flat.walk import FlatModel, Ref

KERNELS = ('kernel', 'depthwise_kernel', 'pointwise_kernel')
"""Names of the weights that layers multiply their inputs with."""

Axes = dict[str, Sequence[tuple[int, np.ndarray]]]
"""For each weight that shrinks pairs (axis, bool array of what stays)."""

_WEIGHT_OF = {
  'depthwise_initializer': 'depthwise_kernel',
  'pointwise_initializer': 'pointwise_kernel',
}


class _Given(keras.initializers.Initializer):
  """Hands out a ready value."""

  def __init__(self, value: np.ndarray):
    self.value = value

  def __call__(self, shape: Any, dtype: Any = None, **kwargs: Any) -> tf.Tensor:
    return tf.convert_to_tensor(self.value, dtype)


class Recipe:
  """How to make a copy of one layer.

  Attributes:
    layer: the layer that is copied.
    config: the copy's config; functions and initialisers are objects, not names.
    weights: weight name -> value, for weights made by an initialiser of the config.
  """

  def __init__(
    self,
    layer: keras.layers.Layer,
    name: str,
    changes: dict[str, Any],
    weights: list[np.ndarray],
    extra: dict[str, np.ndarray],
    known: bool,
  ):
    self.layer = layer
    self.name = name
    self._held = held_state(layer)
    self.weights = [] if self._held else weights
    self._initializers: dict[str, Any] = {}
    self._known = known
    self._changes = changes
    self._extra = extra

  def make(self) -> keras.layers.Layer:
    """Returns the new layer, not yet built.

    Raises:
      UserError: if the layer cannot be made from its own config.
    """
    layer = self.layer
    if type(layer) is keras.layers.Lambda:
      return _copy_lambda(layer, self.name)
    try:
      config = layer.get_config()
      config.pop('batch_input_shape', None)
      config['name'] = self.name
      if self._known:
        self._use_objects(config)
      config.update(self._held | self._changes)
      return type(layer).from_config(config)
    except Exception as error:
      reason = first_line(error)
      raise UserError(
        f'Layer {layer.name!r} ({type(layer).__name__}) cannot be made again from its config, as'
        f' slicing needs ({type(error).__name__}: {reason}): give the class a get_config() that'
        ' returns every argument of its constructor.'
      ) from error

  def _use_objects(self, config: dict[str, Any]) -> None:
    by_name = dict(zip(weight_names(self.layer), self.weights))
    by_name.update(self._extra)
    for key in config:
      if key == 'activation' or key.endswith(('_regularizer', '_constraint')):
        config[key] = getattr(self.layer, key, config[key])
      elif key.endswith('_initializer'):
        own = getattr(self.layer, key, None)
        weight = _WEIGHT_OF.get(key, key.removesuffix('_initializer'))
        if own is not None and weight in by_name:
          self._initializers[key] = own
          config[key] = _Given(by_name[weight])

  def finish(self, layer: keras.layers.Layer) -> None:
    """After the first call: puts the initialisers back and sets weights they did not make.

    Raises:
      UserError: the layer that its config makes has another number of weights.
    """
    for key, own in self._initializers.items():
      setattr(layer, key, own)
    made = {_WEIGHT_OF.get(k, k.removesuffix('_initializer')) for k in self._initializers}
    names = weight_names(layer)
    if self._known and set(names) <= made:
      return
    if self._held:
      copy_state(self.layer, layer)
      return
    mine = variables(layer)
    if len(mine) != len(self.weights):
      raise UserError(
        f'Layer {layer.name!r} ({type(layer).__name__}) has {len(self.weights)} weights, but made'
        f' again from its config it has {len(mine)}: fix its get_config().'
      )
    for variable, value in zip(mine, self.weights):
      variable.assign(value)
    copy_state(self.layer, layer)


def variables(layer: keras.layers.Layer) -> list[tf.Variable]:
  """The layer's weights; a lookup lists its table, which is none, among them."""
  return [one for one in layer.weights if isinstance(one, tf.Variable)]


def weight_names(layer: keras.layers.Layer) -> list[str]:
  """Names of the layer's weights without scope: 'kernel', 'bias', and 'kernel#1' for a second one."""
  names: list[str] = []
  seen: dict[str, int] = {}
  for variable in variables(layer):
    name = variable.name.split('/')[-1].split(':')[0]
    seen[name] = seen.get(name, -1) + 1
    names.append(f'{name}#{seen[name]}' if seen[name] else name)
  return names


def layer_values(layer: keras.layers.Layer, axes: Axes) -> list[np.ndarray]:
  """Values of the layer's weights, cut along the given axes."""
  return [
    shrink(_view(variable), axes.get(name, ()))
    for name, variable in zip(weight_names(layer), variables(layer))
  ]


def _view(variable: tf.Variable) -> np.ndarray:
  """The variable's value, without a copy where the type allows."""
  value = variable.read_value()
  try:
    return np.asarray(memoryview(value))
  except (TypeError, ValueError, BufferError):
    return value.numpy()


def shrink(array: np.ndarray, axes: Any) -> np.ndarray:
  """Keeps the True entries of each mask along its axis."""
  for axis, mask in axes:
    if not mask.all():
      array = array.take(np.flatnonzero(mask), axis=axis)
  return array


def _copy_lambda(layer: keras.layers.Lambda, name: str) -> keras.layers.Lambda:
  return keras.layers.Lambda(
    layer.function,
    output_shape=layer._output_shape,
    mask=layer.mask,
    arguments=dict(layer.arguments),
    name=name,
    dtype=layer._dtype_policy,
    trainable=layer.trainable,
  )


def new_inputs(flat: FlatModel) -> dict[int, Any]:
  """Makes the model's input layers again; returns tensor number -> Keras tensor."""
  found = {}
  for number, layer in flat.inputs:
    copy = keras.layers.InputLayer.from_config(layer.get_config())
    found[number] = copy._inbound_nodes[0].outputs
  return found


def fill(structure: Any, tensors: dict[int, Any]) -> Any:
  """Puts Keras tensors in the place of the `Ref`s in call arguments."""
  return tf.nest.map_structure(
    lambda value: tensors[value.index] if isinstance(value, Ref) else value, structure
  )


def new_model(flat: FlatModel, inputs: dict[int, Any], outputs: list[Any]) -> keras.Model:
  """A functional model with the original's name and structure of inputs and outputs."""
  model = flat.model
  ins = tf.nest.pack_sequence_as(
    model._nested_inputs, [inputs[number] for number, _ in flat.inputs]
  )
  outs = tf.nest.pack_sequence_as(model._nested_outputs, outputs)
  return keras.Model(ins, outs, name=model.name)
