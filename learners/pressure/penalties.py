"""Penalties on groups of weights, as parts of a compiled training step."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from secateurs.learners.pressure import shrinkage
from secateurs.learners.pressure.weight_groups import WeightGroups
from secateurs.utils.training.engine.hooks import Constraint, Penalty


class LassoPenalty(Penalty):
  """sum_g lambda_g ||W_g|| by its sub-gradient, which the optimizer takes with the loss's gradient."""

  def __init__(self, groups: WeightGroups, strengths: tf.Variable) -> None:
    """`strengths`: lambda_g, [groups]."""
    self._groups, self._strengths = groups, strengths

  def __call__(self, variables: Sequence[tf.Variable]) -> list[tf.Tensor | None]:
    """lambda_g * W_g / ||W_g||."""
    slopes = shrinkage.lasso_slopes(self._groups.norms(), self._strengths)
    return self._groups.terms(variables, slopes)


class LassoStep(Constraint):
  """The proximal step of sum_g lambda_g ||W_g|| after the optimizer's: groups become exactly zero."""

  def __init__(self, groups: WeightGroups, strengths: tf.Variable) -> None:
    """`strengths`: lambda_g, [groups]."""
    self._groups, self._strengths = groups, strengths

  def apply(self, learning_rate: tf.Tensor) -> None:
    """Shrinks all groups."""
    thresholds = learning_rate * self._strengths
    self._groups.scale(shrinkage.lasso_factors(self._groups.norms(), thresholds))


class Growth:
  """A factor that rises in equal steps while a network trains; counts the steps.

  Attributes:
    steps: training steps so far, a scalar float32 variable for checkpoints.
  """

  def __init__(self, nb_steps: int, nb_rises: int) -> None:
    """Rises to its highest value within `nb_steps` in `nb_rises` steps."""
    self.steps = tf.Variable(0.0, trainable=False)
    self._wanted = nb_rises
    self.rise_within(nb_steps)

  def rise_within(self, nb_steps: int) -> None:
    """Sets the length of the training that is compiled next."""
    self._nb_steps, self._nb_rises = max(nb_steps, 1), min(self._wanted, max(nb_steps, 1))

  def next(self) -> tf.Tensor:
    """The fraction of the highest value for this step; runs in graph mode."""
    progress = self.steps / self._nb_steps
    self.steps.assign_add(1.0)
    return shrinkage.risen(progress, self._nb_rises)


class GrowingPenalty(Penalty):
  """The gradient of sum_g lambda_g / 2 ||W_g||^2 with a factor that grows (Wang et al. 2021)."""

  def __init__(self, groups: WeightGroups, strengths: tf.Variable, growth: Growth) -> None:
    """`strengths`: the highest lambda_g, [groups]; zero for groups that stay."""
    self._groups, self._strengths, self._growth = groups, strengths, growth

  def __call__(self, variables: Sequence[tf.Variable]) -> list[tf.Tensor | None]:
    """lambda_g * W_g."""
    return self._groups.terms(variables, self._growth.next() * self._strengths)


class GrowingStep(Constraint):
  """The proximal step of the same, after the optimizer's."""

  def __init__(self, groups: WeightGroups, strengths: tf.Variable, growth: Growth) -> None:
    """`strengths`: the highest lambda_g, [groups]; zero for groups that stay."""
    self._groups, self._strengths, self._growth = groups, strengths, growth

  def apply(self, learning_rate: tf.Tensor) -> None:
    """Shrinks the groups that are to go."""
    thresholds = learning_rate * self._growth.next() * self._strengths
    self._groups.scale(shrinkage.ridge_factors(thresholds))


def zero_channels(groups: Sequence[WeightGroups], nb_channels: int) -> np.ndarray:
  """Bool array [channels]: those of which some kind has only groups of zeros.

  Nothing is left of a channel whose filter makes zeros, or that no layer reads.
  """
  gone = np.zeros(nb_channels, bool)
  for one in groups:
    mine = one.channels >= 0
    largest = np.full(nb_channels, -1.0)
    np.maximum.at(largest, one.channels[mine], one.norms().numpy()[mine])
    gone |= largest == 0
  return gone
