"""Inputs and outputs of networks as arrays: one alone, or several in a tuple."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf


def parts(values: Any) -> list[Any]:
  """The arrays, in order."""
  return list(tf.nest.flatten(values))


def one_or_all(values: Sequence[Any]) -> Any:
  """A single value as it is, several as a tuple."""
  return values[0] if len(values) == 1 else tuple(values)


def size(values: Any) -> int:
  """Number of samples: the length of the first array."""
  return len(parts(values)[0])


def rows(values: Any, index: Any) -> Any:
  """What an index (a slice, places, a mask) chooses of the samples of each array."""
  return tf.nest.map_structure(lambda one: one[index], values)


def joined(pieces: Sequence[Any]) -> Any:
  """Pieces of samples, one after the other."""
  return tf.nest.map_structure(lambda *arrays: np.concatenate(arrays), *pieces)


def as_numpy(values: Any) -> Any:
  """Tensors as arrays."""
  return tf.nest.map_structure(np.asarray, values)


def as_tensors(values: Any) -> Any:
  """Arrays as tensors."""
  return tf.nest.map_structure(tf.convert_to_tensor, values)
