"""An agent that walks through the layers and says how much of each stays (AMC).

He et al. 2018, "AMC: AutoML for Model Compression and Acceleration on Mobile Devices",
arXiv:1802.03494. An episode is one walk: for each unit of channels, in the order of the network, the
agent sees what the unit costs, what is saved so far and what the rest costs, and says which fraction
stays. Where the rest at its least would not meet the budget any more, fewer stay: every episode meets
it. At the end the candidate is judged, and every step of the episode gets that reward.

Deviations. A state has eight numbers that every kind of network has; the paper's eleven are those of
plain convolutions. The reward is the goodness of the task's score in [0, 1], not the accuracy in
hundredths of percent. Of the episodes the best one is taken.

Each episode is a line of a file. A search that was stopped walks again from its seed, and takes from
the file what it had judged.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from scipy.stats import truncnorm

from secateurs.learners.channels.allocation.choices import Choices
from secateurs.learners.channels.allocation.ddpg import Agent, Constants
from secateurs.utils.json_lines import append_record, read_records, write_records
from secateurs.utils.training import distributed
from secateurs.utils.training.engine.progress import format_seconds

NB_FEATURES = 8
_TINY = 1e-9
_NB_SAID = 10  # Episodes between two lines to the user.


@dataclasses.dataclass(frozen=True)
class Schedule:
  """How episodes explore.

  Attributes:
    nb_episodes: all of them.
    nb_random: of these, the first, in which actions are drawn.
    noise: standard deviation of the noise after them.
    noise_decay: factor of it from one episode to the next.
  """

  nb_episodes: int = 800
  nb_random: int = 100
  noise: float = 0.5
  noise_decay: float = 0.95


@dataclasses.dataclass(frozen=True)
class Episode:
  """A walk that was judged."""

  number: int
  counts: dict[str, int]
  cost: float
  reward: float


@dataclasses.dataclass(frozen=True)
class Step:
  """What an agent saw and did at one unit; the action is the fraction that stays in the end."""

  state: np.ndarray
  action: float


def walk(
  choices: Choices, budget: float, act: Callable[[np.ndarray], float]
) -> tuple[dict[str, int], list[Step]]:
  """One episode.

  Args:
    choices: the table, whose lowest levels meet the budget.
    budget: cost that may stay.
    act: from a state, float32 [NB_FEATURES], to the fraction of the unit's channels that should stay.

  Returns:
    Channels that stay, by unit name, at a cost within the budget; and the steps.
  """
  units, nb_units = choices.units, len(choices.units)
  last = [len(levels) - 1 for levels in choices.levels]
  total = choices.cost_at([0] * nb_units)
  widest = max(unit.size for unit in units)
  # What each unit saves at its least while all others are whole, as fractions of all; nothing where
  # its width is given.
  own = [
    1 - choices.cost_at([last[i] * (i == j) for i in range(nb_units)]) / total
    for j in range(nb_units)
  ]
  places: list[int] = []
  steps: list[Step] = []
  action = 1.0
  for number, unit in enumerate(units):
    open_cost = choices.cost_at([*places, *([0] * (nb_units - number))]) / total
    least_cost = choices.cost_at([*places, *last[number:]]) / total
    state = np.array(
      [
        number / nb_units,
        unit.size / widest,
        own[number],
        own[number] / max(*own, _TINY),
        1 - open_cost,
        sum(own[number + 1 :]),
        _fraction(budget / total - least_cost, open_cost - least_cost),
        action,
      ],
      np.float32,
    )
    levels = choices.levels[number]
    wanted = min(max(act(state), 0.0), 1.0) * unit.size
    place = int(np.argmin([abs(level - wanted) for level in levels]))
    while place < last[number]:
      if choices.cost_at([*places, place, *last[number + 1 :]]) <= budget:
        break
      place += 1
    places.append(place)
    action = levels[place] / unit.size
    steps.append(Step(state, action))
  return choices.counts_at(places), steps


def _fraction(room: float, saves: float) -> float:
  """How much of what the rest could save may stay, in [0, 1]; all of it where it saves nothing."""
  return min(max(room / saves, 0.0), 1.0) if saves > _TINY else 1.0


class Search:
  """Episodes that an agent learns from."""

  def __init__(
    self,
    choices: Choices,
    budget: float,
    schedule: Schedule,
    constants: Constants,
    judge: Callable[[Mapping[str, int]], float],
    path: Path,
    seed: int,
    say: Callable[[str], None] = lambda text: None,
    save: Callable[[], None] = lambda: None,
  ) -> None:
    """Reads what was judged before.

    Args:
      choices: the table.
      budget: cost that may stay.
      schedule: how many episodes, and how they explore.
      constants: of the agent.
      judge: the reward of numbers of channels; the greater the better.
      path: of the episodes, one JSON object a line.
      seed: of the agent, its noise and its memory.
      say: prints a line to the user.
      save: keeps what the caller knows beside the episodes.
    """
    self._choices, self._budget, self._schedule = choices, budget, schedule
    self._judge, self._path, self._say, self._save = judge, path, say, save
    self._agent = Agent(NB_FEATURES, constants, seed)
    self._rng = np.random.default_rng([seed, 1])
    self._known = distributed.from_chief(lambda: read_records(path, Episode))
    self._rewards: dict[tuple, float] = {}
    self._began = time.perf_counter()

  def run(self) -> list[Episode]:
    """All episodes, in order."""
    found: list[Episode] = []
    for number in range(self._schedule.nb_episodes):
      counts, steps = distributed.broadcast_object(
        walk(self._choices, self._budget, self._actor(number))
      )
      found.append(self._judged(number, counts))
      self._learn(steps, found[-1].reward, learns=number >= self._schedule.nb_random)
      if (number + 1) % _NB_SAID == 0 or number + 1 == self._schedule.nb_episodes:
        self._report(found)
        self._save()
    return found

  def _actor(self, number: int) -> Callable[[np.ndarray], float]:
    schedule, rng = self._schedule, self._rng
    if number < schedule.nb_random:
      return lambda state: rng.random()
    sigma = schedule.noise * schedule.noise_decay ** (number - schedule.nb_random)
    if sigma <= 0:
      return self._agent.action

    def act(state: np.ndarray) -> float:
      mean = self._agent.action(state)
      low, high = -mean / sigma, (1 - mean) / sigma
      return float(truncnorm.rvs(low, high, mean, sigma, random_state=rng))

    return act

  def _learn(self, steps: Sequence[Step], reward: float, *, learns: bool) -> None:
    for number, step in enumerate(steps):
      last = number + 1 == len(steps)
      after = step.state if last else steps[number + 1].state
      self._agent.remember(step.state, step.action, reward, after, last)
    for _ in range(len(steps) if learns else 0):
      self._agent.update()

  def _judged(self, number: int, counts: dict[str, int]) -> Episode:
    if number < len(self._known) and self._known[number].counts == counts:
      episode = self._known[number]
    else:
      # Where this walk went another way, what follows in the file belongs to no walk of this one.
      cuts, keep = number < len(self._known), self._known[:number]
      key = tuple(counts.values())
      if key not in self._rewards:
        self._rewards[key] = distributed.broadcast_object(self._judge(counts))
      episode = Episode(number, counts, float(self._choices.cost(counts)), self._rewards[key])
      distributed.from_chief(
        lambda: (
          write_records(self._path, [*keep, episode])
          if cuts
          else append_record(self._path, episode)
        )
      )
      self._known = [*keep, episode]
    self._rewards[tuple(counts.values())] = episode.reward
    return episode

  def _report(self, found: Sequence[Episode]) -> None:
    best = max(episode.reward for episode in found)
    mean = float(np.mean([episode.reward for episode in found[-_NB_SAID:]]))
    spent = time.perf_counter() - self._began
    left = spent / len(found) * (self._schedule.nb_episodes - len(found))
    self._say(
      f'search  episode {len(found)}/{self._schedule.nb_episodes}  best reward {best:.4f}  mean of the '
      f'last {min(_NB_SAID, len(found))} {mean:.4f}  ETA {format_seconds(left)}'
    )


def best_episode(episodes: Sequence[Episode]) -> Episode:
  """That of the greatest reward; of equal ones the first."""
  return max(episodes, key=lambda episode: (episode.reward, -episode.number))
