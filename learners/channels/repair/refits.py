"""Layers that are refit one by one, each at any number of channels, while all others stay whole.

What a layer becomes then depends on nothing but sums over the original network's maps, so that any
number of candidates follows from one pass over some images.
"""

from __future__ import annotations

import collections
import functools
import threading
from collections.abc import Mapping, Sequence

import numpy as np
import tf_keras as keras

from secateurs.learners.channels.cuts.units import Unit
from secateurs.learners.channels.repair.choosing import choose_channels, scale_channels
from secateurs.learners.channels.repair.method import Method
from secateurs.learners.channels.repair.rows import refit_rows
from secateurs.utils.graph.flat.walk import flatten_model
from secateurs.utils.training import distributed
from secateurs.utils.training.layerwise.elimination import backward_order
from secateurs.utils.training.layerwise.linear import kernel_matrix, kernel_of, row_channels
from secateurs.utils.training.layerwise.readers import Reader
from secateurs.utils.training.layerwise.targets import find_target

Solution = list[tuple[np.ndarray, np.ndarray]]
"""Weights and shift of the outputs of each reader of a unit."""


class Solutions:
  """What was solved last, by unit and number of channels, within a number of bytes."""

  def __init__(self, room: int | None) -> None:
    """`room`: bytes; None: no limit."""
    self._room, self._used = room, 0
    self._found: collections.OrderedDict[tuple[str, int], Solution] = collections.OrderedDict()
    self._lock = threading.Lock()  # Candidates are judged at the same time.

  def get(self, key: tuple[str, int]) -> Solution | None:
    """What was put there, if it is still held."""
    with self._lock:
      if key in self._found:
        self._found.move_to_end(key)
      return self._found.get(key)

  def put(self, key: tuple[str, int], solution: Solution) -> None:
    """Holds a solution; those that were used longest ago go where they do not all fit."""
    with self._lock:
      if key in self._found:
        return
      self._found[key] = solution
      self._used += _nbytes(solution)
      while self._room is not None and self._used > self._room:
        self._used -= _nbytes(self._found.popitem(last=False)[1])


def _nbytes(solution: Solution) -> int:
  return sum(part.nbytes for parts in solution for part in parts)


class LayerRefits:
  """Weights of the layers that read some units, for any numbers of channels."""

  def __init__(
    self,
    original: keras.Model,
    units: Sequence[Unit],
    readers: Mapping[str, list[Reader]],
    method: Method,
  ) -> None:
    """`readers`: from `reconstruct.statistics`; without `method.refit` what stays is as it was."""
    self._units = {unit.name: unit for unit in units}
    self._readers, self._method = readers, method
    flat = flatten_model(original)
    self._targets = {n: find_target(flat, n) for unit in units for n in unit.readers}
    self._layers = flat.layers()
    self._solved: Solutions | None = None
    self._orders: dict[str, np.ndarray] = {}
    if method.selection == 'backward':
      for unit in units:
        given = readers[unit.name], unit.size, method.ridge
        order, _ = distributed.from_chief(functools.partial(backward_order, *given))
        self._orders[unit.name] = order

  def remember(self) -> None:
    """From now on holds what it has solved: for searches, which ask for the same again.

    As much as the method's store has room for, whose feature maps are no longer needed.
    """
    self._solved = self._solved or Solutions(self._method.store().room)

  def keep(self, unit: Unit, nb_keep: int) -> np.ndarray:
    """The channels that stay of a unit, bool array [unit.size]."""
    if self._method.selection == 'backward':
      order = self._orders[unit.name]
      return np.isin(np.arange(unit.size), order[unit.size - nb_keep :])
    return choose_channels(unit, self._readers[unit.name], nb_keep, self._method)

  def apply(self, layers: Mapping[str, keras.layers.Layer], counts: Mapping[str, int]) -> None:
    """Gives a network the original's weights, except for the layers that read units of `counts`.

    Args:
      layers: of a network of the original's structure, by name; those that read no unit, and the
        normalisation after them, are not touched.
      counts: channels that stay, by unit name; other units stay whole.
    """
    kernels = {name: kernel_matrix(self._layers[name]) for name in self._targets}
    shifts = {name: np.zeros(kernel.shape[1]) for name, kernel in kernels.items()}
    for unit_name, nb_keep in counts.items():
      unit = self._units[unit_name]
      for name, (weights, shift) in zip(unit.readers, self._solution(unit, nb_keep), strict=True):
        mine = unit.elements[name][row_channels(self._layers[name])] >= 0
        kernels[name][mine] = weights
        shifts[name] += shift
    for name, target in self._targets.items():
      layer, shift = layers[name], shifts[name]
      kernel_of(layer).assign(kernels[name].reshape(kernel_of(layer).shape))
      if layer.use_bias:
        layer.bias.assign(self._layers[name].bias + shift)
      elif target.norm is not None:
        layers[target.norm].moving_mean.assign(self._layers[target.norm].moving_mean - shift)

  def error(self, unit: Unit, nb_keep: int) -> float:
    """Mean squared error of what the unit's readers give, as a fraction of its variance.

    With an intercept where layers can shift and are refit, else as it is; of several readers the mean.
    """
    total = 0.0
    readers = self._readers[unit.name]
    for reader, (weights, _) in zip(readers, self._solution(unit, nb_keep), strict=True):
      error = reader.moments.error if self._method.refit else reader.moments.error_as_is
      total += float(error(weights) @ reader.scale**2) / reader.total
    return total / len(readers)

  def _solution(self, unit: Unit, nb_keep: int) -> Solution:
    key = unit.name, nb_keep
    found = None if self._solved is None else self._solved.get(key)
    if found is not None:
      return found
    if self._method.scales:
      scaled = scale_channels(unit, self._readers[unit.name], nb_keep, self._method)
      found = [(weights, np.zeros(weights.shape[1])) for weights in scaled]
    else:
      keep = self.keep(unit, nb_keep)
      found = [
        self._solve(reader, keep[reader.owner], self._layers[name].trainable)
        for name, reader in zip(unit.readers, self._readers[unit.name], strict=True)
      ]
    if self._solved is not None:
      self._solved.put(key, found)
    return found

  def _solve(
    self, reader: Reader, rows: np.ndarray, trainable: bool
  ) -> tuple[np.ndarray, np.ndarray]:
    moments, weights = reader.moments, reader.weights
    if not (self._method.refit and trainable):
      return np.where(rows[:, None], weights, 0.0), np.zeros(weights.shape[1])
    found = refit_rows(moments, rows, weights, reader.owner, reader.scale, self._method)
    return found, moments.shift(found)
