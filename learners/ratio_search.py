"""Search of per-layer preserve ratios under a budget of MACs.

Every layer's loss at every number of channels is known from one pass over the original network
(backward elimination gives the whole curve at once). Given a factor for each layer's loss, channels go
in the order of loss per MAC until the budget is met, and as many as still fit are put back: so each
candidate has at most the budget's MACs, and no channel more fits. The factors are what is searched (by
Optuna's TPE); factors of one are the first trial, equal ratios the second.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

from secateurs.learners.channel_pass import Method, scarcity
from secateurs.learners.channel_units import Unit, macs_of
from secateurs.learners.reconstruction import find_target, kernel_matrix, row_channels
from secateurs.utils.errors import UserError
from secateurs.utils.graph import ChannelGraph
from secateurs.utils.graph.walk import flatten_model
from secateurs.utils.training import distributed
from secateurs.utils.training.channel_choice import Reader, backward_order, choose
from secateurs.utils.training.least_squares import refit
from secateurs.utils.training.progress import format_seconds

_LOWEST, _HIGHEST = 0.4, 2.5
_REWARD_BATCH = 250


@dataclasses.dataclass(frozen=True)
class Trial:
  """A candidate.

  Attributes:
    number: counts up from zero.
    factors: by unit name; empty for equal ratios.
    counts: channels kept, by unit name.
    macs: of the whole network.
    reward: accuracy, in [0, 1].
  """

  number: int
  factors: dict[str, float]
  counts: dict[str, int]
  macs: int
  reward: float


class Allocation:
  """Numbers of channels that meet a budget."""

  def __init__(
    self,
    graph: ChannelGraph,
    units: Sequence[Unit],
    losses: Mapping[str, np.ndarray],
    step: int = 1,
  ) -> None:
    """`losses`: by unit name, [size + 1], after so many channels have gone; `step`: widths."""
    self.graph, self.units = graph, list(units)
    self.levels = [levels(unit.size, step) for unit in units]
    full = [unit.size for unit in units]
    total = macs_of(graph, units, full)
    self.rises = []
    for i, unit in enumerate(units):
      less = [size - (j == i) for j, size in enumerate(full)]
      cost = max(total - macs_of(graph, units, less), 1)
      values = losses[unit.name][unit.size - np.array(self.levels[i])]
      channels = -np.diff(self.levels[i])
      self.rises.append(np.maximum.accumulate(np.diff(values) / (channels * cost)))

  def macs(self, places: Sequence[int]) -> int:
    """MACs when unit i stands at level `places[i]`."""
    counts = [levels[place] for levels, place in zip(self.levels, places, strict=True)]
    return macs_of(self.graph, self.units, counts)

  def least(self) -> int:
    """MACs when every unit stands at its lowest level."""
    return self.macs([len(levels) - 1 for levels in self.levels])

  def within(self, budget: float, factors: Sequence[float]) -> dict[str, int]:
    """The numbers of channels, by unit name, that go by loss per MAC until the budget is met.

    Raises:
      UserError: not even the lowest levels meet it.
    """
    keys = np.concatenate([rises * f for rises, f in zip(self.rises, factors, strict=True)])
    owners = np.repeat(np.arange(len(self.units)), [len(rises) for rises in self.rises])
    return self._first(budget, owners[np.argsort(keys, kind='stable')])

  def equal(self, budget: float) -> dict[str, int]:
    """The numbers of channels when all units keep the same share, as far as that is possible."""
    shares = np.concatenate([np.array(kept[1:]) / kept[0] for kept in self.levels])
    owners = np.repeat(np.arange(len(self.units)), [len(kept) - 1 for kept in self.levels])
    return self._first(budget, owners[np.argsort(-shares, kind='stable')])

  def _first(self, budget: float, order: np.ndarray) -> dict[str, int]:
    """Takes steps in this order until the budget is met, then takes back what still fits."""
    least = self.least()
    if least > budget:
      total = self.graph.counts().macs
      raise UserError(
        f'--cp_preserve_ratio asks for {budget / total:.4f} of the MACs, but at least '
        f'{least / total:.4f} stay whatever is pruned: raise it, or prune more with --cp_trunk.'
      )

    def places(number: int) -> np.ndarray:
      return np.bincount(order[:number], minlength=len(self.units))

    low, high = 0, len(order)
    while low < high:
      middle = (low + high) // 2
      if self.macs(places(middle)) <= budget:
        high = middle
      else:
        low = middle + 1
    found = places(low)
    for unit in order[:low][::-1]:
      found[unit] -= 1
      if self.macs(found) > budget:
        found[unit] += 1
    return {
      unit.name: kept[place]
      for unit, kept, place in zip(self.units, self.levels, found, strict=True)
    }


def levels(size: int, step: int) -> list[int]:
  """Numbers of channels that may stay, falling: all, then multiples of `step`, at least one."""
  return [size, *(n for n in range(size - 1, 0, -1) if n % step == 0)]


class Reward:
  """Accuracy of candidates on some images, behind a closed-form refit of each layer by itself."""

  def __init__(
    self,
    original: keras.Model,
    working: keras.Model,
    units: Sequence[Unit],
    readers: Mapping[str, list[Reader]],
    method: Method,
    images: np.ndarray,
    labels: np.ndarray,
  ) -> None:
    """`working`: a network of the same structure, whose weights are changed at will."""
    self._units, self._readers, self._method = list(units), readers, method
    flat = flatten_model(original)
    self._targets = {n: find_target(flat, n) for unit in units for n in unit.readers}
    self._layers = flat.layers()
    self._weights = original.get_weights()
    self._working, self._twins = working, flatten_model(working).layers()
    self._images = tf.constant(images)
    self._labels = np.asarray(labels)
    self._predict = tf.function(lambda batch: tf.argmax(working(batch, training=False), -1))
    self._solved: dict[tuple[str, int], list[np.ndarray]] = {}
    self._orders: dict[str, np.ndarray] = {}
    self.losses: dict[str, np.ndarray] = {}
    for unit in units:
      order, losses = backward_order(readers[unit.name], unit.size, method.ridge)
      self._orders[unit.name], self.losses[unit.name] = order, losses

  def keep(self, unit: Unit, nb_keep: int) -> np.ndarray:
    """The channels that stay of a unit."""
    if self._method.selection == 'backward':
      order = self._orders[unit.name]
      return np.isin(np.arange(unit.size), order[unit.size - nb_keep :])
    rng = np.random.default_rng(self._method.seed)
    return choose(
      self._readers[unit.name],
      unit.size,
      nb_keep,
      self._method.selection,
      ridge=self._method.ridge,
      rng=rng,
    )

  def __call__(self, counts: Mapping[str, int]) -> float:
    """Accuracy in [0, 1]."""
    self._working.set_weights(self._weights)
    kernels = {n: kernel_matrix(self._layers[n]) for n in self._targets}
    shifts = {n: np.zeros(kernel.shape[1]) for n, kernel in kernels.items()}
    for unit in self._units:
      solved = self._refit(unit, counts[unit.name])
      for name, reader, weights in zip(unit.readers, self._readers[unit.name], solved, strict=True):
        mine = unit.elements[name][row_channels(self._layers[name])] >= 0
        kernels[name][mine] = weights
        shifts[name] += reader.moments.shift(weights)
    for name, target in self._targets.items():
      layer = self._twins[name]
      layer.kernel.assign(kernels[name].reshape(layer.kernel.shape))
      if layer.use_bias:
        layer.bias.assign_add(shifts[name])
      elif target.norm is not None:
        self._twins[target.norm].moving_mean.assign_sub(shifts[name])
    return self.accuracy()

  def accuracy(self) -> float:
    """Accuracy in [0, 1] of the working network as it is."""
    index, nb_ranks = distributed.shard()
    nb_right = 0
    for i in range(index * _REWARD_BATCH, len(self._images), nb_ranks * _REWARD_BATCH):
      found = self._predict(self._images[i : i + _REWARD_BATCH]).numpy()
      nb_right += int(np.sum(found == self._labels[i : i + _REWARD_BATCH]))
    return float(distributed.sum(nb_right)) / len(self._labels)

  def _refit(self, unit: Unit, nb_keep: int) -> list[np.ndarray]:
    key = unit.name, nb_keep
    if key not in self._solved:
      keep = self.keep(unit, nb_keep)
      self._solved[key] = [
        refit(r.moments, keep[r.owner], self._method.ridge + scarcity(r.moments), r.weights)
        for r in self._readers[unit.name]
      ]
    return self._solved[key]


def search(
  allocation: Allocation,
  reward: Callable[[Mapping[str, int]], float],
  budget: float,
  path: Path,
  *,
  nb_trials: int,
  nb_random: int,
  seed: int,
  say: Callable[[str], None],
) -> list[Trial]:
  """Tries candidates and keeps each on disk; goes on where an earlier search was stopped.

  The sampler is made anew for every trial from the seed and the trial's number, so that a search that
  was stopped ends like one that was not.

  Args:
    allocation: from factors to numbers of channels.
    reward: of numbers of channels by unit name.
    budget: MACs.
    path: a file of one JSON object a line.
    nb_trials: how many in all.
    nb_random: how many of them are drawn without looking at the others.
    seed: of the sampler.
    say: tells the user.

  Returns:
    All trials, in order.

  Raises:
    UserError: Optuna is not installed, or the budget is out of reach.
  """
  try:
    import optuna
  except ImportError as error:
    raise UserError(
      '--cp_prune_option auto needs Optuna: pip install optuna (or this package with its extra, '
      'secateurs[search]).'
    ) from error
  optuna.logging.set_verbosity(optuna.logging.ERROR)
  names = [unit.name for unit in allocation.units]
  kind = optuna.distributions.FloatDistribution(_LOWEST, _HIGHEST, log=True)
  distributions = dict.fromkeys(names, kind)
  trials = distributed.from_chief(lambda: read_trials(path))

  def ask(number: int) -> dict[str, float]:
    """Factors that a new study, which knows all trials before, suggests."""
    sampler = optuna.samplers.TPESampler(
      seed=(seed * 1_000_003 + number) % (1 << 31), n_startup_trials=nb_random, multivariate=True
    )
    study = optuna.create_study(direction='maximize', sampler=sampler)
    study.add_trials(
      [
        optuna.trial.create_trial(params=t.factors, distributions=distributions, value=t.reward)
        for t in trials
        if t.factors
      ]
    )
    return {name: float(value) for name, value in study.ask(distributions).params.items()}

  began, first = time.perf_counter(), len(trials)
  for number in range(len(trials), nb_trials):
    factors: dict[str, float] = {}
    if number == 0:
      factors = dict.fromkeys(names, 1.0)
    elif number > 1:
      factors = ask(number)
    if factors:
      counts = allocation.within(budget, [factors[name] for name in names])
    else:
      counts = allocation.equal(budget)
    counts = distributed.broadcast_object(counts)
    macs = macs_of(allocation.graph, allocation.units, [counts[name] for name in names])
    trial = distributed.broadcast_object(Trial(number, factors, counts, macs, reward(counts)))
    if distributed.is_chief():
      with path.open('a', encoding='utf-8') as file:
        file.write(json.dumps(dataclasses.asdict(trial)) + '\n')
    trials.append(trial)
    if number < 2 or (number + 1) % 20 == 0:
      left = (time.perf_counter() - began) / (number + 1 - first) * (nb_trials - number - 1)
      best = max(t.reward for t in trials)
      say(
        f'search  trial {number + 1}/{nb_trials}  accuracy {100 * trial.reward:.2f} %  best '
        f'{100 * best:.2f} %  ETA {format_seconds(left)}'
      )
  return trials


def read_trials(path: Path) -> list[Trial]:
  """The trials of a file; a last line that was not finished is cut off."""
  if not path.is_file():
    return []
  trials: list[Trial] = []
  whole = []
  for line in path.read_text(encoding='utf-8').splitlines():
    try:
      values: dict[str, Any] = json.loads(line)
    except ValueError:
      break
    trials.append(Trial(**values))
    whole.append(line + '\n')
  path.write_text(''.join(whole), encoding='utf-8')
  return trials


def best_candidates(trials: Sequence[Trial], number: int) -> list[Trial]:
  """The trials of the greatest rewards with different numbers of channels."""
  found: dict[str, Trial] = {}
  for trial in sorted(trials, key=lambda t: (-t.reward, t.number)):
    found.setdefault(json.dumps(trial.counts), trial)
  return list(found.values())[:number]
