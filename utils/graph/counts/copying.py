"""A flat copy of a model, layer by layer, for another input size if wanted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf
import tf_keras as keras

from secateurs.utils.errors import UserError
from secateurs.utils.graph.flat.rebuild import Recipe, fill, layer_values, new_inputs, new_model
from secateurs.utils.graph.flat.walk import FlatModel
from secateurs.utils.graph.rules.base import Rule
from secateurs.utils.graph.rules.registry import rule_of


def copy_layer(
  layer: keras.layers.Layer, name: str, args: tuple, kwargs: dict[str, Any]
) -> tuple[Callable, Any]:
  """Returns an own copy of the layer, and what it gives for the arguments."""
  rule = rule_of(layer)
  known = rule.by_initializers and type(rule) is not Rule
  recipe = Recipe(layer, name, {}, layer_values(layer, {}), {}, known)
  copy = recipe.make()
  result = copy(*args, **kwargs)
  recipe.finish(copy)
  return copy, result


def copy_flat(
  flat: FlatModel,
  input_shape: Sequence[int] | None = None,
  copy: Callable[..., tuple[Callable, Any]] = copy_layer,
) -> keras.Model:
  """Returns a copy with own layers and equal weights, nested models opened.

  Args:
    flat: the model.
    input_shape: shape of one sample, without the batch, for a model with one input.
    copy: makes the copy of a layer; see `copy_layer`.

  Raises:
    UserError: if a shape is given for several inputs, or a layer cannot be copied.
  """
  inputs = new_inputs(flat)
  if input_shape is not None:
    if len(flat.inputs) != 1:
      raise UserError(
        f'Model {flat.model.name!r} has {len(flat.inputs)} inputs, expected one to set'
        ' input_shape: build it with fixed shapes instead.'
      )
    number, layer = flat.inputs[0]
    inputs = {number: keras.Input(tuple(input_shape), dtype=layer.dtype, name=layer.name)}
  tensors: dict[int, Any] = dict(inputs)
  layers: dict[str, Callable] = {}
  for call in flat.calls:
    args, kwargs = fill(call.args, tensors), fill(call.kwargs, tensors)
    if call.name in layers:
      result = layers[call.name](*args, **kwargs)
    else:
      layers[call.name], result = copy(call.layer, call.name, args, kwargs)
    tensors.update(zip(call.outputs, tf.nest.flatten(result)))
  return new_model(flat, inputs, [tensors[number] for number in flat.outputs])
