"""How good a choice of per-kernel sparsities is: the reward of weight-sparse's search.

First each kernel is pruned alone (`divergence`): candidates are factors on these curves. A trial starts
from the trained network: masks by magnitude, layer-wise regression of each kernel on its original
outputs (`regression`), short training of the whole network, the score on held-out samples.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf
import tf_keras as keras

from secateurs.learners.run.training.divergence import Curve, Part
from secateurs.learners.run.training.judging import Judge
from secateurs.learners.run.training.trials import Candidate, Trial
from secateurs.learners.weights.ratios import by_curves, most_zeros, uniform
from secateurs.learners.weights.regression import Regression
from secateurs.learners.weights.sensitivity import RATIOS, first_calls
from secateurs.utils.training import distributed
from secateurs.utils.training.engine.loop import TrainStep
from secateurs.utils.training.engine.masks import MaskSet, nb_kept
from secateurs.utils.training.engine.patterns import Pattern

_DIVERGED = -1e9  # Worse than any score, whatever its direction.

TOTAL = '(total)'
"""The name of the factor of all kept weights together, for rewards that weigh them."""


def propose(
  curves: Mapping[str, Curve],
  sizes: Mapping[str, int],
  ratio: float,
  factors: Mapping[str, float],
) -> Candidate:
  """Kept weights that meet a total, from factors on the curves of `by_curves`; none: `uniform`."""
  if not factors:
    counts = uniform(sizes, ratio)
  else:
    share = min(factors.get(TOTAL, 1.0), 1.0)
    counts = by_curves(curves, sizes, 1 - (1 - ratio) * share, factors)
  return Candidate(counts, sum(counts.values()))


def single_objective(goodness: float, kept: int) -> float:
  """The score alone: candidates have the same number of weights."""
  del kept
  return goodness


def multi_objective(goodness: float, kept: int) -> float:
  """-(1 - score) log(weights): He et al. 2018 (AMC, arXiv:1802.03494), section 3.4."""
  return -(1 - goodness) * math.log(max(kept, 1))


OBJECTIVES = {'single-obj': single_objective, 'multi-obj': multi_objective}


def summary(trials: Sequence[Trial], best: Trial, split: str) -> dict[str, Any]:
  """What the report shows of a search; `split`: what it was judged on."""
  return {
    'trials': len(trials),
    'best_trial': best.number,
    'reward': best.reward,
    'reward_by_curves': trials[0].reward,
    'reward_uniform': trials[1].reward if len(trials) > 1 else None,
    'weights': best.cost,
    'split': split,
  }


def kernel_parts(
  model: keras.Model,
  kernels: Mapping[str, tf.Variable],
  pattern: Pattern,
  regression: Regression,
  ratio: float,
) -> list[Part]:
  """The kernels of a float32 model, by name, as parts of a scan; `ratio` is that of all."""
  first = first_calls(model)
  most = most_zeros(ratio)
  shares = sorted({share for share in RATIOS if share < most} | {ratio, most} - {0.0})

  def part(name: str, kernel: tf.Variable) -> Part:
    weights = kernel.numpy()

    def prune(share: float) -> None:
      mask = pattern.mask(weights, nb_kept(weights.size, share))
      kernel.assign(regression(name, weights, mask))

    points = [(share, functools.partial(prune, share)) for share in shares]
    return Part(name, first[id(kernel)], points, functools.partial(kernel.assign, weights))

  return [part(name, kernel) for name, kernel in kernels.items()]


class Reward:
  """Judges candidates on a separate network."""

  def __init__(
    self,
    model: keras.Model,
    kernels: Mapping[str, tf.Variable],
    masks: MaskSet,
    regression: Regression,
    step: TrainStep,
    batches: tf.data.Dataset,
    judge: Judge,
    nb_iters: int,
    objective: Callable[[float, int], float],
  ) -> None:
    """`kernels`, `masks`, `step` and `judge` are of `model`, which holds the trained weights.

    `step` runs over `batches`, of which there are `nb_iters`.
    """
    self._model, self._kernels, self._masks = model, dict(kernels), masks
    self._regression, self._step, self._batches = regression, step, batches
    self._judge, self._nb_iters, self._objective = judge, nb_iters, objective
    self._weights = model.get_weights()
    self._slots = [variable.numpy() for variable in step.optimizer.variables]

  def __call__(self, candidate: Candidate) -> float:
    """The reward; a training that diverges gives of the worst score."""
    return self._objective(self._goodness(candidate), candidate.cost)

  def _goodness(self, candidate: Candidate) -> float:
    self._model.set_weights(self._weights)
    for variable, value in zip(self._step.optimizer.variables, self._slots, strict=True):
      variable.assign(value)
    self._masks.reset()
    whole = {name: kernel.numpy() for name, kernel in self._kernels.items()}
    self._masks.update([1 - candidate.counts[n] / whole[n].size for n in self._kernels])
    for (name, kernel), mask in zip(self._kernels.items(), self._masks.masks, strict=True):
      kernel.assign(self._regression(name, whole[name], mask.numpy()))
    if self._nb_iters:
      done, _ = self._step.run(iter(self._batches), self._nb_iters)
      if done < self._nb_iters:
        return _DIVERGED
      distributed.mean_variables(self._model.non_trainable_weights)
    return self._judge.goodness()
