"""Distinguishes models of Keras 3 from others, without loading Keras 3."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from secateurs.utils.errors import UserError
from secateurs.utils.untrusted import refuse_code

if TYPE_CHECKING:
  import keras


def is_keras3(value: Any) -> bool:
  """True for an object of a class of Keras 3: a model, a layer, a loss, an optimizer."""
  return any(base.__module__.split('.')[0] == 'keras' for base in type(value).__mro__)


def load_keras3(path: str | os.PathLike, *, with_training: bool = False) -> keras.Model:
  """Loads a .keras or .h5 file of Keras 3; nothing in it runs.

  Args:
    path: where it lies.
    with_training: whether its optimizer, loss and metrics are wanted, too, where it has them.

  Raises:
    UserError: the file would run code.
    Exception: of many types, if the file cannot be read.
  """
  import keras

  refuse_code(path)
  return keras.saving.load_model(os.fspath(path), compile=with_training)


def traced(model: Any) -> Any:
  """A subclassed model as the functional model that its call amounts to; any other as it is.

  The layers are those of the model. A call that needs numbers, or something else than keras.layers and
  keras.ops, cannot be traced: then the model itself is returned, and is refused where it is opened up.
  """
  import keras

  shapes = getattr(model, '_build_shapes_dict', None)
  if getattr(model, '_nodes_by_depth', None) or isinstance(model, keras.Sequential) or not shapes:
    return model
  (shape, *others) = shapes.values()
  if others:
    return model  # Several arguments.
  try:
    inputs = _inputs(shape)
    return keras.Model(inputs, model.call(inputs), name=model.name)
  except Exception:  # Whatever a call raises on tensors without numbers.
    return model


def _inputs(shape: Any, name: str | None = None) -> Any:
  """Inputs of samples of one shape, or of several in a list or dictionary."""
  import keras

  if isinstance(shape, Mapping):
    return {key: _inputs(one, key) for key, one in shape.items()}
  if isinstance(shape[0], (list, tuple)):
    return [_inputs(one) for one in shape]
  return keras.Input(tuple(shape[1:]), name=name)


def require_layers(model: Any) -> Any:
  """The functional model of Keras 3 that a model is, or has inside.

  Raises:
    UserError: it is neither functional nor a built Sequential model.
  """
  import keras

  name = getattr(model, 'name', type(model).__name__)
  if isinstance(model, keras.Sequential):
    if not model.built or getattr(model, '_functional', None) is None:
      raise UserError(
        f'Sequential model {name!r} of Keras 3 has no input shape yet, expected a built model: add a '
        'keras.Input or call model.build(input_shape) first.'
      )
    return model._functional
  if getattr(model, '_nodes_by_depth', None):
    return model
  raise UserError(
    f'Model {name!r} is a subclassed model ({type(model).__name__}) of Keras 3 that cannot be traced, '
    'expected one that was called on data and whose call uses keras.layers and keras.ops alone: call '
    'it once, or rewrite it as keras.Model(inputs, outputs).'
  )
