"""Inputs and outputs of networks as arrays: one alone, or several in a tuple.

As tf.nest, without loading TensorFlow: pages and comparisons are made without it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np


def parts(values: Any) -> list[Any]:
  """The arrays, in order; those of a dictionary by its sorted keys."""
  if isinstance(values, Mapping):
    return [one for key in sorted(values) for one in parts(values[key])]
  if isinstance(values, (tuple, list)):
    return [one for value in values for one in parts(value)]
  return [values]


def mapped(function: Callable[..., Any], *values: Any) -> Any:
  """What a function gives for each array of a structure, or for those of several alike."""
  first = values[0]
  if isinstance(first, Mapping):
    return {key: mapped(function, *(one[key] for one in values)) for key in first}
  if isinstance(first, (tuple, list)):
    found = [mapped(function, *each) for each in zip(*values, strict=True)]
    if hasattr(first, '_fields'):
      return type(first)(*found)
    return tuple(found) if isinstance(first, tuple) else found
  return function(*values)


def one_or_all(values: Sequence[Any]) -> Any:
  """A single value as it is, several as a tuple."""
  return values[0] if len(values) == 1 else tuple(values)


def size(values: Any) -> int:
  """Number of samples: the length of the first array."""
  return len(parts(values)[0])


def rows(values: Any, index: Any) -> Any:
  """What an index (a slice, places, a mask) chooses of the samples of each array."""
  return mapped(lambda one: one[index], values)


def joined(pieces: Sequence[Any]) -> Any:
  """Pieces of samples, one after the other."""
  return mapped(lambda *arrays: np.concatenate(arrays), *pieces)


def as_numpy(values: Any) -> Any:
  """Tensors as arrays."""
  return mapped(np.asarray, values)


def as_tensors(values: Any) -> Any:
  """Arrays as tensors."""
  import tensorflow as tf  # Where no tensors are wanted, it need not be loaded.

  return mapped(tf.convert_to_tensor, values)
