"""Targets as users have them, in the form that a task takes: shapes and ranges."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from secateurs.utils.errors import UserError


def shaped(targets: tf.Tensor, shape: Sequence[int | None]) -> tf.Tensor:
  """Targets with the shape of an output [n, ...]; a last axis of size one may be missing, or too many.

  Raises:
    UserError: they have another shape.
  """
  found, wanted = tuple(targets.shape[1:]), tuple(shape)
  while found != wanted and len(found) > len(wanted) and found[-1] == 1:
    targets, found = targets[..., 0], found[:-1]
  if len(found) == len(wanted) - 1 and wanted[-1] == 1:
    targets, found = targets[..., None], (*found, 1)
  if not tf.TensorShape(found).is_compatible_with(wanted):
    raise UserError(
      f'The targets have shape {found} for each sample, but {wanted} was expected, as the model '
      'gives: give one number for each number of the output.'
    )
  return targets


def require_between(
  targets: np.ndarray, low: float, high: float, where: str, task: str, expected: str
) -> None:
  """Checks the range of targets.

  Args:
    targets: numbers of any shape.
    low: the least that is allowed.
    high: the greatest.
    where: which data, such as training.
    task: what is learned, for the message.
    expected: what was expected, in words.

  Raises:
    UserError: a number is not finite, or out of range.
  """
  require_finite(targets, where)
  least, greatest = targets.min(), targets.max()
  if least < low or greatest > high:
    raise UserError(
      f'The {where} targets go from {least:g} to {greatest:g}, but {task} takes {expected}: number '
      'them so, or name another task with task=NAME (on the command line --task).'
    )


def require_finite(targets: np.ndarray, where: str) -> None:
  """Checks that all targets are numbers.

  Raises:
    UserError: one is NaN or infinite; the first sample is named.
  """
  finite = np.isfinite(targets.reshape(len(targets), -1)).all(axis=1)
  if not finite.all():
    raise UserError(
      f'The {where} targets of {int((~finite).sum())} samples are not finite, the first one is '
      f'sample {int(np.argmin(finite))}, but numbers were expected: correct or remove these '
      'samples.'
    )
