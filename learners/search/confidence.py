"""How much a score has dropped, and how sure that is: paired over parts of the same samples."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

CONFIDENCE = 0.95
_Z = 1.6449  # One-sided, 95 %.
_MOST_PARTS = 50
_LEAST_IN_PART = 10


@dataclasses.dataclass(frozen=True)
class Drop:
  """By how much a network is worse than another on the same samples.

  Attributes:
    value: the difference of the two scores; negative where the network is better.
    error: standard error of the value.
  """

  value: float
  error: float

  @classmethod
  def of(cls, value: float, most: float) -> Drop:
    """From a drop and what it does not exceed."""
    return cls(value, (most - value) / _Z)

  @property
  def most(self) -> float:
    """What the drop does not exceed with 95 % confidence (one-sided)."""
    return self.value + _Z * self.error


def nb_parts(nb_samples: int) -> int:
  """Into how many parts samples are divided: 50, or fewer so that each has ten."""
  return max(min(_MOST_PARTS, nb_samples // _LEAST_IN_PART), 1)


def paired_drop(before: Sequence[float], after: Sequence[float], nb_samples: int) -> Drop:
  """The drop from scores of parts of equal size; higher is better.

  The standard error is that of a mean over parts, from the spread of their differences: what both
  networks find hard in one part cancels. A further 1 / n (one sample) stands for what parts that all
  agree cannot show.

  Args:
    before: of the one network, by part.
    after: of the other, by the same parts.
    nb_samples: of all parts together.
  """
  differences = np.asarray(before, float) - np.asarray(after, float)
  spread = float(differences.var(ddof=1)) / len(differences) if len(differences) > 1 else math.inf
  scale = max(float(np.abs(before).max(initial=0.0)), 1e-30)
  error = math.sqrt(spread + (min(scale, 1.0) / nb_samples) ** 2)
  return Drop(float(differences.mean()), error)


def least_samples(max_drop: float) -> int:
  """Samples below which no drop at all can be held to a limit in [0, 1], however alike networks are.

  Networks that differ by `d` in accuracy disagree on a fraction `d` of the samples at least, so that
  the standard error is at least sqrt(d / n): z * sqrt(d / n) <= d gives n >= z^2 / d.
  """
  return math.ceil(_Z**2 / max_drop) if max_drop > 0 else 0


def least_drop(nb_samples: int) -> float:
  """The least limit that samples can show, rounded up to three decimals; see `least_samples`."""
  return min(math.ceil(1e3 * _Z**2 / max(nb_samples, 1)) / 1e3, 1.0)


def samples_for(drop: Drop, max_drop: float, nb_samples: int) -> int | None:
  """How many samples would show that a drop is within a limit, if it stays as it is; None for never."""
  room = max_drop - drop.value
  if room <= 0 or not math.isfinite(drop.error):
    return None
  return max(math.ceil(nb_samples * (_Z * drop.error / room) ** 2), 1)
