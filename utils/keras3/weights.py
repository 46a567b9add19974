"""Copies the weights of a layer to a layer of the same kind in the other Keras."""

from __future__ import annotations

from typing import Any

import numpy as np

from secateurs.utils.errors import UserError


def copy_weights(source: Any, target: Any) -> None:
  """Sets a layer's weights, by name where names tell them apart, else in their order.

  Args:
    source: a built layer of either Keras.
    target: a built layer of the other one.

  Raises:
    UserError: numbers or shapes of weights differ.
  """
  own = [one for one in source.weights if 'lora_' not in _short(one)]  # They are in the kernel.
  given, wanted = [_value(source, one) for one in own], list(target.weights)
  names = [_short(one) for one in own]
  own = [_short(one) for one in wanted]
  if sorted(names) == sorted(own) and len(set(names)) == len(names):
    given = [given[names.index(name)] for name in own]
  shapes = [tuple(one.shape) for one in given], [tuple(one.shape) for one in wanted]
  if shapes[0] != shapes[1]:
    raise UserError(
      f'Layer {source.name!r} ({type(source).__name__}) has weights of shapes {shapes[0]}, but its '
      f'counterpart in the other Keras has {shapes[1]}: give it the same weights in the same order.'
    )
  for variable, value in zip(wanted, given):
    variable.assign(value)
  if hasattr(target, 'finalize_state'):
    target.finalize_state()


def _value(layer: Any, variable: Any) -> np.ndarray:
  if _short(variable) == 'kernel' and getattr(layer, 'lora_enabled', False):
    variable = layer.kernel  # With the adapter's product added.
  if type(layer).__name__ == 'Normalization' and _short(variable) in ('mean', 'variance'):
    # What it computes with, which may differ from the weights that it was made of.
    return np.reshape(_array(getattr(layer, _short(variable))), variable.shape)
  return _array(variable)


def _array(variable: Any) -> np.ndarray:
  if hasattr(variable, 'numpy'):
    return np.asarray(variable.numpy())
  import keras

  return np.asarray(keras.ops.convert_to_numpy(variable))


def _short(variable: Any) -> str:
  """The name below the layer: `query/kernel`, `kernel`."""
  path = getattr(variable, 'path', variable.name).split(':')[0]
  return '/'.join(path.split('/')[-2:]) if path.count('/') > 1 else path.split('/')[-1]
