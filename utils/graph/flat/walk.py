"""A functional model as a flat list of layer calls, nested models opened up.

Keras keeps a model as layers, nodes and tensors with their history. Everything in this
package works on a simpler picture: numbered tensors, and the calls that turn some of them into
others, in topological order. A layer that is called twice appears in two calls.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import tensorflow as tf
import tf_keras as keras

from secateurs.utils.errors import UserError
from secateurs.utils.names import unique_name


@dataclasses.dataclass(frozen=True)
class Ref:
  """Stands for tensor number `index` inside the arguments of a call."""

  index: int


@dataclasses.dataclass
class Call:
  """One call of one layer.

  Attributes:
    layer: the Keras layer.
    name: the layer's name, unique in the flattened model.
    args: positional arguments; tensors are replaced by `Ref`.
    kwargs: keyword arguments, likewise.
    inputs: numbers of the tensors that go in, in the order of the flattened arguments.
    outputs: numbers of the tensors that come out.
  """

  layer: keras.layers.Layer
  name: str
  args: tuple
  kwargs: dict[str, Any]
  inputs: list[int]
  outputs: list[int]


@dataclasses.dataclass
class FlatModel:
  """A model without nesting.

  Attributes:
    model: the model that was walked.
    shapes: for each tensor its static shape, batch first, None where unknown.
    dtypes: for each tensor its type.
    calls: layer calls in topological order (input layers are not calls).
    inputs: pairs (tensor number, the Keras input layer).
    outputs: tensor numbers of the model's outputs, flattened.
    names: for each layer, by id, its name in the flattened model.
    reshaped: True if a nested model is called on another size than it was built for, so that
      the shapes inside are not those of this use.
  """

  model: keras.Model
  shapes: list[tuple]
  dtypes: list[tf.DType]
  calls: list[Call]
  inputs: list[tuple[int, keras.layers.InputLayer]]
  outputs: list[int]
  names: dict[int, str]
  reshaped: bool = False

  def layers(self) -> dict[str, keras.layers.Layer]:
    """Returns name -> layer in the order of first calls."""
    return {call.name: call.layer for call in self.calls}

  def calls_by_layer(self) -> dict[str, list[Call]]:
    """Returns name -> all calls of that layer, in topological order."""
    found: dict[str, list[Call]] = {}
    for call in self.calls:
      found.setdefault(call.name, []).append(call)
    return found


def mask_inputs(call: Call) -> list[int]:
  """Which of a call's inputs come as its argument `mask`: places in `call.inputs`."""
  found, count = [], 0
  for name, value in [('', call.args), *sorted(call.kwargs.items())]:
    refs = [one for one in tf.nest.flatten(value) if isinstance(one, Ref)]
    found += range(count, count + len(refs)) if name == 'mask' else []
    count += len(refs)
  return found


def require_functional(model: Any) -> keras.Model:
  """Returns `model` if it is a built functional or Sequential tf_keras model.

  Raises:
    UserError: for anything else, with the remedy.
  """
  module = type(model).__module__.split('.')[0]
  if not isinstance(model, keras.Model):
    bases = {base.__module__.split('.')[0] for base in type(model).__mro__}
    if 'keras' in bases:
      raise UserError(
        f'Model {getattr(model, "name", "")!r} is a Keras 3 model ({module}), expected a tf_keras'
        ' (Keras 2) one here: convert it with secateurs.utils.keras3.to_tf_keras(model), and what'
        ' comes out of it with to_keras3.'
      )
    raise UserError(
      f'Expected a tf_keras model, got {type(model).__module__}.{type(model).__name__}:'
      ' load the file with tf_keras.models.load_model first.'
    )
  if is_graph(model):
    return model
  if isinstance(model, keras.Sequential):
    raise UserError(
      f'Sequential model {model.name!r} has no input shape yet, expected a built model:'
      ' add an Input layer or call model.build(input_shape) first.'
    )
  raise UserError(
    f'Model {model.name!r} is a subclassed model ({type(model).__name__}), expected a functional or'
    ' Sequential one: its layers are called in Python code that no tool can follow, so rewrite it'
    ' as keras.Model(inputs, outputs).'
  )


def is_graph(layer: Any) -> bool:
  """True if `layer` is a model whose layer graph is known (functional, built Sequential)."""
  return isinstance(layer, keras.Model) and bool(getattr(layer, '_is_graph_network', False))


def flatten_model(model: keras.Model) -> FlatModel:
  """Walks `model` and every model inside it.

  Returns:
    The flat model. Names of layers that occur twice (in different nested models) are prefixed
    with the nested model's name.

  Raises:
    UserError: if the model is not functional.
  """
  walk = _Walk(require_functional(model))
  walk.run()
  return walk.flat


class _Walk:
  """State of one walk: numbers given to tensors and names given to layers."""

  def __init__(self, model: keras.Model):
    self.flat = FlatModel(model, [], [], [], [], [], {})
    self._taken: dict[str, int] = {}

  def run(self) -> None:
    model = self.flat.model
    numbers: dict[int, int] = {}
    for tensor in model.inputs:
      layer = tensor._keras_history.layer
      number = self._new_tensor(tensor)
      numbers[id(tensor)] = number
      self._name(layer, '')
      self.flat.inputs.append((number, layer))
    self._walk(model, numbers, {}, '')
    self.flat.outputs = [numbers[id(tensor)] for tensor in model.outputs]

  def _new_tensor(self, tensor: Any) -> int:
    shape = tensor.shape
    self.flat.shapes.append(tuple(shape) if shape.rank is not None else ())
    self.flat.dtypes.append(tf.as_dtype(tensor.dtype))
    return len(self.flat.shapes) - 1

  def _name(self, layer: keras.layers.Layer, prefix: str) -> str:
    names = self.flat.names
    if id(layer) not in names:
      name = layer.name
      while name in self._taken and prefix:
        name = f'{prefix}_{name}'
      name = unique_name(name, self._taken)
      self._taken[name] = id(layer)
      names[id(layer)] = name
    return names[id(layer)]

  def _walk(self, model: keras.Model, numbers: dict[int, int], forced: dict, prefix: str) -> None:
    """Adds the calls of one model; `numbers` maps id(Keras tensor) to tensor number."""
    for depth in sorted(model._nodes_by_depth, reverse=True):
      for node in model._nodes_by_depth[depth]:
        if node.is_input:
          continue
        if is_graph(node.layer):
          self._walk_nested(node, numbers, forced)
        else:
          self._add_call(node, numbers, forced, prefix)

  def _walk_nested(self, node: Any, numbers: dict[int, int], forced: dict) -> None:
    inner = node.layer
    first = node.call_args[0] if node.call_args else node.call_kwargs['inputs']
    given = inner._flatten_to_reference_inputs(first)
    pairs = list(zip(inner.inputs, tf.nest.flatten(given)))
    inside = {id(t): numbers[id(g)] for t, g in pairs}
    sizes = [(tuple(t.shape)[1:], self.flat.shapes[inside[id(t)]][1:]) for t, _ in pairs]
    self.flat.reshaped |= any(built != used for built, used in sizes)
    training = node.call_kwargs.get('training')
    if len(node.call_args) > 1 and training is None:
      training = node.call_args[1]
    if training is not None:
      forced = {**forced, 'training': training}
    self._walk(inner, inside, forced, inner.name)
    outputs = tf.nest.flatten(node.outputs)
    for outer, tensor in zip(outputs, inner.outputs):
      numbers[id(outer)] = inside[id(tensor)]

  def _add_call(self, node: Any, numbers: dict[int, int], forced: dict, prefix: str) -> None:
    def to_ref(value: Any) -> Any:
      return Ref(numbers[id(value)]) if id(value) in known else value

    known = {id(tensor): tensor for tensor in node.keras_inputs}
    args = tf.nest.map_structure(to_ref, node.call_args)
    kwargs = dict(tf.nest.map_structure(to_ref, node.call_kwargs))
    layer = node.layer
    if 'training' in forced and layer._call_spec.expects_training_arg:
      kwargs.setdefault('training', forced['training'])
    outputs = []
    for tensor in tf.nest.flatten(node.outputs):
      numbers[id(tensor)] = self._new_tensor(tensor)
      outputs.append(numbers[id(tensor)])
    # In the order of flattened arguments, where names are sorted: Keras keeps them as they came.
    flat = tf.nest.flatten((args, kwargs))
    inputs = [one.index for one in flat if isinstance(one, Ref)]
    self.flat.calls.append(Call(layer, self._name(layer, prefix), args, kwargs, inputs, outputs))
