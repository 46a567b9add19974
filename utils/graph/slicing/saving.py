"""Writes models so that plain tf_keras loads them, without this project."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tf_keras as keras

from secateurs.utils.errors import UserError
from secateurs.utils.files import atomic_path
from secateurs.utils.graph.counts.copying import copy_flat, copy_layer
from secateurs.utils.graph.flat.einsum import plain_einsum
from secateurs.utils.graph.flat.selection import ChannelSelection, select
from secateurs.utils.graph.flat.walk import flatten_model
from secateurs.utils.graph.rules.elementwise import Passing
from secateurs.utils.graph.rules.registry import rule_of
from secateurs.utils.graph.rules.scales import LayerScale


def plain_model(model: keras.Model) -> keras.Model:
  """Returns the model with layers that plain tf_keras cannot load replaced by equal ones it can.

  A ChannelSelection becomes a slice or gather, and tf.einsum, whose operands tf_keras does not save,
  a matmul between transposes. Two layers of tf_keras.applications' ConvNeXt are ones that tf_keras
  itself does not find again: the learned scale becomes an element-wise EinsumDense,
  stochastic depth a Dropout of whole samples. A model without any of them is returned as it is;
  otherwise the result is a copy with the same names and weights.
  """
  flat = flatten_model(model)
  foreign = (ChannelSelection.__name__, 'LayerScale', 'StochasticDepth')
  if not any(type(one).__name__ in foreign or _is_einsum(one) for one in flat.layers().values()):
    return model
  return copy_flat(flat, copy=_copy)


def _copy(
  layer: keras.layers.Layer, name: str, args: tuple, kwargs: dict[str, Any]
) -> tuple[Callable, Any]:
  """A copy of the layer, or an equal one that loads everywhere, and its output."""
  if _is_einsum(layer):

    def product(equation: str, *operands: Any) -> Any:
      return plain_einsum(equation, operands)

    return product, product(*args)
  common = {'name': name, 'dtype': layer.dtype_policy, 'trainable': layer.trainable}
  if isinstance(layer, ChannelSelection):

    def choose(inputs: Any) -> Any:
      return select(inputs, layer.indices, layer.bounds, layer.axis)

    return choose, choose(*args)
  if isinstance(rule_of(layer), LayerScale):
    copy = keras.layers.EinsumDense('...c,c->...c', layer.projection_dim, **common)
    result = copy(*args)
    copy.set_weights(layer.get_weights())
    return copy, result
  if isinstance(rule_of(layer), Passing) and type(layer).__name__ == 'StochasticDepth':
    shape = (None, *[1] * (args[0].shape.rank - 1))
    copy = keras.layers.Dropout(layer.drop_path_rate, noise_shape=shape, **common)
    return copy, copy(*args, **kwargs)
  return copy_layer(layer, name, args, kwargs)


def _is_einsum(layer: keras.layers.Layer) -> bool:
  return (getattr(layer, 'symbol', None) or '').split('.')[-1] == 'einsum'


def save_model(model: keras.Model, path: str | os.PathLike) -> Path:
  """Saves a model as a .keras or .h5 file that loads with tf_keras alone.

  The file appears whole or not at all: it is written beside its place first.

  Args:
    model: a functional or Sequential tf_keras model.
    path: where to write; folders are made.

  Returns:
    The path.

  Raises:
    UserError: if the file name ends in neither .keras nor .h5, or cannot be written.
  """
  path = Path(path)
  if path.suffix not in ('.keras', '.h5'):
    raise UserError(
      f'Cannot save a model as {str(path)!r}, expected a name that ends in .keras or .h5:'
      ' use .keras unless you need the older format.'
    )
  plain = plain_model(model)
  # Neither a class of the model itself nor a loss and metrics, which the reader may lack.
  bare = keras.Model(plain._nested_inputs, plain._nested_outputs, name=plain.name)
  with atomic_path(path) as partial:
    bare.save(partial)
  return path
