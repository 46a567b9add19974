"""Subclassed models as functional ones: their Python code is run once on symbolic tensors."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import tensorflow as tf
import tf_keras as keras

from secateurs.utils.errors import UserError, first_line
from secateurs.utils.graph.flat.walk import is_graph


def as_functional(model: Any, shapes: Sequence[Sequence[int | None]] | None = None) -> Any:
  """A functional model that shares its layers with a subclassed one; others are returned as they are.

  Models inside it are traced, too. Branches in Python are taken as for inference.

  Args:
    model: built, by a call or by training.
    shapes: of samples of each input, where they are known; default: those that it was called with.

  Raises:
    UserError: it was never called, or its code does not work on symbolic tensors.
  """
  if not isinstance(model, keras.Model) or is_graph(model):
    return model
  if isinstance(model, keras.Sequential):
    if shapes is None or model.built:
      return model
    model.build((None, *shapes[0]))
    return model
  spec = _input_spec(model, shapes)
  try:
    inputs = tf.nest.map_structure(
      lambda one: keras.Input(one.shape[1:], dtype=one.dtype, name=one.name), spec
    )
    with _traced_inside(model):
      outputs = model.call(inputs)
    return keras.Model(inputs, outputs, name=model.name)
  except Exception as error:  # Whatever the user's code raises.
    reason = first_line(error)
    raise UserError(
      f'Subclassed model {model.name} cannot be followed on symbolic tensors '
      f'({type(error).__name__}: {reason}): write it as keras.Model(inputs, outputs), without '
      'Python code that depends on values.'
    ) from error


def _input_spec(model: keras.Model, shapes: Sequence[Sequence[int | None]] | None) -> Any:
  saved = getattr(model, '_saved_model_inputs_spec', None)
  if saved is None:
    raise UserError(
      f'Subclassed model {model.name} was never called, so that its layers have no weights: call '
      'it on a batch, or train it, first.'
    )
  flat = tf.nest.flatten(saved)
  known = shapes if shapes is not None and len(shapes) == len(flat) else [None] * len(flat)
  specs = [
    tf.TensorSpec((None, *(one.shape[1:] if shape is None else shape)), one.dtype, name=one.name)
    for one, shape in zip(flat, known)
  ]
  return tf.nest.pack_sequence_as(saved, specs)


@contextlib.contextmanager
def _traced_inside(model: keras.Model) -> Iterator[None]:
  """While it lasts, subclassed models inside a model run their code in place of being one layer."""
  inner = [
    one
    for one in model.submodules
    if isinstance(one, keras.Model) and not is_graph(one) and not isinstance(one, keras.Sequential)
  ]
  kinds = {id(one): type(one) for one in inner}
  try:
    for one in inner:
      plain = {'__call__': lambda self, *args, **options: self.call(*args, **options)}
      object.__setattr__(one, '__class__', type(type(one).__name__, (type(one),), plain))
    yield
  finally:
    for one in inner:
      object.__setattr__(one, '__class__', kinds[id(one)])
