"""Data without labels: what the original decides stands in for them.

A score is then the agreement with the original: 100 % for the original itself, and what is lost of it
is what the compressed network decides otherwise. Training learns from the original alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from secateurs.nets.datasets.images import ImageDataset
from secateurs.utils.errors import UserError

NOTE = (
  "There were no labels: the original's own decisions stand in for them, so that every accuracy here "
  'is the agreement with the original.'
)
_EVALUATED = 5  # Every fifth sample evaluates, where there are none to evaluate on.
_BATCH = 64


def mark(helper: Any) -> None:
  """Notes in a helper that its labels are decisions of the original."""
  helper.unlabelled = True
  helper.own_notes.append(NOTE)


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
    UserError: the model is no classifier, decides all inputs alike, or there are fewer than five.
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
  labels = {
    'train': _decisions(model, _parts(train))[0],
    'eval': _decisions(model, _parts(test))[0],
  }
  _require_different(labels['train'], 'check that they are scaled as the model was trained')
  return (train, labels['train']), (test, labels['eval'])


def decided(model: Any, data: ImageDataset) -> ImageDataset:
  """A data set whose labels are a classifier's own decisions on its images.

  Args:
    model: as for `with_decisions`.
    data: its labels are not looked at.

  Raises:
    UserError: as of `with_decisions`.
  """
  labels, nb_outputs = {}, 1
  for split in data.splits:
    batches = (images.numpy() for images, _ in data.eval_batches(split, _BATCH))
    labels[split], width = _decisions(model, batches)
    nb_outputs = max(nb_outputs, width)
  _require_different(labels['train'], 'see --preprocess')
  return data.relabelled(labels, [str(number) for number in range(max(nb_outputs, 2))])


def _parts(inputs: np.ndarray) -> Any:
  return (inputs[start : start + _BATCH] for start in range(0, len(inputs), _BATCH))


def _decisions(model: Any, parts: Any) -> tuple[np.ndarray, int]:
  """Classes int32 [n] of some batches of inputs, and the number of outputs."""
  found = [np.asarray(model(one, training=False)) for one in parts]
  if not found:
    return np.zeros(0, np.int32), 1
  outputs = np.concatenate(found)
  if outputs.ndim != 2 or not np.issubdtype(outputs.dtype, np.floating):
    raise UserError(
      f'Data without labels needs a classifier with one output [n, classes], but outputs of shape '
      f'{outputs.shape} came: give labels.'
    )
  if outputs.shape[1] == 1:
    ends = getattr(model.layers[-1], 'activation', None)
    threshold = 0.5 if getattr(ends, '__name__', '') == 'sigmoid' else 0.0
    return (outputs[:, 0] > threshold).astype(np.int32), 1
  return outputs.argmax(axis=1).astype(np.int32), outputs.shape[1]


def _require_different(labels: np.ndarray, remedy: str) -> None:
  """Checks that a model tells its inputs apart: without labels nothing else shows wrong pixels.

  Raises:
    UserError: it does not.
  """
  if len(np.unique(labels)) < 2:
    raise UserError(
      f'The model takes all {len(labels)} training inputs, which came without labels, for class '
      f'{labels[0]}, so that there is nothing to hold on to: give inputs of several classes, or other '
      f'pixels ({remedy}).'
    )
