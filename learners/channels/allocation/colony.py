"""An artificial bee colony that searches tenths of channels for each layer (ABCPruner).

Lin et al. 2020 (arXiv:2001.08565), algorithm 1, with the constants of the official code. A food source
is a code for each unit: so many tenths of its channels stay, from 1 to `max_tenths`. In each cycle

- an employed bee for every source changes two of its codes towards or away from another source,
  c + R (c - c_k) with R in [-1, 1), and takes the new source if it is fitter;
- as many onlookers do the same at sources drawn with probability 0.9 fitness / best + 0.1 (where a
  fitness is below zero, as of scores that are errors, all count from the least of the sources);
- a source that was not improved `nb_failures` times in a row is drawn again by a scout.

Deviation: codes are drawn from 1 to `max_tenths` and coordinates from all units; the official code
leaves the greatest code and the last layer out of mutations.

With several workers the first sources are judged at the same time, and so are employed bees that follow
each other, up to the first whose partner is a source of which one of them is still out: what is judged,
and in which order, is the same. Whether an onlooker goes to a source depends on the one before it.

Codes that come to the same widths have one fitness, which is found once. Each candidate is a line of a
file. A search that was stopped runs again from its seed and takes what it
had judged from the file, so that it ends like one that was not.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from secateurs.learners.run.training.trials import Candidate
from secateurs.learners.run.training.workers import Workers
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
class Move:
  """What a bee draws: its partner among the sources, and steps [places] towards or away from it."""

  partner: int
  places: np.ndarray
  steps: np.ndarray


@dataclasses.dataclass
class Hive:
  """The sources of a moment: their codes, fitness, and attempts without success since they improved."""

  sources: list[list[int]]
  fits: list[float]
  failures: list[int]

  def chance(self, index: int) -> float:
    """With which probability an onlooker goes to a source, in [0.1, 1]."""
    least = min(0.0, *self.fits)
    return 0.9 * (self.fits[index] - least) / ((max(self.fits) - least) or 1.0) + 0.1

  def take(self, index: int, codes: list[int], fitness: float) -> None:
    """Replaces a source by a fitter one, or counts a failure."""
    if fitness > self.fits[index]:
      self.sources[index], self.fits[index], self.failures[index] = codes, fitness, 0
    else:
      self.failures[index] += 1


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
    fitness: Callable[[Candidate], float] | Workers[Candidate, float],
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
      fitness: of a candidate; the greater the better; or workers that give it.
      path: of the candidates, one JSON object a line.
      seed: of all draws.
      say: prints a line to the user.
      save: keeps what the caller knows beside the candidates, after each cycle.
    """
    self._size, self._constants = nb_units, constants
    self._propose = propose
    self._workers = fitness if isinstance(fitness, Workers) else Workers([fitness])
    self._path, self._say, self._save = path, say, save
    self._rng = np.random.default_rng(seed)
    self._known = distributed.from_chief(lambda: read_records(path, Judged))
    self._judged: list[Judged] = []
    self._by_widths: dict[tuple[int, ...], float] = {}
    self._seconds = 0.0

  def run(self) -> Found:
    """Searches.

    Raises:
      UserError: the file holds candidates of another search.
    """
    sources = [self._drawn() for _ in range(self._constants.nb_sources)]
    fits = list(self._judge(sources, 0, 'start'))
    hive = Hive(sources, fits, [0] * len(sources))
    best, mean = [max(fits)], [float(np.mean(fits))]
    for cycle in range(1, self._constants.nb_cycles + 1):
      self._employ(hive, cycle)
      self._onlook(hive, cycle)
      worst = int(np.argmax(hive.failures))
      if hive.failures[worst] >= self._constants.nb_failures:
        hive.sources[worst], hive.failures[worst] = self._drawn(), 0
        (hive.fits[worst],) = self._judge([hive.sources[worst]], cycle, 'scout')
      best.append(max(one.fitness for one in self._judged))
      mean.append(float(np.mean(hive.fits)))
      self._report(cycle, best[-1], mean[-1])
      self._save()
    winner = max(self._judged, key=lambda one: (one.fitness, -one.number))
    return Found(winner.codes, winner.fitness, best, mean, len(self._judged))

  def _employ(self, hive: Hive, cycle: int) -> None:
    """Sends a bee from every source, several at a time where none waits for another's partner."""
    moves = [self._move(index) for index in range(len(hive.sources))]
    first = 0
    while first < len(moves):
      last = first + 1
      while last < len(moves) and not first <= moves[last].partner < last:
        last += 1
      changed = [self._mutated(hive.sources, i, moves[i]) for i in range(first, last)]
      for index, fitness in enumerate(self._judge(changed, cycle, 'employed'), first):
        hive.take(index, changed[index - first], fitness)
      first = last

  def _onlook(self, hive: Hive, cycle: int) -> None:
    index = done = 0
    while done < len(hive.sources):
      if self._rng.random() < hive.chance(index):
        done += 1
        changed = self._mutated(hive.sources, index, self._move(index))
        (fitness,) = self._judge([changed], cycle, 'onlooker')
        hive.take(index, changed, fitness)
      index = (index + 1) % len(hive.sources)

  def _move(self, index: int) -> Move:
    others = [k for k in range(self._constants.nb_sources) if k != index] or [index]
    partner = others[self._rng.integers(len(others))]
    places = self._rng.choice(self._size, min(_NB_MUTATED, self._size), replace=False)
    return Move(partner, places, self._rng.uniform(-1, 1, len(places)))

  def _mutated(self, sources: list[list[int]], index: int, move: Move) -> list[int]:
    codes, other = np.array(sources[index], float), np.array(sources[move.partner], float)
    codes[move.places] += move.steps * (codes[move.places] - other[move.places])
    return np.clip(np.rint(codes), 1, self._constants.max_tenths).astype(int).tolist()

  def _drawn(self) -> list[int]:
    return self._rng.integers(1, self._constants.max_tenths + 1, self._size).tolist()

  def _judge(self, sources: Sequence[list[int]], cycle: int, bee: str) -> Iterator[float]:
    """Fitness of codes that do not look at each other's: known from the file, or judged now."""
    first = len(self._judged)
    known = self._known[first : first + len(sources)]
    for one, codes in zip(known, sources):
      if one.codes != codes:
        raise UserError(
          f'{self._path} holds candidates of another search (candidate {one.number} differs): delete '
          'it, or give another --run_dir.'
        )
      self._judged.append(one)
      self._by_widths[tuple(one.counts.values())] = one.fitness
      yield one.fitness
    rest = sources[len(known) :]
    candidates, began = [self._propose(codes) for codes in rest], time.perf_counter()
    new = {tuple(one.counts.values()): one for one in candidates}
    fresh = self._workers.map([one for widths, one in new.items() if widths not in self._by_widths])
    for codes, candidate in zip(rest, candidates, strict=True):
      widths = tuple(candidate.counts.values())
      if widths not in self._by_widths:
        self._by_widths[widths] = distributed.broadcast_object(next(fresh))
      fitness = self._by_widths[widths]
      one = Judged(len(self._judged), cycle, bee, codes, candidate.counts, candidate.cost, fitness)
      if distributed.is_chief():
        append_record(self._path, one)
      self._judged.append(one)
      yield fitness
    self._seconds += time.perf_counter() - began

  def _report(self, cycle: int, best: float, mean: float) -> None:
    text = (
      f'search  cycle {cycle}/{self._constants.nb_cycles}  {len(self._judged)} candidates  best '
      f'fitness {best:.4f}  mean of the sources {mean:.4f}'
    )
    fresh = len(self._judged) - len(self._known)
    if fresh > 0:  # Candidates from the file say nothing about the time that one takes.
      left = (self._constants.nb_cycles - cycle) * 2 * self._constants.nb_sources
      text += f'  ETA {format_seconds(self._seconds / fresh * left)}'
    self._say(text)
