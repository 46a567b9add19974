"""A model of Keras 3 as a functional tf_keras model with the same layers, names and weights."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

from secateurs.utils.errors import UserError, first_line
from secateurs.utils.keras3 import layers_in
from secateurs.utils.keras3.compiled import compile_like
from secateurs.utils.keras3.kinds import load_keras3, require_layers, traced
from secateurs.utils.keras3.opened import opened, unreached
from secateurs.utils.keras3.operations_in import ARITHMETIC, COMPARISONS, OPERATIONS
from secateurs.utils.keras3.proof import prove_equal
from secateurs.utils.keras3.weights import copy_weights

_KERAS_TENSOR = type(keras.Input((1,)))


def to_tf_keras(
  model: Any,
  layers: layers_in.Custom | None = None,
  *,
  notes: list[str] | None = None,
) -> keras.Model:
  """Rebuilds a model of Keras 3 in tf_keras, layer by layer, and proves it equal.

  Layers keep their names and weights, shared layers stay shared, nested models stay nested;
  operations of keras.ops become operations of TensorFlow.

  Args:
    model: a model of Keras 3, functional, Sequential, or subclassed if its call can be traced, or the
      path of its .keras or .h5 file. It stays as it is.
    layers: for layer classes of your own: class, or its name -> tf_keras class with the same config
      and weights, or a function that is given the layer and returns a tf_keras layer. Classes that
      are registered under the same name with both need none.
    notes: what was left out is added to this list.

  Returns:
    A functional tf_keras model whose outputs differ by at most 1e-5 of their range, compiled if the
    given one was.

  Raises:
    UserError: a layer or operation has no counterpart, the file would run code, or the result
      differs.
  """
  if isinstance(model, (str, os.PathLike)):
    model = load_keras3(model)
  notes = [] if notes is None else notes
  given = traced(model)
  made = _Import(layers or {}, notes).model(given)
  prove_equal(given, made, f'Model {model.name!r}, rebuilt in tf_keras,')
  compile_like(made, model, notes)
  return made


class _Import:
  """One conversion; layers and nested models that were made, by the id of their originals."""

  def __init__(self, custom: Mapping[Any, Any], notes: list[str]):
    self.custom, self.notes = custom, notes
    self.made: dict[int, Any] = {}
    self.inside: list[str] = []  # Names of the layers that are opened up just now.

  def model(self, model: Any) -> keras.Model:
    """A functional model, nested ones likewise."""
    graph = require_layers(model)
    tensors: dict[int, Any] = {}
    inputs = tf.nest.map_structure(lambda one: self._input(one, tensors), graph._inputs_struct)
    self._run(graph, tensors)
    outputs = tf.nest.map_structure(lambda one: tensors[id(one)], graph._outputs_struct)
    made = keras.Model(inputs, outputs, name=model.name)
    if not model.trainable:
      made.trainable = False
    return made

  def _input(self, tensor: Any, tensors: dict[int, Any]) -> Any:
    layer = tensor._keras_history.operation
    found = keras.Input(
      batch_shape=tuple(tensor.shape), dtype=tensor.dtype, name=layer.name, sparse=tensor.sparse
    )
    tensors[id(tensor)] = found
    return found

  def _run(self, graph: Any, tensors: dict[int, Any]) -> None:
    for depth in sorted(graph._nodes_by_depth, reverse=True):
      for node in graph._nodes_by_depth[depth]:
        if node.operation is not None and not node.is_input:
          found = self._call(node, tensors)
          for old, new in zip(node.outputs, tf.nest.flatten(found), strict=True):
            tensors[id(old)] = new

  def _call(self, node: Any, tensors: dict[int, Any]) -> Any:
    args, kwargs = node.arguments.fill_in(tensors)
    args, kwargs = tf.nest.map_structure(_constant, (list(args), dict(kwargs)))
    kwargs.pop(
      'training', None
    )  # Keras 3 keeps a layer's default here; the model's own mode decides.
    operation = node.operation
    import keras as keras3

    if not isinstance(operation, keras3.layers.Layer):
      return self._operation(node, args, kwargs)
    if id(operation) in self.made:
      return self.made[id(operation)](*args, **kwargs)
    if _is_graph(operation):
      inner = self.made[id(operation)] = self.model(operation)
      return inner(*args, **kwargs)
    try:
      made = layers_in.make_layer(operation, self.custom, self._name(operation))
      return self._layer(made, operation, args, kwargs)
    except UserError as error:
      return self._opened(operation, node, args, kwargs, error)

  def _name(self, layer: Any) -> str:
    return '_'.join([*self.inside, layer.name])

  def _opened(
    self, layer: Any, node: Any, args: list, kwargs: dict[str, Any], why: UserError
  ) -> Any:
    """The layers and operations that the layer's call uses, in its place."""
    try:
      function = opened(layer, node.arguments)
    except Exception:  # Whatever a call raises on tensors without numbers.
      raise why from None
    constant = unreached(layer, function)
    if constant:
      self.notes.append(
        f'Layer {layer.name} ({type(layer).__name__}) reads {", ".join(constant)} outside of layers: '
        'constant from here on, training does not change it.'
      )

    def again(*more: Any, **others: Any) -> Any:
      given = [one for one in tf.nest.flatten((list(more), others)) if _is_symbolic(one)]
      self.inside.append(layer.name)
      try:
        return self._function(function, given)
      finally:
        self.inside.pop()

    self.made[id(layer)] = again
    return again(*args, **kwargs)

  def _layer(self, made: layers_in.Made, operation: Any, args: list, kwargs: dict[str, Any]) -> Any:
    if made.note:
      self.notes.append(made.note)
    try:
      result = _masked_alike(made.layer, args, kwargs)
    except (TypeError, ValueError) as error:
      raise UserError(
        f'Layer {operation.name!r} ({type(operation).__name__}) of Keras 3 is called in a way that '
        f'tf_keras does not have ({first_line(error)}): put a layer that '
        'both have in its place.'
      ) from error
    copy_weights(operation, made.layer)
    for key, own in made.initializers.items():
      if hasattr(made.layer, key):
        setattr(made.layer, key, own)

    def again(*more: Any, **others: Any) -> Any:
      found = _masked_alike(made.layer, more, others)
      return found if made.after is None else made.after(found)

    self.made[id(operation)] = again
    return result if made.after is None else made.after(result)

  def _operation(self, node: Any, args: list, kwargs: dict[str, Any]) -> Any:
    operation, kind = node.operation, type(node.operation).__name__
    if hasattr(operation, '_nodes_by_depth'):
      return self._function(operation, args)
    function = OPERATIONS.get(kind)
    if function is None:
      raise UserError(
        f'Operation {operation.name!r} (keras.ops, {kind}) is not known here: write it with operations '
        'that are, which docs/keras3.md lists, or as a layer.'
      )
    if kind in ARITHMETIC.split() or kind in COMPARISONS:
      wanted = _common_type(args) if kind in COMPARISONS else tf.as_dtype(node.outputs[0].dtype)
      args = tf.nest.map_structure(lambda one: _cast(one, wanted), args)
    elif kind == 'Where':
      wanted = tf.as_dtype(node.outputs[0].dtype)
      args = [args[0], *(_cast(one, wanted) for one in args[1:])]
    try:
      return function(operation, *args, **kwargs)
    except (NotImplementedError, TypeError, ValueError) as error:
      raise UserError(
        f'Operation {operation.name!r} (keras.ops, {kind}) cannot be written in TensorFlow with these '
        f'arguments ({first_line(error)}): write it with others.'
      ) from error

  def _function(self, function: Any, args: list) -> Any:
    """A keras.Function, opened up."""
    given = tf.nest.flatten(args)
    tensors = {id(one): new for one, new in zip(tf.nest.flatten(function._inputs_struct), given)}
    self._run(function, tensors)
    return tf.nest.map_structure(lambda one: tensors[id(one)], function._outputs_struct)


def _masked_alike(layer: Any, args: Any, kwargs: Mapping[str, Any]) -> Any:
  """Calls a layer with no mask but the given one.

  Keras 3 hands a layer its mask as an argument, except for a recurrent layer with initial states, which
  gets none; tf_keras takes the mask along with the tensor.
  """
  if layer._expects_mask_arg and 'mask' not in kwargs:
    args, kwargs = tf.nest.map_structure(_unmasked, (list(args), dict(kwargs)))
  return layer(*args, **kwargs)


def _unmasked(value: Any) -> Any:
  return value if getattr(value, '_keras_mask', None) is None else tf.identity(value)


def _is_graph(layer: Any) -> bool:
  """A nested model, functional or Sequential."""
  return bool(getattr(layer, '_nodes_by_depth', None) or hasattr(layer, '_functional'))


def _is_symbolic(value: Any) -> bool:
  return isinstance(value, _KERAS_TENSOR)


def _constant(value: Any) -> Any:
  """Arrays and tensors of any backend as arrays; the rest as it is."""
  if value is None or isinstance(value, (bool, int, float, str, slice)) or _is_symbolic(value):
    return value
  if hasattr(value, '__array__') or tf.is_tensor(value):
    import keras as keras3

    return np.asarray(keras3.ops.convert_to_numpy(value))
  return value


def _common_type(values: list) -> tf.DType:
  """What Keras 3 casts operands to that it compares."""
  import keras as keras3

  types = [tf.as_dtype(one.dtype).name if hasattr(one, 'dtype') else type(one) for one in values]
  return tf.as_dtype(keras3.backend.result_type(*types))


def _cast(value: Any, wanted: tf.DType) -> Any:
  if _is_symbolic(value):
    return value if value.dtype == wanted else tf.cast(value, wanted)
  if isinstance(value, np.ndarray):
    return tf.constant(value, wanted)
  if isinstance(value, int) and wanted.is_floating:
    return float(value)
  return value
