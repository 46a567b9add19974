"""Search of per-layer preserve ratios under a budget of MACs.

Every layer's loss at every number of channels is known from one pass over the original network
(backward elimination gives the whole curve at once). Given a factor for each layer's loss, channels go
in the order of loss per MAC until the budget is met, and as many as still fit are put back: so each
candidate has at most the budget's MACs, and no channel more fits. The factors are what is searched, see
`trials`.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

import numpy as np
import tf_keras as keras

from secateurs.learners.channel_pass import Method, choose_channels, scarcity
from secateurs.learners.channel_units import Unit, macs_form
from secateurs.learners.judging import Judge
from secateurs.learners.reconstruction import find_target, kernel_matrix, row_channels
from secateurs.learners.trials import Candidate
from secateurs.utils.graph import ChannelGraph
from secateurs.utils.graph.walk import flatten_model
from secateurs.utils.training import distributed
from secateurs.utils.training.channel_choice import Reader
from secateurs.utils.training.elimination import backward_order
from secateurs.utils.training.least_squares import refit


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
    self._sizes = np.array([unit.size for unit in units])
    self._macs_without = macs_form(graph, units)
    none = np.zeros(len(units), int)
    total = self._macs_without(none)
    self.rises = []
    for i, unit in enumerate(units):
      cost = max(total - self._macs_without(none + (np.arange(len(units)) == i)), 1)
      values = losses[unit.name][unit.size - np.array(self.levels[i])]
      channels = -np.diff(self.levels[i])
      self.rises.append(np.maximum.accumulate(np.diff(values) / (channels * cost)))

  def macs(self, places: Sequence[int]) -> int:
    """MACs when unit i stands at level `places[i]`."""
    counts = [levels[place] for levels, place in zip(self.levels, places, strict=True)]
    return self._macs_without(self._sizes - counts)

  def least(self) -> int:
    """MACs when every unit stands at its lowest level."""
    return self.macs([len(levels) - 1 for levels in self.levels])

  def within(self, budget: float, factors: Sequence[float]) -> dict[str, int]:
    """The numbers of channels, by unit name, that go by loss per MAC until the budget is met.

    Raises:
      ValueError: not even the lowest levels meet it.
    """
    keys = np.concatenate([rises * f for rises, f in zip(self.rises, factors, strict=True)])
    owners = np.repeat(np.arange(len(self.units)), [len(rises) for rises in self.rises])
    return self._first(budget, owners[np.argsort(keys, kind='stable')])

  def candidate(self, budget: float, factors: Mapping[str, float]) -> Candidate:
    """What `within` gives for factors by unit name; without factors, what `equal` gives."""
    counts = (
      self.within(budget, [factors[unit.name] for unit in self.units])
      if factors
      else self.equal(budget)
    )
    gone = [unit.size - counts[unit.name] for unit in self.units]
    return Candidate(counts, self._macs_without(gone))

  def equal(self, budget: float) -> dict[str, int]:
    """The numbers of channels when all units keep the same share, as far as that is possible."""
    shares = np.concatenate([np.array(kept[1:]) / kept[0] for kept in self.levels])
    owners = np.repeat(np.arange(len(self.units)), [len(kept) - 1 for kept in self.levels])
    return self._first(budget, owners[np.argsort(-shares, kind='stable')])

  def _first(self, budget: float, order: np.ndarray) -> dict[str, int]:
    """Takes steps in this order until the budget is met, then takes back what still fits."""
    if self.least() > budget:
      raise ValueError(f'At least {self.least()} MACs stay, but {budget} were asked for.')

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
    full = np.zeros(len(self.units), bool)  # What does not fit now does not later either.
    for unit in order[:low][::-1]:
      if full[unit]:
        continue
      found[unit] -= 1
      if self.macs(found) > budget:
        found[unit] += 1
        full[unit] = True
    return {
      unit.name: kept[place]
      for unit, kept, place in zip(self.units, self.levels, found, strict=True)
    }


def levels(size: int, step: int) -> list[int]:
  """Numbers of channels that may stay, falling: all, then multiples of `step`, at least one."""
  return [size, *(n for n in range(size - 1, 0, -1) if n % step == 0)]


class Reward:
  """Accuracy of candidates on some images, behind a closed-form refit of each layer by itself.

  Without `method.refit` the weights that stay are left as they are.
  """

  def __init__(
    self,
    original: keras.Model,
    working: keras.Model,
    units: Sequence[Unit],
    readers: Mapping[str, list[Reader]],
    method: Method,
    judge: Judge,
  ) -> None:
    """`working`: a network of the same structure, whose weights are changed; `judge` judges it."""
    self._units, self._readers, self._method = list(units), readers, method
    flat = flatten_model(original)
    self._targets = {n: find_target(flat, n) for unit in units for n in unit.readers}
    self._layers = flat.layers()
    self._weights = original.get_weights()
    self._working, self._twins = working, flatten_model(working).layers()
    self._judge = judge
    self._solved: dict[tuple[str, int], list[tuple[np.ndarray, np.ndarray]]] = {}
    self._orders: dict[str, np.ndarray] = {}
    self.losses: dict[str, np.ndarray] = {}
    for unit in units:
      given = readers[unit.name], unit.size, method.ridge
      order, losses = distributed.from_chief(functools.partial(backward_order, *given))
      self._orders[unit.name], self.losses[unit.name] = order, losses

  def keep(self, unit: Unit, nb_keep: int) -> np.ndarray:
    """The channels that stay of a unit, bool array [unit.size]."""
    if self._method.selection == 'backward':
      order = self._orders[unit.name]
      return np.isin(np.arange(unit.size), order[unit.size - nb_keep :])
    return choose_channels(unit, self._readers[unit.name], nb_keep, self._method)

  def __call__(self, counts: Mapping[str, int]) -> float:
    """Accuracy in [0, 1]."""
    self._working.set_weights(self._weights)
    kernels = {n: kernel_matrix(self._layers[n]) for n in self._targets}
    shifts = {n: np.zeros(kernel.shape[1]) for n, kernel in kernels.items()}
    for unit in self._units:
      solved = self._refit(unit, counts[unit.name])
      for name, (weights, shift) in zip(unit.readers, solved, strict=True):
        mine = unit.elements[name][row_channels(self._layers[name])] >= 0
        kernels[name][mine] = weights
        shifts[name] += shift
    for name, target in self._targets.items():
      layer = self._twins[name]
      layer.kernel.assign(kernels[name].reshape(layer.kernel.shape))
      if layer.use_bias:
        layer.bias.assign_add(shifts[name])
      elif target.norm is not None:
        self._twins[target.norm].moving_mean.assign_sub(shifts[name])
    return self._judge.accuracy()

  def _refit(self, unit: Unit, nb_keep: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Weights and shift of the outputs of each reader."""
    key = unit.name, nb_keep
    if key not in self._solved:
      keep = self.keep(unit, nb_keep)
      self._solved[key] = [self._solution(r, keep[r.owner]) for r in self._readers[unit.name]]
    return self._solved[key]

  def _solution(self, reader: Reader, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    moments, weights = reader.moments, reader.weights
    if not self._method.refit:
      return np.where(rows[:, None], weights, 0.0), np.zeros(weights.shape[1])
    found = refit(moments, rows, self._method.ridge + scarcity(moments), weights)
    return found, moments.shift(found)
