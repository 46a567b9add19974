"""Searches that are kept on disk: Optuna proposes factors, each trial is a line of a file.

What is searched is a factor for each part of a network (a channel group, a kernel); whoever searches
turns factors into a candidate that meets its budget by construction, and judges it. Factors of one are
the first trial, no factors (equal shares for all) the second.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType

from secateurs.learners.run.training.workers import Workers
from secateurs.utils.errors import UserError
from secateurs.utils.json_lines import append_record, read_records
from secateurs.utils.training import distributed
from secateurs.utils.training.engine.progress import format_seconds

_LOWEST, _HIGHEST = 0.4, 2.5
_NB_GIVEN = 2  # Trials that need no sampler.


@dataclasses.dataclass(frozen=True)
class Candidate:
  """What stays of each part.

  Attributes:
    counts: channels or weights kept, by name.
    cost: what the budget counts: MACs, or weights.
  """

  counts: dict[str, int]
  cost: int


@dataclasses.dataclass(frozen=True)
class Trial:
  """A candidate that was judged.

  Attributes:
    number: counts up from zero.
    factors: by name; empty for equal shares.
    counts: see Candidate.
    cost: see Candidate.
    reward: the greater the better.
  """

  number: int
  factors: dict[str, float]
  counts: dict[str, int]
  cost: int
  reward: float


def search(
  names: Sequence[str],
  propose: Callable[[Mapping[str, float]], Candidate],
  reward: Callable[[Candidate], float] | Workers[Candidate, float],
  path: Path,
  *,
  nb_trials: int,
  nb_random: int,
  seed: int,
  say: Callable[[str], None],
  save: Callable[[], None] = lambda: None,
  every: int = 20,
) -> list[Trial]:
  """Tries candidates and keeps each on disk; resumes where an earlier search was stopped.

  The sampler is made again for every trial from the seed and the trial's number, so that a search that
  was stopped ends like one that was not. With several workers the trials that are drawn without
  looking at others are judged at the same time; the others wait for what they look at.

  Args:
    names: of the parts.
    propose: from factors (empty: equal shares) to a candidate.
    reward: of a candidate, the greater the better, such as the goodness of its score; or workers
      that give it.
    path: a file of one JSON object a line.
    nb_trials: how many in all.
    nb_random: how many of them are drawn without looking at the others.
    seed: of the sampler.
    say: prints a line to the user.
    save: keeps what the caller knows beside the trials, such as the time that they took.
    every: how many trials between two lines to the user, and two calls of `save`.

  Returns:
    All trials, in order.

  Raises:
    UserError: see `require_optuna`.
  """
  optuna = require_optuna(nb_trials)
  sampler = None if optuna is None else _Sampler(optuna, names, nb_random, seed)
  trials = distributed.from_chief(lambda: read_records(path, Trial))
  began, first = time.perf_counter(), len(trials)
  workers = reward if isinstance(reward, Workers) else Workers([reward])
  for numbers in _waves(first, min(nb_random + 1, nb_trials), nb_trials):
    drawn = [_factors(number, names, sampler, trials) for number in numbers]
    candidates = [distributed.broadcast_object(propose(factors)) for factors in drawn]
    for number, factors, candidate, value in zip(
      numbers, drawn, candidates, workers.map(candidates), strict=True
    ):
      trial = Trial(number, factors, candidate.counts, candidate.cost, value)
      trials.append(distributed.broadcast_object(trial))
      _append(path, trials[-1])
      if number < _NB_GIVEN or (number + 1) % every == 0:
        seconds = (time.perf_counter() - began) / (number + 1 - first)
        say(_progress(trials, nb_trials, seconds))
        save()
  return trials


def _waves(first: int, independent: int, total: int) -> Iterator[range]:
  """Numbers of trials that do not look at each other: those before `independent`, then each alone."""
  if first < independent:
    yield range(first, independent)
  for number in range(max(first, independent), total):
    yield range(number, number + 1)


class _Sampler:
  """Optuna's TPE, which is asked afresh for every trial, from the trials before it."""

  def __init__(self, optuna: ModuleType, names: Sequence[str], nb_random: int, seed: int) -> None:
    kind = optuna.distributions.FloatDistribution(_LOWEST, _HIGHEST, log=True)
    self._optuna, self._distributions = optuna, dict.fromkeys(names, kind)
    self._nb_random, self._seed = nb_random, seed

  def ask(self, number: int, trials: Sequence[Trial]) -> dict[str, float]:
    """Factors that a new study, which knows all trials before, suggests."""
    optuna, kinds = self._optuna, self._distributions
    sampler = optuna.samplers.TPESampler(
      seed=(self._seed * 1_000_003 + number) % (1 << 31),
      n_startup_trials=self._nb_random,
      multivariate=True,
    )
    study = optuna.create_study(direction='maximize', sampler=sampler)
    study.add_trials(
      [
        optuna.trial.create_trial(params=t.factors, distributions=kinds, value=t.reward)
        for t in trials
        if t.factors
      ]
    )
    return {name: float(value) for name, value in study.ask(kinds).params.items()}


def _factors(
  number: int, names: Sequence[str], sampler: _Sampler | None, trials: Sequence[Trial]
) -> dict[str, float]:
  """Of a trial: ones for the first, none for the second (equal shares), then what is suggested."""
  if number == 0:
    return dict.fromkeys(names, 1.0)
  return {} if number < _NB_GIVEN else sampler.ask(number, trials)


def _append(path: Path, trial: Trial) -> None:
  if distributed.is_chief():
    append_record(path, trial)


def _progress(trials: Sequence[Trial], nb_trials: int, seconds: float) -> str:
  """A line about the latest of some trials; `seconds` are those of one trial."""
  latest, best = trials[-1], max(trial.reward for trial in trials)
  left = seconds * (nb_trials - len(trials))
  return (
    f'search  trial {latest.number + 1}/{nb_trials}  reward {latest.reward:.4f}  best {best:.4f}  '
    f'ETA {format_seconds(left)}'
  )


def require_optuna(nb_trials: int) -> ModuleType | None:
  """Optuna, where so many trials need it.

  Raises:
    UserError: there are more than two trials, and Optuna is not installed.
  """
  if nb_trials <= _NB_GIVEN:
    return None
  try:
    import optuna
  except ImportError as error:
    raise UserError(
      "Searching ratios needs Optuna, which is not installed: pip install -e '.[search]' in the "
      "project's folder."
    ) from error
  optuna.logging.set_verbosity(optuna.logging.ERROR)
  return optuna


def best_candidates(trials: Sequence[Trial], number: int) -> list[Trial]:
  """The trials of the greatest rewards with different counts."""
  found: dict[str, Trial] = {}
  for trial in sorted(trials, key=lambda t: (-t.reward, t.number)):
    found.setdefault(json.dumps(trial.counts), trial)
  return list(found.values())[:number]
