"""Data without labels: what the original decides stands in for them.

A score is then the agreement with the original: 100 % for the original itself, and what is lost of it
is what the compressed network decides otherwise. Training learns from the original alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from secateurs.utils.errors import UserError

NOTE = (
  "There were no labels: the original's own decisions stand in for them, so that every accuracy here "
  'is the agreement with the original.'
)
_EVALUATED = 5  # Every fifth sample evaluates, where there are none to evaluate on.
_BATCH = 64


def is_unlabelled(data: Any) -> bool:
  """Whether data is inputs alone, as an array."""
  return isinstance(data, np.ndarray) and data.ndim > 1


def with_decisions(model: Any, train: np.ndarray, test: Any) -> tuple[tuple, tuple]:
  """Training and evaluation data whose labels are a classifier's own decisions.

  Args:
    model: of either Keras, one output [n, classes], or [n, 1] of a binary one.
    train: inputs [n, ...].
    test: inputs [m, ...], or None: every fifth of `train` is taken.

  Returns:
    ((inputs, labels), (inputs, labels)): labels int32 [n].

  Raises:
    UserError: the model is no classifier, or there are fewer than five inputs.
  """
  if test is None:
    if len(train) < _EVALUATED:
      raise UserError(
        f'Data without labels must have at least {_EVALUATED} inputs, but {len(train)} came: give more.'
      )
    chosen = np.arange(len(train)) % _EVALUATED == _EVALUATED - 1
    train, test = train[~chosen], train[chosen]
  if not is_unlabelled(test):
    raise UserError(
      'Training data came without labels, but evaluation data with them: give inputs alone for both, '
      'or labels for both.'
    )
  return (train, _decisions(model, train)), (test, _decisions(model, test))


def _decisions(model: Any, inputs: np.ndarray) -> np.ndarray:
  parts = [
    np.asarray(model(inputs[start : start + _BATCH], training=False))
    for start in range(0, len(inputs), _BATCH)
  ]
  outputs = np.concatenate(parts)
  if outputs.ndim != 2 or not np.issubdtype(outputs.dtype, np.floating):
    raise UserError(
      f'Data without labels needs a classifier with one output [n, classes], but outputs of shape '
      f'{outputs.shape} came: give labels.'
    )
  if outputs.shape[1] == 1:
    ends = getattr(model.layers[-1], 'activation', None)
    threshold = 0.5 if getattr(ends, '__name__', '') == 'sigmoid' else 0.0
    return (outputs[:, 0] > threshold).astype(np.int32)
  return outputs.argmax(axis=1).astype(np.int32)
