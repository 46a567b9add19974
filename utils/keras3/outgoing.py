"""A tf_keras model as a functional model of Keras 3 with the same layers, names and weights."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf
import tf_keras

from secateurs.utils.errors import UserError, first_line
from secateurs.utils.files import atomic_path
from secateurs.utils.graph.flat.selection import ChannelSelection
from secateurs.utils.graph.flat.walk import Call, FlatModel, Ref, flatten_model
from secateurs.utils.keras3.proof import prove_equal
from secateurs.utils.keras3.weights import copy_weights

if TYPE_CHECKING:
  import keras

Custom = Mapping[Any, Any]


def to_keras3(model: tf_keras.Model, layers: Custom | None = None) -> keras.Model:
  """Rebuilds a tf_keras model in Keras 3, layer by layer, and proves it equal.

  Args:
    model: functional or Sequential; nested models are opened up. It stays as it is.
    layers: for layer classes of your own: class, or its name -> class of Keras 3 with the same config
      and weights, or a function that is given the layer and returns a layer of Keras 3. Classes that
      are registered under the same name with both need none.

  Returns:
    A functional model of Keras 3 whose outputs differ by at most 1e-5 of their range. It holds
    nothing of this project: a saved file loads with keras alone.

  Raises:
    UserError: a layer or operation has no counterpart, or the result differs.
  """
  made = _Export(flatten_model(model), layers or {}).build()
  prove_equal(model, made, f'Model {model.name!r}, rebuilt in Keras 3,')
  return made


def save_keras3(
  model: tf_keras.Model, path: str | os.PathLike, layers: Custom | None = None
) -> Path:
  """Writes a tf_keras model as a .keras file of Keras 3; whole or not at all.

  Args:
    model: as for `to_keras3`.
    path: where to write, a name that ends in .keras; folders are made.
    layers: as for `to_keras3`.

  Returns:
    The path.

  Raises:
    UserError: as of `to_keras3`, the name does not end in .keras, or it cannot be written.
  """
  path = Path(path)
  if path.suffix != '.keras':
    raise UserError(f'A model of Keras 3 is saved as .keras, got {path}: give a name that ends so.')
  made = to_keras3(model, layers)
  with atomic_path(path) as partial:
    made.save(partial)
  return path


class _Export:
  """One conversion; tensors by number, layers by name."""

  def __init__(self, flat: FlatModel, custom: Custom):
    self.flat, self.custom = flat, custom
    self.tensors: dict[int, Any] = {}
    self.made: dict[str, Any] = {}

  def build(self) -> keras.Model:
    import keras

    for number, layer in self.flat.inputs:
      shape, dtype = self.flat.shapes[number], self.flat.dtypes[number].name
      self.tensors[number] = keras.Input(batch_shape=shape, dtype=dtype, name=layer.name)
    inputs = [self.tensors[number] for number, _ in self.flat.inputs]
    for call in self.flat.calls:
      found = self._call(call)
      self.tensors.update(zip(call.outputs, tf.nest.flatten(found), strict=True))
    model = self.flat.model
    outputs = [self.tensors[number] for number in self.flat.outputs]
    return keras.Model(
      tf.nest.pack_sequence_as(model._nested_inputs, inputs),
      tf.nest.pack_sequence_as(model._nested_outputs, outputs),
      name=model.name,
    )

  def _call(self, call: Call) -> Any:
    args, kwargs = tf.nest.map_structure(self._fill, (list(call.args), dict(call.kwargs)))
    layer = call.layer
    if isinstance(layer, ChannelSelection):
      return _selected(args[0], layer)
    if type(layer).__name__ == 'CustomScaleLayer':
      return args[0][0] + args[0][1] * layer.scale
    if hasattr(layer, 'symbol') or not isinstance(layer, tf_keras.layers.Layer):
      return _operation(call, args, kwargs)
    kwargs = {key: value for key, value in kwargs.items() if value is not None}
    recurrent = isinstance(layer, (tf_keras.layers.RNN, tf_keras.layers.Bidirectional))
    if recurrent and isinstance(args[0], (list, tuple)):  # tf_keras holds states beside the input.
      (first, *states), *rest = args
      args, kwargs = [first, *rest], {**kwargs, 'initial_state': states}
    if call.name not in self.made:
      return self._layer(call, args, kwargs)
    made, after = self.made[call.name]
    result = made(*args, **kwargs)
    return result if after is None else after(result)

  def _layer(self, call: Call, args: list, kwargs: dict[str, Any]) -> Any:
    from secateurs.utils.keras3 import layers_out

    layer = call.layer
    mapped = self.custom.get(type(layer), self.custom.get(type(layer).__name__))
    if mapped is None:
      made, after = layers_out.make_layer(layer, call.name)
    else:
      made, after = (
        mapped.from_config(layer.get_config()) if isinstance(mapped, type) else mapped(layer),
        None,
      )
    try:
      result = made(*args, **kwargs)
    except (TypeError, ValueError) as error:
      raise UserError(
        f'Layer {call.name!r} ({type(layer).__name__}) of tf_keras is called in a way that Keras 3 '
        f'does not have ({first_line(error)}): put a layer that both have '
        'in its place.'
      ) from error
    copy_weights(layer, made)
    self.made[call.name] = (made, after)
    return result if after is None else after(result)

  def _fill(self, value: Any) -> Any:
    if isinstance(value, Ref):
      return self.tensors[value.index]
    if tf.is_tensor(value) or isinstance(value, tf.Variable):
      value = value.numpy()
    if isinstance(value, np.ndarray) and value.ndim == 0:
      return value.item()
    return value


def _selected(x: Any, layer: ChannelSelection) -> Any:
  import keras

  if layer.bounds is None:
    return keras.ops.take(x, np.asarray(layer.indices, 'int32'), axis=layer.axis)
  key = [slice(None)] * len(x.shape)
  key[layer.axis] = slice(*layer.bounds)
  return x[tuple(key)]


def _operation(call: Call, args: list, kwargs: dict[str, Any]) -> Any:
  from secateurs.utils.keras3.operations_out import OPERATIONS

  symbol = getattr(call.layer, 'symbol', None) or type(call.layer).__name__
  symbol = symbol.removeprefix('compat.v1.').removeprefix('compat.v2.')
  function = OPERATIONS.get(symbol)
  if function is None:
    raise UserError(
      f'Operation {symbol} ({call.name!r}) is not known in Keras 3: the model cannot be written as a '
      'file of Keras 3 with it; its other files are as good.'
    )
  try:
    return function(*args, **kwargs)
  except (NotImplementedError, TypeError, ValueError) as error:
    raise UserError(
      f'Operation {symbol} ({call.name!r}) cannot be written with keras.ops with these arguments '
      f'({first_line(error)}): its other files are as good.'
    ) from error
