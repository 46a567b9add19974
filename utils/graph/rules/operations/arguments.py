"""Arguments of operations: found by name, read as constants, replaced."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.python.util import tf_inspect

from secateurs.utils.graph.flat.walk import Call, Ref


def argument(call: Call, name: str, default: Any = None) -> Any:
  """The argument `name` of the operation, wherever it was passed."""
  if name in call.kwargs:
    return call.kwargs[name]
  names = tf_inspect.getfullargspec(call.layer.function).args
  if name in names and names.index(name) < len(call.args):
    return call.args[names.index(name)]
  return default


def with_argument(call: Call, name: str, value: Any) -> tuple[tuple, dict]:
  """The call's arguments with one replaced."""
  if name in call.kwargs:
    return call.args, {**call.kwargs, name: value}
  place = tf_inspect.getfullargspec(call.layer.function).args.index(name)
  return (*call.args[:place], value, *call.args[place + 1 :]), call.kwargs


def with_arguments(call: Call, values: dict[str, Any]) -> tuple[tuple, dict]:
  """The call's arguments with several replaced."""
  args, kwargs = list(call.args), dict(call.kwargs)
  names = tf_inspect.getfullargspec(call.layer.function).args
  for name, value in values.items():
    if name in kwargs or names.index(name) >= len(args):
      kwargs[name] = value
    else:
      args[names.index(name)] = value
  return tuple(args), kwargs


def is_ref(value: Any) -> bool:
  """Whether a value stands for a Keras tensor."""
  return isinstance(value, Ref)


def constant_array(value: Any) -> np.ndarray | None:
  """`value` as a constant array, or None if it is something else."""
  if isinstance(value, tf.Variable) or value is None or isinstance(value, (Ref, str)):
    return None
  if isinstance(value, tf.Tensor):
    return value.numpy() if hasattr(value, 'numpy') else None
  try:
    array = np.asarray(value)
  except (TypeError, ValueError):
    return None
  return array if array.dtype.kind in 'fiub' else None


def integers(value: Any) -> list[int] | None:
  """`value` as a list of integers, or None."""
  array = constant_array(value)
  if array is None or array.dtype.kind not in 'iu':
    return None
  return [int(one) for one in np.ravel(array)]


def sizes_with_batch(value: Any) -> list[int | Ref] | None:
  """A shape whose entries may be numbers or scalar tensors (the batch size, say), or None."""
  if not isinstance(value, (list, tuple)):
    return integers(value)
  found: list[int | Ref] = []
  for one in value:
    number = None if is_ref(one) else integers(one)
    if not is_ref(one) and (number is None or len(number) != 1):
      return None
    found.append(one if is_ref(one) else number[0])
  return found


def map_operands(function: Callable, value: Any) -> Any:
  """Applies `function` to an operand, or to each of a list of operands that has tensors."""
  if isinstance(value, (list, tuple)) and any(is_ref(one) for one in value):
    return type(value)(function(one) for one in value)
  return function(value)


def operand_arrays(call: Call) -> list[np.ndarray]:
  """All constant numbers and arrays among the arguments."""
  operands = [*call.args, *(v for k, v in call.kwargs.items() if k != 'name')]
  arrays = [constant_array(value) for value in operands if not is_ref(value)]
  return [array for array in arrays if array is not None]
