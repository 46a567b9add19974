"""Random inputs that a model takes, and what it gives for them, in either Keras."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from secateurs.utils.errors import UserError, first_line

_SIZES = (32, 96, 224)


def random_inputs(model: Any, nb_samples: int = 2) -> list[np.ndarray]:
  """One array for each input of a model, of sizes and numbers that it takes.

  Raises:
    UserError: it works on none of those that are tried.
  """
  rng = np.random.default_rng(0)
  error: Exception | None = None
  shapes = [tuple(tensor.shape) for tensor in model.inputs]
  kinds = [tf.as_dtype(tensor.dtype) for tensor in model.inputs]
  is_open = any(None in shape[1:] for shape in shapes)
  for size in _SIZES if is_open else _SIZES[:1]:
    for whole in (False, True):  # Tokens may come as real numbers.
      arrays = [
        _numbers(rng, [nb_samples, *(size if axis is None else axis for axis in shape[1:])], kind)
        for shape, kind in zip(shapes, kinds)
      ]
      if whole:
        arrays = [_of_tokens(rng, one) for one in arrays]
      try:
        outputs(model, arrays)
      except Exception as problem:  # Too small for the model, or no tokens: of many types.
        error = problem
      else:
        return arrays
  tried = f'none of the sizes {_SIZES} that it leaves open' if is_open else 'no random inputs'
  raise UserError(
    f'Model {model.name} works on {tried} ({first_line(error)}): give it '
    f'{"an input of fixed size" if is_open else "inputs of the types that it reads"}.'
  )


def _of_tokens(rng: np.random.Generator, values: np.ndarray) -> np.ndarray:
  """Zeros and ones in place of other real numbers."""
  if not np.issubdtype(values.dtype, np.floating):
    return values
  return rng.integers(0, 2, values.shape).astype(values.dtype)


def _numbers(rng: np.random.Generator, shape: list[int], kind: tf.DType) -> np.ndarray:
  if kind.is_floating:
    values = rng.normal(size=shape)
    values[1::2] = rng.uniform(0, 255, values[1::2].shape)
    return values.astype(kind.as_numpy_dtype)
  if kind == tf.string:
    return rng.choice(['a', 'b', 'c'], shape).astype(object)
  if kind.is_bool:
    return rng.integers(0, 2, shape).astype(bool)
  if kind == tf.uint8:
    return rng.integers(0, 256, shape).astype(np.uint8)
  return rng.integers(0, 2, shape).astype(kind.as_numpy_dtype)


def outputs(model: Any, arrays: list[np.ndarray]) -> list[np.ndarray]:
  """A model's outputs at inference, flattened, on inputs in the order of `model.inputs`."""
  structure = getattr(model, '_inputs_struct', None)
  if structure is None:
    structure = getattr(model, '_nested_inputs', None)
  if isinstance(structure, (dict, list, tuple)):
    packed = tf.nest.pack_sequence_as(structure, arrays)
  else:
    packed = arrays[0] if len(arrays) == 1 else arrays
  found = model(packed, training=False)
  return [_to_numpy(one) for one in tf.nest.flatten(found)]


def _to_numpy(value: Any) -> np.ndarray:
  if tf.is_tensor(value):
    return tf.cast(value, tf.float32).numpy()
  import keras

  return np.asarray(keras.ops.convert_to_numpy(value), np.float32)
