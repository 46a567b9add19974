"""Search of numbers of channels within a budget: measured curves first, Optuna's factors on them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tf_keras as keras

from secateurs.learners.channels.allocation import solvers
from secateurs.learners.channels.allocation.choices import Choices
from secateurs.learners.channels.allocation.reward import Reward
from secateurs.learners.channels.cuts.units import Unit
from secateurs.learners.channels.repair.method import Method
from secateurs.learners.channels.repair.reconstruct import prune
from secateurs.learners.channels.repair.refits import LayerRefits
from secateurs.learners.run.console import say
from secateurs.learners.run.training.judging import Judge
from secateurs.learners.run.training.trials import Candidate, Trial, best_candidates, search
from secateurs.learners.run.training.workers import Workers
from secateurs.utils.training.tasks.scores import Score

_NB_FINALISTS = 3


@dataclasses.dataclass(frozen=True)
class WidthSearch:
  """What a search works on.

  Attributes:
    choices: the table of what may stay.
    prices: of its steps, by unit name.
    units: what is allocated.
    original: the network before compression.
    working: another with its weights, which the search changes.
    refits: its layers at any numbers of channels.
    batches: images that layers are refit over.
    method: how channels are chosen and weights refit.
    judge: judges `working`.
    further: makes further pairs of such a network and its judge.
    jobs: candidates that are judged at the same time.
  """

  choices: Choices
  prices: Mapping[str, np.ndarray]
  units: Sequence[Unit]
  original: keras.Model
  working: keras.Model
  refits: LayerRefits
  batches: Sequence[np.ndarray]
  method: Method
  judge: Judge
  further: Callable[[], tuple[keras.Model, Judge]]
  jobs: int = 1

  def candidate(self, budget: float, factors: Mapping[str, float]) -> Candidate:
    """Numbers of channels within a budget, from factors of the prices; none: equal fractions."""
    if factors:
      counts = solvers.by_price(self.choices, budget, self.prices, factors)
    else:
      counts = solvers.equal(self.choices, budget)
    return Candidate(counts, self.choices.cost(counts))

  def reconstructed(self, counts: Mapping[str, int]) -> Score:
    """The score after the pass over the whole network, where a trial refits layers one by one."""
    self.working.set_weights(self.original.get_weights())
    prune(self.original, self.working, self.units, counts, self.batches, self.method)
    return self.judge().score

  def run(
    self,
    budget: float,
    path: Path,
    *,
    nb_trials: int,
    nb_random: int,
    seed: int,
    save: Callable[[], None],
  ) -> tuple[list[Trial], Trial, float]:
    """Tries candidates; the best few are judged again after the whole reconstruction.

    Args:
      budget: cost that may stay.
      path: of the trials, see `trials.search`.
      nb_trials: how many in all.
      nb_random: how many of them are drawn without looking at the others.
      seed: of the sampler.
      save: keeps what the caller knows beside the trials.

    Returns:
      All trials, the best of the finalists, and its goodness.
    """
    self.refits.remember()
    pairs = [(self.working, self.judge), *(self.further() for _ in range(self.jobs - 1))]
    rewards = [Reward(working, self.refits, judge) for working, judge in pairs]
    trials = search(
      [unit.name for unit in self.units],
      lambda factors: self.candidate(budget, factors),
      Workers([_of_counts(reward) for reward in rewards]),
      path,
      nb_trials=nb_trials,
      nb_random=nb_random,
      seed=seed,
      say=say,
      save=save,
    )
    goodness, best = max(
      ((self._final(trial), trial) for trial in _finalists(trials)), key=lambda one: one[0]
    )
    return trials, best, goodness

  def _final(self, trial: Trial) -> float:
    score = self.reconstructed(trial.counts)
    say(f'search  finalist {trial.number + 1}: {score} after the whole reconstruction')
    return score.goodness


def _of_counts(reward: Reward) -> Callable[[Candidate], float]:
  return lambda candidate: reward(candidate.counts)


def _finalists(trials: Sequence[Trial]) -> list[Trial]:
  """The best by reward, and the measured curves themselves before them."""
  by_reward = best_candidates(trials, _NB_FINALISTS)
  return by_reward if trials[0] in by_reward else [trials[0], *by_reward]


def summary(
  trials: Sequence[Trial],
  best: Trial,
  final: Candidate,
  goodness: float,
  nb_samples: int,
  split: str,
) -> dict[str, Any]:
  """What the report shows of a search."""
  return {
    'trials': len(trials),
    'best_trial': best.number,
    'reward': best.reward,
    'reward_by_curves': trials[0].reward,
    'reward_equal_ratios': trials[1].reward if len(trials) > 1 else None,
    'reward_reconstructed': goodness,
    'macs': final.cost,
    'counts': final.counts,
    'samples': nb_samples,
    'split': split,
  }
