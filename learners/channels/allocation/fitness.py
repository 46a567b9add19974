"""The fitness of candidates of a search: a short training on masks, then the score."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf
import tf_keras as keras

from secateurs.learners.channels.criteria.ranking import best
from secateurs.learners.channels.cuts.cutting import RowMasks
from secateurs.learners.run.training.judging import Judge
from secateurs.learners.run.training.trials import Candidate
from secateurs.utils.training import distributed
from secateurs.utils.training.engine.loop import TrainStep
from secateurs.utils.training.models.batch_norm import reestimate

_DIVERGED = 0.0  # Of scores that are fractions, the least.


@dataclasses.dataclass(frozen=True)
class Training:
  """How a candidate is trained before it is judged.

  Attributes:
    step: one step of training, which keeps the masks.
    batches: of training samples, `nb_steps` of them.
    nb_steps: steps; none are made if it is 0.
    bn_images: batches that batch normalisation is re-estimated over before.
  """

  step: TrainStep
  batches: tf.data.Dataset
  nb_steps: int
  bn_images: Sequence[np.ndarray]


class Fitness:
  """Judges numbers of channels on one network, whose weights it sets back each time.

  One compiled step serves all candidates, because they are masks of the same network.
  """

  def __init__(
    self,
    model: keras.Model,
    masks: RowMasks,
    keys: Mapping[str, np.ndarray],
    training: Training,
    judge: Judge,
  ) -> None:
    """Keeps the weights of `model`, which `masks`, `training` and `judge` work on.

    `keys` [unit.size] by unit name say which channels stay: the highest.
    """
    self._model, self._masks, self._keys = model, masks, keys
    self._training, self._judge = training, judge
    self._weights = model.get_weights()
    self._slots = [variable.numpy() for variable in training.step.optimizer.variables]

  def __call__(self, candidate: Candidate) -> float:
    """Goodness of the score after the training.

    Where the training diverges 0, or what it was before the training if that is below zero: of scores
    that are better the lower they are (an error, a loss) goodness is the negative.
    """
    training = self._training
    self._cut(candidate)
    if training.nb_steps:
      done, _ = training.step.run(iter(training.batches), training.nb_steps)
      if done < training.nb_steps:
        self._cut(candidate)
        return min(self._judge.goodness(), _DIVERGED)
      distributed.mean_variables(self._model.non_trainable_weights)
    return self._judge.goodness()

  def _cut(self, candidate: Candidate) -> None:
    """Sets the network back to its first weights, and masks it."""
    optimizer = self._training.step.optimizer
    self._model.set_weights(self._weights)
    for variable, value in zip(optimizer.variables, self._slots, strict=True):
      variable.assign(value)
    self._masks.keep({n: best(self._keys[n], count) for n, count in candidate.counts.items()})
    reestimate(self._model, self._training.bn_images)
