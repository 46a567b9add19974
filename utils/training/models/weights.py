"""Weights by name: finding them in a model and putting them into it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

from secateurs.utils import model_files
from secateurs.utils.errors import UserError
from secateurs.utils.graph.flat.rebuild import KERNELS
from secateurs.utils.graph.flat.walk import flatten_model, is_graph
from secateurs.utils.names import unique_name
from secateurs.utils.training import distributed

_NB_LISTED = 8
_NO_NUMBERS = 'OSUMmc'  # Kinds of NumPy's types that no variable takes.
# Matrices of weights, those of steps in time and of tables of vectors included.
_MATRICES = (*KERNELS, 'recurrent_kernel', 'embeddings')


def named_weights(model: keras.Model) -> dict[str, tf.Variable]:
  """All weights of a model as `<layer>/<weight>`, such as `stem_conv/kernel`.

  Layers have the names of `named_layers`. A weight whose short name its layer has twice keeps its full
  name, in which the numbers of layers inside the layer begin at none: tf_keras counts them on whenever
  such a layer is made.
  """
  weights: dict[str, tf.Variable] = {}
  for owner, layer in named_layers(model).items():
    counted = _Renumbered()
    for weight in layer.weights:
      path = weight.name.split(':')[0]
      renumbered = counted(path)
      if owner != layer.name:
        path, renumbered = (f'{owner}/{_inside(one, layer)}' for one in (path, renumbered))
      wished = (f'{owner}/{path.rsplit("/", 1)[-1]}', renumbered, path, unique_name(path, weights))
      name = next(one for one in wished if weights.get(one, weight) is weight)
      weights[name] = weight
  return weights


def _inside(path: str, layer: keras.layers.Layer) -> str:
  """A weight's path from its layer on."""
  return path.rpartition(f'{layer.name}/')[2]


class _Renumbered:
  """Counts the equally named parts of paths in the order in which they come."""

  def __init__(self) -> None:
    self._numbers: dict[str, dict[str, int]] = {}

  def __call__(self, path: str) -> str:
    """Such as `block/conv2d/kernel` for the first `block/conv2d_7/kernel`."""
    if path.count('/') < 2:
      return path  # Without a scope, where a file's layer was built outside of its model.
    first, *middle, last = path.split('/')
    return '/'.join([first, *map(self._part, middle), last])

  def _part(self, part: str) -> str:
    base = re.sub(r'_\d+$', '', part)
    numbers = self._numbers.setdefault(base, {})
    number = numbers.setdefault(part, len(numbers))
    return f'{base}_{number}' if number else base


def named_layers(model: keras.Model) -> dict[str, keras.layers.Layer]:
  """The layers of a model by name, in order; those of nested models stand in for the models.

  Where nested models have layers of one name, they are called as in the flat model: all but one with
  the nested model's name before their own.
  """
  leaves = list({id(layer): (layer, nest) for layer, nest in _leaves(model, '')}.values())
  if len({layer.name for layer, _ in leaves}) == len(leaves):
    return {layer.name: layer for layer, _ in leaves}
  flat = flatten_model(model).names if is_graph(model) else {}
  found: dict[str, keras.layers.Layer] = {}
  for layer, nest in leaves:
    name = flat.get(id(layer), layer.name)
    if id(layer) not in flat:  # An input of a nested model, or inside a subclassed one.
      taken = {*found, *flat.values()}
      name = name if name not in taken else unique_name(f'{nest}_{name}'.lstrip('_'), taken)
    found[name] = layer
  return found


def _leaves(model: keras.Model, nest: str) -> Iterator[tuple[keras.layers.Layer, str]]:
  """Each layer with the name of the nested model that has it."""
  for layer in model.layers:
    if isinstance(layer, keras.Model):
      yield from _leaves(layer, layer.name)
    else:
      yield layer, nest


def leaf_layers(model: keras.Model) -> list[keras.layers.Layer]:
  """The layers of a model; those of nested models stand in for the models."""
  return list(named_layers(model).values())


def layer_kernels(model: keras.Model) -> list[tuple[keras.layers.Layer, tf.Variable]]:
  """The kernels of a model, those of frozen layers too, each with the layer that it belongs to.

  Recurrent kernels and embeddings count as kernels.
  """
  return [(layer, kernel) for layer in leaf_layers(model) for kernel in _kernels(layer)]


def _kernels(layer: keras.layers.Layer) -> list[tf.Variable]:
  return [
    weight for weight in layer.weights if weight.name.split(':')[0].rsplit('/', 1)[-1] in _MATRICES
  ]


def kernels_by_name(model: keras.Model) -> dict[str, tf.Variable]:
  """The kernels by layer name, a further kernel of the same layer as `named_weights` calls it."""
  kernels: dict[str, tf.Variable] = {}
  names = {weight.ref(): name for name, weight in named_weights(model).items()}
  for name, layer in named_layers(model).items():
    for kernel in _kernels(layer):
      kernels[names[kernel.ref()] if name in kernels else name] = kernel
  return kernels


def load_given(path: str | Path) -> Any:
  """Loads a whole model in the Keras that wrote it; with several processes, the chief's file.

  Raises:
    UserError: there is no such file, or it cannot be loaded; see `model_files.load_given`.
  """
  path = distributed.from_chief(lambda: existing(Path(path)))
  with distributed.chiefs_file(path) as copy:
    return model_files.load_given(copy, path)


def load_model(path: str | Path) -> keras.Model:
  """Loads a whole model for inference, of either Keras; with several processes, the chief's file.

  Raises:
    UserError: there is no such file, or it cannot be loaded; see `model_files.load_model`.
  """
  path = distributed.from_chief(lambda: existing(Path(path)))
  with distributed.chiefs_file(path) as copy:
    return model_files.load_model(copy, path)


def assign_weights(
  variables: Mapping[str, tf.Variable], values: Mapping[str, np.ndarray], source: str
) -> None:
  """Puts values into variables of the same names and shapes; all or nothing.

  Where the names differ but the shapes are the same in the same order, that order counts.

  Args:
    variables: where to put them, by name.
    values: what to put; names that `variables` lacks are a mistake, too.
    source: where the values come from, for the error message.

  Raises:
    UserError: names or shapes differ; each is listed, expected against found.
  """
  if set(variables) != set(values) and (ordered := _by_order(variables, values)) is not None:
    values = ordered
  problems = []
  for name, variable in variables.items():
    expected = tuple(variable.shape)
    if name not in values:
      problems.append(f'{name}: expected {expected}, found nothing')
    elif tuple(values[name].shape) != expected:
      problems.append(f'{name}: expected {expected}, found {tuple(values[name].shape)}')
    elif (found := np.asarray(values[name]).dtype).kind in _NO_NUMBERS:
      problems.append(f'{name}: expected numbers, found {found}')
  problems += [
    f'{name}: expected nothing, found {tuple(values[name].shape)}'
    for name in values
    if name not in variables
  ]
  if problems:
    listed = '; '.join(problems[:_NB_LISTED])
    more = f'; and {len(problems) - _NB_LISTED} more' if len(problems) > _NB_LISTED else ''
    raise UserError(
      f'{source} does not fit the network ({listed}{more}): give weights of the same network, or '
      'the flags of the network that they belong to.'
    )
  for name, variable in variables.items():
    variable.assign(values[name])


def copy_weights(source: keras.Model, target: keras.Model) -> None:
  """Gives a network the weights of another one, by their names.

  Raises:
    UserError: names or shapes differ.
  """
  values = {name: weight.numpy() for name, weight in named_weights(source).items()}
  assign_weights(named_weights(target), values, source.name)


def _by_order(
  variables: Mapping[str, tf.Variable], values: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray] | None:
  """Values by the variables' names, where all shapes follow each other alike; None elsewhere.

  Names that both have must lie at the same places.
  """
  if len(variables) != len(values):
    return None
  for (name, variable), (given, value) in zip(variables.items(), values.items(), strict=True):
    known = given in variables or name in values
    if tuple(variable.shape) != tuple(value.shape) or (known and name != given):
      return None
  return dict(zip(variables, values.values(), strict=True))


def existing(path: Path) -> Path:
  """The path itself.

  Raises:
    UserError: nothing lies there.
  """
  if not path.exists():
    raise UserError(f'{path} does not exist: give the path of a weights file.')
  return path
