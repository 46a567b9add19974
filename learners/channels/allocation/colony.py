"""An artificial bee colony that searches tenths of channels for each layer (ABCPruner).

Lin et al. 2020 (arXiv:2001.08565), algorithm 1, with the constants of the official code. A food source
is a code for each unit: so many tenths of its channels stay, from 1 to `max_tenths`. In each cycle

- an employed bee for every source changes two of its codes towards or away from another source,
  c + R (c - c_k) with R in [-1, 1), and takes the new source if it is fitter;
- as many onlookers do the same at sources drawn with probability 0.9 fitness / best + 0.1;
- a source that was not improved `nb_failures` times in a row is drawn again by a scout.

Deviation: codes are drawn from 1 to `max_tenths` and coordinates from all units; the official code
leaves the greatest code and the last layer out of mutations.

Each candidate is a line of a file. A search that was stopped runs again from its seed and takes what it
had judged from the file, so that it ends like one that was not.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from secateurs.learners.run.training.trials import Candidate
from secateurs.utils.errors import UserError
from secateurs.utils.json_lines import append_record, read_records
from secateurs.utils.training import distributed
from secateurs.utils.training.engine.progress import format_seconds

_NB_MUTATED = 2


@dataclasses.dataclass(frozen=True)
class Constants:
  """Of the search.

  Attributes:
    nb_sources: food sources, n.
    nb_cycles: cycles, T.
    nb_failures: attempts without success after which a source is given up, M.
    max_tenths: upper bound of the channels that stay, alpha.
  """

  nb_sources: int = 10
  nb_cycles: int = 10
  nb_failures: int = 5
  max_tenths: int = 10


@dataclasses.dataclass(frozen=True)
class Judged:
  """A candidate: who proposed it in which cycle, its codes, what stays, its cost and its fitness."""

  number: int
  cycle: int
  bee: str
  codes: list[int]
  counts: dict[str, int]
  cost: int
  fitness: float


@dataclasses.dataclass(frozen=True)
class Found:
  """What a search found.

  Attributes:
    codes: of the fittest candidate.
    fitness: its own.
    best: the best fitness so far after the start and each cycle, [cycles + 1].
    mean: the mean fitness of the sources at these moments.
    nb_judged: candidates.
  """

  codes: list[int]
  fitness: float
  best: list[float]
  mean: list[float]
  nb_judged: int


class Colony:
  """One search."""

  def __init__(
    self,
    nb_units: int,
    constants: Constants,
    propose: Callable[[Sequence[int]], Candidate],
    fitness: Callable[[Candidate], float],
    path: Path,
    seed: int,
    say: Callable[[str], None] = lambda text: None,
    save: Callable[[], None] = lambda: None,
  ) -> None:
    """Reads what was judged before.

    Args:
      nb_units: codes of a source.
      constants: of the search.
      propose: from codes to a candidate that meets the budget.
      fitness: of a candidate; the greater the better, at least 0.
      path: of the candidates, one JSON object a line.
      seed: of all draws.
      say: prints a line to the user.
      save: keeps what the caller knows beside the candidates, after each cycle.
    """
    self._size, self._constants = nb_units, constants
    self._propose, self._fitness = propose, fitness
    self._path, self._say, self._save = path, say, save
    self._rng = np.random.default_rng(seed)
    self._known = distributed.from_chief(lambda: read_records(path, Judged))
    self._judged: list[Judged] = []
    self._began = time.perf_counter()

  def run(self) -> Found:
    """Searches.

    Raises:
      UserError: the file holds candidates of another search.
    """
    sources = [self._drawn() for _ in range(self._constants.nb_sources)]
    fits = [self._judge(codes, 0, 'start') for codes in sources]
    failures = [0] * len(sources)
    best, mean = [max(fits)], [float(np.mean(fits))]
    for cycle in range(1, self._constants.nb_cycles + 1):
      for index in range(len(sources)):
        self._try(sources, fits, failures, index, cycle, 'employed')
      self._onlook(sources, fits, failures, cycle)
      worst = int(np.argmax(failures))
      if failures[worst] >= self._constants.nb_failures:
        sources[worst], failures[worst] = self._drawn(), 0
        fits[worst] = self._judge(sources[worst], cycle, 'scout')
      best.append(max(one.fitness for one in self._judged))
      mean.append(float(np.mean(fits)))
      self._report(cycle, best[-1], mean[-1])
      self._save()
    winner = max(self._judged, key=lambda one: (one.fitness, -one.number))
    return Found(winner.codes, winner.fitness, best, mean, len(self._judged))

  def _onlook(
    self, sources: list[list[int]], fits: list[float], failures: list[int], cycle: int
  ) -> None:
    index = done = 0
    while done < len(sources):
      chance = 0.9 * fits[index] / (max(fits) or 1.0) + 0.1
      if self._rng.random() < chance:
        done += 1
        self._try(sources, fits, failures, index, cycle, 'onlooker')
      index = (index + 1) % len(sources)

  def _try(
    self,
    sources: list[list[int]],
    fits: list[float],
    failures: list[int],
    index: int,
    cycle: int,
    bee: str,
  ) -> None:
    changed = self._mutated(sources, index)
    fitness = self._judge(changed, cycle, bee)
    if fitness > fits[index]:
      sources[index], fits[index], failures[index] = changed, fitness, 0
    else:
      failures[index] += 1

  def _mutated(self, sources: list[list[int]], index: int) -> list[int]:
    codes = np.array(sources[index], float)
    others = [k for k in range(len(sources)) if k != index] or [index]
    other = np.array(sources[others[self._rng.integers(len(others))]], float)
    places = self._rng.choice(self._size, min(_NB_MUTATED, self._size), replace=False)
    steps = self._rng.uniform(-1, 1, len(places))
    codes[places] += steps * (codes[places] - other[places])
    return np.clip(np.rint(codes), 1, self._constants.max_tenths).astype(int).tolist()

  def _drawn(self) -> list[int]:
    return self._rng.integers(1, self._constants.max_tenths + 1, self._size).tolist()

  def _judge(self, codes: list[int], cycle: int, bee: str) -> float:
    number = len(self._judged)
    if number < len(self._known):
      known = self._known[number]
      if known.codes != codes:
        raise UserError(
          f'{self._path} holds candidates of another search (candidate {number} differs): delete it, '
          'or give another --run_dir.'
        )
    else:
      candidate = self._propose(codes)
      fitness = distributed.broadcast_object(self._fitness(candidate))
      known = Judged(number, cycle, bee, codes, candidate.counts, candidate.cost, fitness)
      if distributed.is_chief():
        append_record(self._path, known)
    self._judged.append(known)
    return known.fitness

  def _report(self, cycle: int, best: float, mean: float) -> None:
    fresh = len(self._judged) - len(self._known)
    left = (self._constants.nb_cycles - cycle) * 2 * self._constants.nb_sources
    seconds = (time.perf_counter() - self._began) / fresh * left if fresh > 0 else 0.0
    self._say(
      f'search  cycle {cycle}/{self._constants.nb_cycles}  {len(self._judged)} candidates  best '
      f'fitness {best:.4f}  mean of the sources {mean:.4f}  ETA {format_seconds(seconds)}'
    )
