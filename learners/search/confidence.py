"""How much a score has dropped, and how sure that is: paired over parts of the same samples.

A search looks at the same samples again and again and takes what passes, so that one of several
networks that lose too much would pass by luck more often than in 5 of 100 searches. Bonferroni's
correction divides these 5 by the number of looks at which that can happen. These are fewer than tries:
a network that passes rightly is no mistake, and one that fails rightly halves the step, of which a
search bears a few (`stepping.nb_looks`).

The other way, a last confirmation on samples that no try has seen, takes half of the samples away from
the tries: both errors grow by sqrt(2), as much as the correction for five looks, and a network that has
just passed fails it about half of the time. What the correction leaves out: later networks depend on
earlier answers, by whether a try passed and by divergences on some of these samples. No network is
trained on them.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Sequence

import numpy as np

CONFIDENCE = 0.95
_MOST_PARTS = 50
_LEAST_IN_PART = 10


def errors_of(nb_looks: int = 1) -> float:
  """Standard errors above a drop that hold with 95 % confidence (one-sided) in all of so many looks."""
  return statistics.NormalDist().inv_cdf(1 - (1 - CONFIDENCE) / nb_looks)


@dataclasses.dataclass(frozen=True)
class Drop:
  """By how much a network is worse than another on the same samples.

  Attributes:
    value: the difference of the two scores; negative where the network is better.
    error: standard error of the value.
    nb_looks: at the samples for which the confidence is to hold.
  """

  value: float
  error: float
  nb_looks: int = 1

  @classmethod
  def of(cls, value: float, most: float, nb_looks: int = 1) -> Drop:
    """From a drop and what it does not exceed."""
    return cls(value, (most - value) / errors_of(nb_looks), nb_looks)

  @property
  def most(self) -> float:
    """What the drop does not exceed with 95 % confidence (one-sided)."""
    return self.value + errors_of(self.nb_looks) * self.error


def nb_parts(nb_samples: int) -> int:
  """Into how many parts samples are divided: 50, or fewer so that each has ten."""
  return max(min(_MOST_PARTS, nb_samples // _LEAST_IN_PART), 1)


def paired_drop(
  before: Sequence[float], after: Sequence[float], nb_samples: int, nb_looks: int = 1
) -> Drop:
  """The drop from scores of parts of equal size; higher is better.

  The standard error is that of a mean over parts, from the spread of their differences: what both
  networks find hard in one part cancels. A further 1 / n (one sample) stands for what parts that all
  agree cannot show.

  Args:
    before: of the one network, by part.
    after: of the other, by the same parts.
    nb_samples: of all parts together.
    nb_looks: at these samples for which the confidence is to hold.
  """
  differences = np.asarray(before, float) - np.asarray(after, float)
  spread = float(differences.var(ddof=1)) / len(differences) if len(differences) > 1 else math.inf
  scale = max(float(np.abs(before).max(initial=0.0)), 1e-30)
  error = math.sqrt(spread + (min(scale, 1.0) / nb_samples) ** 2)
  return Drop(float(differences.mean()), error, nb_looks)


def least_samples(max_drop: float, nb_looks: int = 1) -> int:
  """Samples below which no drop at all can be held to a limit in [0, 1], however alike networks are.

  Networks that differ by `d` in accuracy disagree on a fraction `d` of the samples at least, so that
  the standard error is at least sqrt(d / n): z * sqrt(d / n) <= d gives n >= z^2 / d.
  """
  return math.ceil(errors_of(nb_looks) ** 2 / max_drop) if max_drop > 0 else 0


def least_drop(nb_samples: int, nb_looks: int = 1) -> float:
  """The least limit that samples can show, rounded up to three decimals; see `least_samples`."""
  return min(math.ceil(1e3 * errors_of(nb_looks) ** 2 / max(nb_samples, 1)) / 1e3, 1.0)


def samples_for(drop: Drop, max_drop: float, nb_samples: int) -> int | None:
  """How many samples would show that a drop is within a limit, if it stays as it is; None for never."""
  room = max_drop - drop.value
  if room <= 0 or not math.isfinite(drop.error):
    return None
  return max(math.ceil(nb_samples * (errors_of(drop.nb_looks) * drop.error / room) ** 2), 1)
