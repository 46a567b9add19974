"""float32 values that 16 bits hold: rounding to them, and what takes half of the bytes.

A float16 has eleven bits of precision. Scales, shifts and statistics of batch normalisation, biases and
the entries of codebooks are few, but in a network of few bits they are a good part of the file.
"""

from __future__ import annotations

import numpy as np
import tf_keras as keras

_ERROR = 2.0**-11  # Of float16 where it is normal.


def in_halves(values: np.ndarray) -> np.ndarray:
  """Values [...] that float16 holds exactly, in their own type.

  Those of float32 are rounded to the nearest, where no error is above 2^-11 of the greatest magnitude;
  else, and those of other types, they stay as they are.
  """
  if values.dtype != np.float32 or not values.size:
    return values
  with np.errstate(over='ignore', invalid='ignore'):
    rounded = values.astype(np.float16).astype(np.float32)
    errors = np.abs(rounded - values)
  # Not finite: a comparison with it is False.
  return rounded if errors.max() <= _ERROR * np.abs(values).max() else values


def are_halves(values: np.ndarray) -> bool:
  """Whether values are float32, and float16 holds each exactly."""
  if values.dtype != np.float32:
    return False
  with np.errstate(over='ignore'):
    return np.array_equal(values.astype(np.float16).astype(np.float32), values)


def halve(model: keras.Model) -> None:
  """Rounds all weights of a model to 16 bits, where they allow it; see `in_halves`."""
  for weight in model.weights:
    weight.assign(in_halves(weight.numpy()))
