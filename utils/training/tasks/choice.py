"""Which task an output has: the one that was named, else what loss, activation and targets say."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import tf_keras as keras

from secateurs.utils.errors import UserError
from secateurs.utils.graph.slicing.endings import SIGMOID, SOFTMAX, Ending
from secateurs.utils.registry import Registry
from secateurs.utils.training.tasks.classification import Classification
from secateurs.utils.training.tasks.criteria import Criteria
from secateurs.utils.training.tasks.regression import Regression
from secateurs.utils.training.tasks.segmentation import Segmentation
from secateurs.utils.training.tasks.sigmoids import Binary, MultiLabel
from secateurs.utils.training.tasks.task import Task

CLASSES, YES_NO, NUMBERS = 'classes', 'yes and no', 'numbers'
_LOSSES = {
  'sparse_categorical_crossentropy': CLASSES,
  'categorical_crossentropy': CLASSES,
  'categorical_focal_crossentropy': CLASSES,
  'categorical_hinge': CLASSES,
  'kl_divergence': CLASSES,
  'binary_crossentropy': YES_NO,
  'binary_focal_crossentropy': YES_NO,
  'mean_squared_error': NUMBERS,
  'mean_absolute_error': NUMBERS,
  'mean_absolute_percentage_error': NUMBERS,
  'mean_squared_logarithmic_error': NUMBERS,
  'huber': NUMBERS,
  'log_cosh': NUMBERS,
  'poisson': NUMBERS,
  'cosine_similarity': NUMBERS,
}
TASKS: Registry[type[Task]] = Registry('task')
for _one in (Classification, Binary, MultiLabel, Regression, Segmentation):
  TASKS.add(_one.name, _one)
_SYNONYMS = {
  'huber_loss': 'huber',
  'logcosh': 'log_cosh',
  'kullback_leibler_divergence': 'kl_divergence',
}

Targets = np.ndarray | None
"""Targets of some samples; None for class numbers of a data set that is known to have them."""


def task_of(
  shape: Sequence[int],
  ending: Ending,
  *,
  wanted: str | None = None,
  loss: Any = None,
  targets: Targets = None,
  criteria: Criteria | None = None,
  output: str = 'The model',
) -> Task:
  """The task of an output.

  Args:
    shape: of the output, without the axis of samples.
    ending: the activation at its end.
    wanted: name of a task; default: chosen here.
    loss: that the model was compiled with, if it was.
    targets: of some samples.
    criteria: the user's loss and metrics.
    output: what it is called in messages.

  Raises:
    UserError: the task that was named does not fit, or none is clear.
  """
  name = TASKS.find(wanted).name if wanted else _chosen(shape, ending, loss, targets, output)
  _require_fit(name, shape, ending, output)
  if name == Classification.name:
    return Classification(shape[-1], criteria, probabilities=ending == SOFTMAX)
  if name == Regression.name:
    criteria = _with_loss(criteria, loss)
  return TASKS[name](shape, criteria, ending=ending)


def _with_loss(criteria: Criteria | None, loss: Any) -> Criteria | None:
  """A regression minimises the loss that the model was compiled with, if that is a known one."""
  known = _LOSSES.get(loss_name(loss) or '') == NUMBERS and loss_name(loss) != 'mean_squared_error'
  return (criteria or Criteria()).or_loss(keras.losses.get(loss)) if known else criteria


def loss_name(loss: Any) -> str | None:
  """The name of a loss in the spelling of tf_keras' functions; None for no loss."""
  if loss is None:
    return None
  if isinstance(loss, str):
    try:
      loss = keras.losses.get(loss)
    except ValueError:
      return loss
  name = getattr(loss, '__name__', None) or getattr(loss, 'name', None) or type(loss).__name__
  name = re.sub(r'(?<!^)(?=[A-Z])', '_', name).lower()
  return _SYNONYMS.get(name, name)


def _chosen(shape: Sequence[int], ending: Ending, loss: Any, targets: Targets, output: str) -> str:
  kind = _kind(shape, ending, _LOSSES.get(loss_name(loss) or ''), targets)
  if kind is None:
    raise UserError(
      f'{output} ends in {shape[-1]} number(s) without softmax or sigmoid, and neither a compiled '
      'loss nor '
      'its targets say what they mean: name the task with task=NAME (on the command line '
      '--task), one of '
      f'{", ".join(TASKS)}.'
    )
  if kind == NUMBERS:
    return Regression.name
  if len(shape) > 1:
    return Segmentation.name
  if kind == CLASSES:
    return Classification.name
  return Binary.name if shape[-1] == 1 else MultiLabel.name


def _kind(shape: Sequence[int], ending: Ending, said: str | None, targets: Targets) -> str | None:
  fractions = targets is not None and _has_fractions(targets)
  if ending == SOFTMAX:
    spread = fractions and not _adds_up(targets)
    return NUMBERS if spread else CLASSES
  if ending == SIGMOID:
    soft = fractions and (said == NUMBERS or len(shape) > 1)
    return NUMBERS if soft or (said == NUMBERS and not _is_yes_no(targets)) else YES_NO
  if said is not None:
    return said
  if targets is None:
    return CLASSES if shape[-1] > 1 else None
  if fractions:
    return NUMBERS
  return _kind_of_whole_numbers(shape, targets)


def _kind_of_whole_numbers(shape: Sequence[int], targets: np.ndarray) -> str | None:
  """What whole numbers mean for an output without activation."""
  size, yes_no = shape[-1], _is_yes_no(targets)
  if targets.dtype == bool and size == 1:
    return YES_NO
  per_class = targets.ndim == len(shape) + 1 and targets.shape[-1] == size
  if size > 1 and per_class and yes_no:
    return CLASSES if (targets.sum(-1) == 1).all() else YES_NO
  if size > 1 and not per_class:
    return CLASSES
  return None if yes_no else NUMBERS


def _has_fractions(targets: np.ndarray) -> bool:
  return targets.dtype.kind == 'f' and bool((targets != np.round(targets)).any())


def _adds_up(targets: np.ndarray) -> bool:
  """Whether targets are probabilities of classes, as smoothed labels are."""
  return targets.ndim > 1 and bool(
    (targets >= 0).all() and np.allclose(targets.sum(-1), 1, atol=1e-3)
  )


def _is_yes_no(targets: Targets) -> bool:
  return targets is not None and bool(np.isin(targets, (0, 1)).all())


def _require_fit(name: str, shape: Sequence[int], ending: Ending, output: str) -> None:
  shown = f'(None, {", ".join(map(str, shape))})'
  if name == Classification.name and (len(shape) != 1 or shape[-1] < 2):
    raise UserError(
      f'{output} gives {shown}, but one number for each of at least two classes was expected, '
      '(None, classes): give a classifier, or another task.'
    )
  if name == Classification.name and ending == SIGMOID:
    raise UserError(
      f'{output} ends in a sigmoid for each of {shape[-1]} labels, but classification takes a '
      'softmax or logits: name the task multi-label, or end the model in logits.'
    )
  if name == Binary.name and tuple(shape) != (1,):
    raise UserError(f'{output} gives {shown}, but (None, 1) was expected for a yes or no.')
  if name == MultiLabel.name and len(shape) != 1:
    raise UserError(f'{output} gives {shown}, but (None, labels) was expected for labels.')
  if name in (Binary.name, MultiLabel.name) and ending == SOFTMAX:
    raise UserError(
      f'{output} ends in a softmax, but task {name} takes sigmoids or logits: name the task '
      'classification.'
    )
  if name == Segmentation.name and len(shape) < 2:
    raise UserError(
      f'{output} gives {shown}, but a class for each position was expected, (None, ..., classes).'
    )
