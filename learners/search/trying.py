"""One try of the search: choose what goes, build the network, and judge it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from secateurs.learners.run.training.judging import widened
from secateurs.learners.search.building import bits_after
from secateurs.learners.search.choosing import Choice, choose, loss_of, most_saved
from secateurs.learners.search.confidence import Drop, nb_parts, paired_drop
from secateurs.learners.search.files import Costs
from secateurs.learners.search.scene import Scene
from secateurs.learners.search.state import Taken
from secateurs.utils import nested
from secateurs.utils.training.tasks.evaluation import evaluate_function
from secateurs.utils.training.tasks.scores import Score
from secateurs.utils.training.tasks.task import Task

_MAX_ROUNDS = 8
_TOLERANCE = 0.02
_LESS = 0.8  # Of a need that no choice meets.
_MORE = 0.005  # Of the cost: what is needed beside, where the same choice still costs too much.
_TIMING = 0.01  # Latencies of one file differ by so much between measurements.


@dataclasses.dataclass(frozen=True)
class Judged:
  """Scores of a network on the held-out samples.

  Attributes:
    score: on all of them.
    parts: goodness by part of them, higher is better.
    nb_samples: of all parts.
  """

  score: Score
  parts: list[float]
  nb_samples: int


class Judge:
  """Judges what files give on held-out samples, part by part."""

  def __init__(self, inputs: Any, targets: Any, task: Task) -> None:
    """`inputs` and `targets` [n, ...]; samples that would make parts uneven are left out."""
    self.number = nb_parts(nested.size(inputs))
    self.size = nested.size(inputs) // self.number
    self._inputs, self._targets, self._task = inputs, targets, task

  @property
  def nb_samples(self) -> int:
    """Samples that count."""
    return self.number * self.size

  def __call__(self, predict: Callable[[Any], Any]) -> Judged:
    """Scores of what a function gives."""
    pairs = []
    for part in range(self.number):
      place = slice(part * self.size, (part + 1) * self.size)
      outputs = predict(widened(nested.rows(self._inputs, place)))
      pairs.append((outputs, nested.rows(self._targets, place)))
    whole = evaluate_function(lambda outputs: outputs, pairs, self._task).score
    each = [evaluate_function(lambda o: o, [pair], self._task).score.goodness for pair in pairs]
    return Judged(whole, each, self.nb_samples)


def drop_of(reference: Sequence[float], judged: Judged, nb_looks: int = 1) -> Drop:
  """By how much a network is worse than the reference, for one of so many looks."""
  return paired_drop(reference, judged.parts, judged.nb_samples, nb_looks)


def choose_step(
  scene: Scene, choices: Sequence[Choice], costs: Costs, now: float, target: float
) -> tuple[list[Taken], float]:
  """What goes for a network to cost at most `target`, and what it costs before any repair.

  Savings are those of parts alone: where the network that a choice leads to costs too much, or much
  less than it may, the choice is made again for a need that is corrected by as much.

  Args:
    scene: the network before.
    choices: its parts.
    costs: measure a network.
    now: what it costs.
    target: what it may cost.

  Returns:
    (taken, cost): of the cheapest loss that meets the target (a latency to one per cent), else the
    least cost that was reached.
  """
  held = choices[0].held if choices else None
  need, tried = now - target, {}
  most = now if held is not None else most_saved(choices)
  for _ in range(_MAX_ROUNDS):
    if held is None:
      picked = choose(choices, min(need, most * (1 - 1e-9)))
    else:
      picked, need = _choose_memory(choices, held, need, now)
    if picked is None:
      break
    key = tuple(sorted(picked.items()))
    again = key in tried
    if not again:
      taken = taken_of(choices, picked)
      cost = costs.of(scene.rough(taken), bits_after(scene.bits, taken))
      tried[key] = taken, cost, loss_of(choices, picked)
    cost = tried[key][1]
    if cost <= target and (again or cost >= target - _TOLERANCE * now):
      break
    if need >= most and cost > target:
      break
    if again:
      need = min(need + _MORE * now, most)
      continue
    saved = max(now - cost, 1e-9 * max(now, 1e-30))
    need = min(need * min(max((now - target) / saved, 0.5), 3.0), most)
  if not tried:
    return [], now
  enough = target * (1 + _TIMING) if costs.cost == 'latency' else target
  meets = [one for one in tried.values() if one[1] <= enough]
  best = min(meets, key=lambda one: one[2]) if meets else min(tried.values(), key=lambda o: o[1])
  return best[0], best[1]


def _choose_memory(
  choices: Sequence[Choice], held: np.ndarray, need: float, now: float
) -> tuple[dict[str, int] | None, float]:
  """A choice with which no operator holds more than what stays, and the need that could be met.

  Args:
    choices: the parts.
    held: bytes at each operator of the float file.
    need: what is to be saved of the peak, in the unit of `now`.
    now: peak of the file.
  """
  for _ in range(_MAX_ROUNDS):
    picked = choose(choices, held - held.max() * (1 - need / now))
    if picked is not None or need <= 0:
      return picked, need
    need *= _LESS
  return None, need


def taken_of(choices: Sequence[Choice], picked: dict[str, int]) -> list[Taken]:
  """What a choice takes, part by part."""
  return [
    Taken(one.name, one.kind, one.levels[0], one.levels[place], float(one.losses[place]))
    for one in choices
    if (place := picked[one.name])
  ]
