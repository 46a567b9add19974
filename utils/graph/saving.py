"""Writes models so that plain tf_keras loads them, without this project."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import tensorflow as tf
import tf_keras as keras

from secateurs.utils.errors import UserError
from secateurs.utils.graph.rebuild import Recipe, fill, new_inputs, new_model
from secateurs.utils.graph.rules.base import Rule
from secateurs.utils.graph.rules.registry import rule_of
from secateurs.utils.graph.selection import ChannelSelection, select
from secateurs.utils.graph.walk import flatten_model


def plain_model(model: keras.Model) -> keras.Model:
  """Returns the model with every ChannelSelection replaced by a plain slice or gather.

  A model without any is returned as it is; otherwise the result is a copy with the same names and
  weights.
  """
  flat = flatten_model(model)
  if not any(isinstance(call.layer, ChannelSelection) for call in flat.calls):
    return model
  tensors = new_inputs(flat)
  inputs = dict(tensors)
  layers: dict[str, Any] = {}
  for call in flat.calls:
    args, kwargs = fill(call.args, tensors), fill(call.kwargs, tensors)
    layer = call.layer
    if isinstance(layer, ChannelSelection):
      result = select(args[0], layer.indices, layer.bounds, layer.axis)
    elif call.name in layers:
      result = layers[call.name](*args, **kwargs)
    else:
      known = type(rule_of(layer)) is not Rule
      recipe = Recipe(layer, call.name, {}, layer.get_weights(), {}, known)
      layers[call.name] = recipe.make()
      result = layers[call.name](*args, **kwargs)
      recipe.finish(layers[call.name])
    tensors.update(zip(call.outputs, tf.nest.flatten(result)))
  return new_model(flat, inputs, [tensors[number] for number in flat.outputs])


def save_model(model: keras.Model, path: str | os.PathLike) -> Path:
  """Saves a model as a .keras or .h5 file that loads with tf_keras alone.

  The file appears whole or not at all: it is written beside its place first.

  Args:
    model: a functional or Sequential tf_keras model.
    path: where to write; folders are made.

  Returns:
    The path.

  Raises:
    UserError: if the file name ends in neither .keras nor .h5.
  """
  path = Path(path)
  if path.suffix not in ('.keras', '.h5'):
    raise UserError(
      f'Cannot save a model as {str(path)!r}, expected a name that ends in .keras or .h5:'
      ' use .keras unless you need the older format.'
    )
  path.parent.mkdir(parents=True, exist_ok=True)
  part = path.with_name(f'.{path.stem}.part-{os.getpid()}{path.suffix}')
  try:
    # The .keras format takes no such option; a model that was never compiled has no optimizer.
    options = {} if path.suffix == '.keras' else {'include_optimizer': False}
    plain_model(model).save(part, **options)
    part.replace(path)
  finally:
    part.unlink(missing_ok=True)
  return path


def _uncompiled(model: keras.Model) -> keras.Model:
  """The same layers without loss and metrics, which may need classes that the reader lacks."""
  return keras.Model(model._nested_inputs, model._nested_outputs, name=model.name)
