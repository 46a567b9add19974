"""Labels that are names: numbered in sorted order."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from secateurs.utils.errors import UserError

_NB_READ = 4096


def numbered(train: Any, evaluation: Any) -> tuple[Any, Any, list[str] | None]:
  """Data with class numbers in place of names, as indices of the sorted names of the training data.

  Args:
    train: (inputs, labels, ...) or a pipeline of such.
    evaluation: the same, or None.

  Returns:
    (train, evaluation, names): the data as it came and None where labels are no names.

  Raises:
    UserError: the evaluation data has a name that the training data lacks.
  """
  names = _names(train)
  if names is None:
    return train, evaluation, None
  known = sorted(names)
  unknown = sorted((_names(evaluation) or set()) - names)
  if unknown:
    raise UserError(
      f'The evaluation labels have the name {unknown[0]!r}, which no training sample has; expected '
      f'{", ".join(known[:6])}: give samples of the same classes.'
    )
  return _replaced(train, known), _replaced(evaluation, known), known


def _names(data: Any) -> set[str] | None:
  """The different names that labels are; None where they are none."""
  if isinstance(data, tf.data.Dataset):
    spec = data.element_spec
    if not isinstance(spec, tuple) or getattr(spec[1], 'dtype', None) != tf.string:
      return None
    labels = data.map(lambda inputs, labels, *weights: tf.reshape(labels, [-1])).unbatch()
    return {
      _text(text) for part in labels.batch(_NB_READ).as_numpy_iterator() for text in np.unique(part)
    }
  if not isinstance(data, (tuple, list)) or len(data) < 2 or isinstance(data[1], dict):
    return None
  try:
    labels = np.asarray(data[1])
  except ValueError:  # Targets of several outputs.
    return None
  if labels.dtype.kind in 'US':
    return {_text(one) for one in np.unique(labels)}
  if labels.dtype.kind == 'O' and labels.size and isinstance(labels.flat[0], (str, bytes)):
    return {_text(one) for one in set(labels.ravel())}
  return None


def _text(value: Any) -> str:
  """A label as text.

  Raises:
    UserError: its bytes are none.
  """
  try:
    return value.decode() if isinstance(value, bytes) else str(value)
  except UnicodeDecodeError as error:
    raise UserError(
      f'The label {bytes(value)!r} is a name in bytes that are no UTF-8, but names in UTF-8 '
      'were expected: decode the labels first.'
    ) from error


def _replaced(data: Any, names: list[str]) -> Any:
  if data is None:
    return None
  if isinstance(data, tf.data.Dataset):
    keys = tf.constant(names)
    table = tf.lookup.StaticHashTable(
      tf.lookup.KeyValueTensorInitializer(keys, tf.range(len(names))), -1
    )
    return data.map(lambda inputs, labels, *others: (inputs, table.lookup(labels), *others))
  numbers = {name: number for number, name in enumerate(names)}
  labels = np.asarray(data[1])
  found = np.array([numbers[_text(one)] for one in labels.ravel()], np.int32).reshape(labels.shape)
  return (data[0], found, *data[2:])
