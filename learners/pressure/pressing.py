"""A training under a penalty: strengths, hooks, and what it has done to the norms of the groups."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from secateurs.learners.pressure import penalties, shrinkage
from secateurs.learners.pressure.rp_config import PROXIMAL
from secateurs.learners.pressure.weight_groups import WeightGroups
from secateurs.utils.training.engine.hooks import Constraint, Hooks, Penalty

_NB_BINS = 20
_GROWN = 2 * np.log(100.0)  # A factor that rises evenly has half of its highest value on average.


class Pressure:
  """The penalty on some sets of groups.

  Attributes:
    groups: by kind.
    strengths: lambda_g of each set, [groups].
    growth: the rise of the factor, where it grows.
  """

  def __init__(
    self,
    groups: Mapping[str, WeightGroups],
    *,
    update: str,
    growth: penalties.Growth | None = None,
  ) -> None:
    """`update`: proximal or subgradient; with a `growth` the penalty is that of growing factors."""
    self.groups, self.growth, self._update = dict(groups), growth, update
    self.strengths = {
      kind: tf.Variable(tf.zeros([one.size]), trainable=False) for kind, one in groups.items()
    }

  def variables(self) -> dict[str, tf.Variable]:
    """What a checkpoint must hold."""
    found = {f'strength/{kind}': variable for kind, variable in self.strengths.items()}
    return found if self.growth is None else {**found, 'growth/steps': self.growth.steps}

  def begin(
    self,
    strength: float,
    factor: float | None,
    travelled: float,
    pressed: np.ndarray,
    amplification: float,
  ) -> None:
    """Sets the strengths by the norms of this moment.

    Args:
      strength: see `shrinkage.relative_strengths`; of growing, 1 leaves a hundredth.
      factor: lambda_g for all groups, in place of the strength.
      travelled: sum of the learning rates of the training.
      pressed: bool array [channels]: those that are penalised, and have not gone.
      amplification: what momentum makes of a constant gradient; proximal steps have none.
    """
    travelled *= 1.0 if self._update == PROXIMAL else amplification
    for kind, one in self.groups.items():
      free = np.append(pressed, True)[one.channels]  # Groups of no channel have -1.
      if factor is not None:
        found = np.full(one.size, factor)
      elif self.growth is not None:
        found = np.full(one.size, strength * _GROWN / travelled)
      else:
        norms = one.norms().numpy()
        found = shrinkage.relative_strengths(norms, one.scales, strength, travelled, free)
      self.strengths[kind].assign(np.where(free, found, 0.0))
    if self.growth is not None:
      self.growth.steps.assign(0.0)

  def hooks(self, nb_steps: int, masks: Constraint) -> Hooks:
    """What is added to a training of some steps, in which a factor that grows rises to its highest."""
    if self.growth is not None:
      self.growth.rise_within(nb_steps)
    return Hooks(
      penalties=self.penalties(),
      constraints=[*self.constraints(), masks],
      metrics=lambda: {'zero_groups': self.nb_zero_groups()},
    )

  def penalties(self) -> list[Penalty]:
    """What is added to the gradients."""
    return [] if self._update == PROXIMAL else self._hooks()

  def constraints(self) -> list[Constraint]:
    """What follows the optimizer's step."""
    return self._hooks() if self._update == PROXIMAL else []

  def _hooks(self) -> list[Any]:
    proximal = self._update == PROXIMAL
    found = []
    for kind, one in self.groups.items():
      if self.growth is not None:
        make = penalties.GrowingStep if proximal else penalties.GrowingPenalty
        found.append(make(one, self.strengths[kind], self.growth))
      else:
        make = penalties.LassoStep if proximal else penalties.LassoPenalty
        found.append(make(one, self.strengths[kind]))
    return found

  # What it has done.

  def worth(self, there: np.ndarray) -> np.ndarray:
    """The norm of each channel, [channels], in units of the strength with which it was pressed.

    Where nothing was pressed, in units of the mean norm of comparable groups. A channel with several
    groups of a kind, as scales of several normalisations, counts with their mean.

    Args:
      there: bool array [channels]: those that have not gone.
    """
    nb_channels = len(there)
    total = np.zeros(nb_channels)
    for kind, one in self.groups.items():
      mine, strengths, norms = one.channels >= 0, self.strengths[kind].numpy(), one.norms().numpy()
      if not strengths.any():
        left = np.append(there, True)[one.channels]
        strengths = shrinkage.relative_strengths(norms, one.scales, 1.0, 1.0, left)
      units = strengths / (strengths.max(initial=0.0) or 1.0)
      worth, channels = norms / np.where(units > 0, units, 1.0), one.channels[mine]
      sums = np.bincount(channels, worth[mine], nb_channels)
      total += sums / np.maximum(np.bincount(channels, minlength=nb_channels), 1)
    return total

  def zeros(self, nb_channels: int) -> np.ndarray:
    """Bool array [channels]: those of which some kind has only groups of zeros."""
    return penalties.zero_channels(list(self.groups.values()), nb_channels)

  def nb_zero_groups(self) -> int:
    """Number of groups that are exactly zero, over all kinds."""
    return sum(int((one.norms().numpy() == 0).sum()) for one in self.groups.values())

  def histograms(self, largest: Mapping[str, float] | None = None) -> dict[str, dict[str, Any]]:
    """Histograms of the norms by kind: `counts` of equal bins from zero to `largest`, and `zeros`."""
    found = {}
    for kind, one in self.groups.items():
      norms = one.norms().numpy()
      top = (largest or {}).get(kind) or float(norms.max(initial=0.0)) or 1.0
      counts, _ = np.histogram(np.minimum(norms, top), _NB_BINS, (0.0, top))
      found[kind] = {
        'counts': counts.tolist(),
        'largest': top,
        'zeros': int((norms == 0).sum()),
        'of': one.size,
      }
    return found


def cumulative(histogram: Mapping[str, Any]) -> list[list[float]]:
  """(norm as a fraction of the largest, fraction of the groups up to it) of a histogram."""
  counts, total = histogram['counts'], max(histogram['of'], 1)
  points = [[0.0, histogram['zeros'] / total]]
  return points + [
    [(i + 1) / len(counts), sum(counts[: i + 1]) / total] for i in range(len(counts))
  ]
