"""Opens a layer of Keras 3: what its call does with layers and operations, as a graph of these.

A layer whose `call` is written with keras.layers and keras.ops can be called on symbolic tensors
outside of a model; the nodes that this leaves are what it computes.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf


def opened(layer: Any, arguments: Any) -> Any:
  """The functional model of Keras 3 that a layer's call amounts to.

  Args:
    layer: a built layer; it stays as it is.
    arguments: of its call in the model, `SymbolicArguments`.

  Returns:
    A keras.Function whose inputs are the arguments' tensors in order; weights that `call` reads
    itself are constants in it.

  Raises:
    Exception: of many types, where the call needs numbers, or knows nothing of symbolic tensors.
  """
  import keras

  inputs: list[Any] = []

  def stand_in(value: Any) -> Any:
    if not isinstance(value, keras.KerasTensor):
      return value
    inputs.append(keras.Input(batch_shape=value.shape, dtype=value.dtype))
    return inputs[-1]

  args, kwargs = arguments.convert(stand_in)
  outputs = layer.call(*args, **kwargs)
  if not all(isinstance(one, keras.KerasTensor) for one in tf.nest.flatten(outputs)):
    raise ValueError('its call gives numbers where tensors of a graph were expected')
  return keras.Function(inputs, outputs)


def unreached(layer: Any, function: Any) -> list[str]:
  """Names of a layer's trainable weights that belong to no layer of what it was opened into."""
  reached = set()
  for operation in function.operations:
    reached |= {id(one) for one in getattr(operation, 'weights', ())}
  return [one.path for one in layer.trainable_weights if id(one) not in reached]
