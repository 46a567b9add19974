"""How far each try goes along the budget, and when the search ends: pure functions of what is known."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

_NEAR = 4.0
_DRIFT = 0.99  # A file of codes becomes longer or shorter while its weights are trained.
LONGER = 3
"""Times the training steps of a try that one which is near is trained once more."""
LOOKS_AT_THE_END = 2
"""Looks where no score decides what is tried: before and after the last training."""
SMALLEST_STEP = 0.94  # A try that would save less than 6 % is not worth its training.


@dataclasses.dataclass(frozen=True)
class Stand:
  """Where a search stands.

  Attributes:
    cost: of the last network that was accepted.
    step: fraction of it that the next try may cost.
    nb_tries: tries that are done.
    seconds: that the search has taken.
  """

  cost: float
  step: float
  nb_tries: int
  seconds: float


def next_step(step: float, accepted: bool) -> float:
  """The step after a try: as large as before, or half of it (on a scale of logarithms)."""
  return step if accepted else math.sqrt(step)


def nb_looks(first_step: float, most_tries: int) -> int:
  """How often a search may look at a network that loses too much, and take it by mistake.

  Each such try is looked at twice at most (again after a longer training) and, unless it is taken by
  mistake, halves the step; a search ends where its steps are too small. The last look is at the network
  after the last training.
  """
  step, nb_rejected = first_step, 0
  while step <= SMALLEST_STEP and nb_rejected < most_tries:
    step, nb_rejected = next_step(step, accepted=False), nb_rejected + 1
  return 2 * nb_rejected + 1


def is_near(drop: float, max_drop: float) -> bool:
  """Whether a drop after a short training may come within the limit by a longer one."""
  return drop <= _NEAR * max_drop


def target(stand: Stand, limit: float | None, *, drifts: bool = False) -> float:
  """The cost that the next try may have: a step less, but no less than a limit asks for.

  Args:
    stand: of the search.
    limit: of the cost, if it has one.
    drifts: whether training changes the cost, so that one per cent less than the limit is aimed at.
  """
  wished = stand.cost * stand.step
  if limit is None:
    return wished
  return max(wished, limit * _DRIFT if drifts else limit)


def nb_steps_to(limit: float, cost: float, step: float) -> int:
  """Tries from a cost to a limit of it, each of which keeps a fraction `step`: at least one."""
  return max(math.ceil(math.log(min(limit / cost, 1.0)) / math.log(step)), 1)


def over(
  stand: Stand,
  *,
  limit: float | None,
  most_tries: int,
  most_seconds: float,
  last_seconds: Sequence[float] = (),
) -> str | None:
  """Why the search ends, as a sentence for the user; None while it continues.

  Args:
    stand: of the search.
    limit: cost that is allowed, if it is the cost that has a limit.
    most_tries: of the whole search.
    most_seconds: of the whole search.
    last_seconds: what each try so far has taken: one that would not be ready in time is not begun.
  """
  if limit is not None and stand.cost <= limit:
    return 'The limit is met.'
  if stand.step > SMALLEST_STEP:
    return 'Smaller steps are not worth their training.'
  if stand.nb_tries >= most_tries:
    return f'{most_tries} tries are done.'
  expected = max(last_seconds[-2:], default=0.0)
  if stand.seconds + expected > most_seconds:
    return 'The time of the search is over.'
  return None
