"""Compares two models on random numbers, each of either Keras."""

from __future__ import annotations

from typing import Any

import numpy as np

from secateurs.utils.errors import UserError
from secateurs.utils.random_inputs import outputs, random_inputs

TOLERANCE = 1e-5
"""Largest difference, as a fraction of the output's range."""
OF_ROUNDING = 10
"""How many times the change that the last digit of the inputs makes the difference may be."""
_HALVES = {'float16': 2.0**-10, 'bfloat16': 2.0**-7}


def prove_equal(given: Any, made: Any, what: str) -> float:
  """Runs both on the same random inputs and returns the largest difference.

  Half of the samples are normally distributed, half uniform in [0, 255], as pixels are. The two
  Keras round differently (batch norm, for one), and some networks amplify that: where the given
  model's own outputs change by more for inputs that differ in their last digit, so may the made one's.

  Args:
    given: the model that is right.
    made: the model that must equal it.
    what: the latter, in a few words for the message.

  Returns:
    The largest difference of any output as a fraction of that output's range.

  Raises:
    UserError: they differ by more than `TOLERANCE`, and by more than rounding explains.
  """
  inputs = random_inputs(given)
  expected = outputs(given, inputs)
  try:
    found = outputs(made, inputs)
  except Exception as error:  # Of many types: what was made does not run.
    reason = [line for line in str(error).splitlines() if line.strip()][-1:] or ['no reason given']
    raise UserError(
      f'{what} cannot be run ({reason[0].strip()[:200]}): please report this, with the model.'
    ) from error
  worst = 0.0
  for one, other in zip(expected, found, strict=True):
    if one.shape != other.shape:
      raise UserError(
        f'{what} gives {other.shape} where {one.shape} was expected: please report this.'
      )
    if one.size:
      worst = max(worst, difference(one, other))
  if not worst <= TOLERANCE and not worst <= OF_ROUNDING * rounding(given, inputs, expected):
    raise UserError(
      f'{what} differs from the model that it was made from by {worst:.1e} of the range of its '
      f'outputs, at most {TOLERANCE:.0e} was expected: please report this, with the model.'
    )
  return worst


def rounding(given: Any, inputs: list[np.ndarray], expected: list[np.ndarray]) -> float:
  """How much a model's own outputs change where its inputs change in their last digit."""
  rng = np.random.default_rng(1)
  digit = max((_digit(layer) for layer in given.layers), default=0.0)
  nudged = [_nudged(rng, one, digit) for one in inputs]
  return max(
    (difference(a, b) for a, b in zip(expected, outputs(given, nudged), strict=True)), default=0.0
  )


def _digit(layer: Any) -> float:
  """The last digit of the type that a layer computes in, where that is a half."""
  if hasattr(layer, 'layers'):
    return max(map(_digit, layer.layers), default=0.0)
  return _HALVES.get(getattr(layer, 'compute_dtype', None), 0.0)


def _nudged(rng: np.random.Generator, values: np.ndarray, digit: float) -> np.ndarray:
  if not np.issubdtype(values.dtype, np.floating) or _are_whole(values):
    return values
  up = rng.choice([-1, 1])
  if digit:
    return (values * (1 + up * digit)).astype(values.dtype)
  return np.nextafter(values, values.dtype.type(up * np.inf))


def _are_whole(values: np.ndarray) -> bool:
  return bool((values == np.round(values)).all())


def difference(one: np.ndarray, other: np.ndarray) -> float:
  """Largest difference as a fraction of the range of `one`; infinite where one alone is finite."""
  one, other = np.asarray(one, np.float64), np.asarray(other, np.float64)
  finite = np.isfinite(one)
  if (finite != np.isfinite(other)).any():
    return float('inf')
  if not finite.any():
    return 0.0
  one, other = one[finite], other[finite]
  span = max(float(one.max() - one.min()), 1e-3 * float(np.abs(one).max()), 1e-30)
  return float(np.abs(one - other).max()) / span
