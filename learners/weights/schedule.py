"""When weights are pruned: how sparsity rises over the steps of a training.

Zhu & Gupta 2017, "To prune, or not to prune" (arXiv:1710.01878), equation 1:

  s_t = s_f + (s_i - s_f) (1 - (t - t_0) / (n Delta t))^3
"""

from __future__ import annotations

import dataclasses
import math

import tensorflow as tf

_MIN_UPDATES = 20
_MAX_UPDATE_STEP = 100
_BELOW_ONE = math.nextafter(1.0, 0.0)


@dataclasses.dataclass(frozen=True)
class Rise:
  """How sparsity rises.

  Attributes:
    first: sparsity at the first update, in [0, 1].
    last: sparsity at the last one.
    begin: fraction of the steps after which it starts to rise.
    end: fraction of the steps after which it has risen.
    every: steps between two updates; None: 100, or fewer so that at least 20 updates fit.
    exponent: of the polynomial, 3 in the paper.
  """

  first: float
  last: float
  begin: float = 0.1
  end: float = 0.5
  every: int | None = None
  exponent: float = 3.0

  def update_steps(self, nb_steps: int) -> list[int]:
    """Steps after which masks are updated in a run of `nb_steps`: at least one, the last included.

    Where the schedule has room for it, there are at least 20 updates.
    """
    begin = max(round(self.begin * nb_steps), 1)
    end = max(round(self.end * nb_steps), begin)
    every = self.every
    if every is None:
      every = max(min((end - begin) // _MIN_UPDATES, _MAX_UPDATE_STEP), 1)
    return sorted({*range(begin, end, every), end})

  def sparsity_at(self, step: int, steps: list[int]) -> float:
    """The target sparsity in [0, 1] after a step, for a schedule with updates at `steps`.

    tfmot's PolynomialDecay computes the polynomial; it takes no ratio of 1, which the last update
    sets exactly.
    """
    begin, end = steps[0], steps[-1]
    if step < begin:
      return 0.0
    if step >= end:
      return self.last
    from tensorflow_model_optimization.sparsity.keras import PolynomialDecay

    first, last = (min(r, _BELOW_ONE) for r in (self.first, self.last))
    schedule = PolynomialDecay(first, last, begin, end, self.exponent, frequency=1)
    return float(schedule(tf.constant(step, tf.int64))[1])


def round_density(number: int, nb_rounds: int, density: float) -> float:
  """Fraction of a kernel's weights that stay after round `number` (from 1): geometric steps."""
  return density ** (number / nb_rounds)
