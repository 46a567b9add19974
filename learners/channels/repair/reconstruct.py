"""One sequential pass: layer by layer, choose input channels, then refit what is left."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, ParamSpec, TypeVar

import numpy as np
import tf_keras as keras
from threadpoolctl import threadpool_limits

from secateurs.learners.channels.cuts.units import Unit
from secateurs.learners.channels.repair.choosing import choose_channels, reader_of, scale_channels
from secateurs.learners.channels.repair.method import Method
from secateurs.learners.channels.repair.rows import assign
from secateurs.learners.run.console import say
from secateurs.utils import nested
from secateurs.utils.graph.flat.walk import FlatModel, flatten_model
from secateurs.utils.training import distributed, tally
from secateurs.utils.training.layerwise.features import Features
from secateurs.utils.training.layerwise.linear import (
  is_refittable,
  kernel_matrix,
  nb_inputs,
  nb_rows,
  row_channels,
)
from secateurs.utils.training.layerwise.readers import Reader
from secateurs.utils.training.layerwise.targets import find_target

_SMALL_MATRIX = 1024
P, R = ParamSpec('P'), TypeVar('R')


def _with_few_threads(function: Callable[P, R]) -> Callable[P, R]:
  """Runs on one BLAS thread where matrices are small: several would mostly wait for each other.

  The function's first and third argument are the network and the units.
  """

  @functools.wraps(function)
  def limited(original: keras.Model, pruned: keras.Model, units: Sequence[Unit], *args, **options):
    readers = {name for unit in units for name in unit.readers}
    layers = flatten_model(original).layers()
    rows = max((nb_rows(layers[name]) for name in readers), default=0)
    with threadpool_limits(1 if rows <= _SMALL_MATRIX else None):
      return function(original, pruned, units, *args, **options)

  return limited


@_with_few_threads
def prune(
  original: keras.Model,
  pruned: keras.Model,
  units: Sequence[Unit],
  counts: Mapping[str, int],
  batches: Sequence[np.ndarray],
  method: Method,
  *,
  dropped: Mapping[str, np.ndarray] | None = None,
  given: Mapping[str, np.ndarray] | None = None,
  leave: Collection[str] = (),
  mask: Callable[[Mapping[str, np.ndarray]], Collection[str]] | None = None,
  progress: Callable[[int, int, dict[str, Any]], None] | None = None,
) -> tuple[dict[str, np.ndarray], list[dict[str, Any]]]:
  """Masks channels of a network and refits the layers that read them, in order.

  Args:
    original: the network before, float32.
    pruned: a network of the same structure, which is changed: kernel rows of dropped channels
      become zero, the others are refit, with bias or the normalisation's mean as intercept.
    units: what to choose from.
    counts: for each unit's name how many channels stay.
    batches: images.
    method: how.
    dropped: bool arrays over input channels by layer name, for channels that an earlier pass
      dropped: they stay zero.
    given: choices that were made elsewhere, bool array [unit.size] by the name of every unit; then
      layers that cannot be refit are left as they are, and `counts` is not looked at.
    leave: names of layers that stay as they are.
    mask: masks what other layers of `pruned` read of dropped channels, given the choices, and returns
      the names of the layers that it changed.
    progress: called after each layer with its number, how many there are, and its record.

  Returns:
    (kept, records): bool array [unit.size] by unit name; and for each layer that was refit its
    name, kept channels, and error before and after, as fractions of its output's variance.
  """
  features = _features(original, pruned, batches, method)
  readers = _readers_in_order(features, units)
  if method.refit_all:
    readers = _all_after(features, readers)
  scaled: dict[str, list[np.ndarray]] = {}
  if given is None:
    kept, scaled = _joint_choices(original, pruned, units, counts, batches, method)
  else:
    kept, readers = dict(given), [name for name in readers if _can_refit(features.original, name)]
  if mask is not None:
    features.changed(mask(kept))
  readers = [name for name in readers if name not in leave]
  pending, records = set(readers), []
  for name in readers:
    target = find_target(features.original, name)
    compensate = not any(pending & features.layers_above(tensor) for tensor in target.others)
    moments = features.moments(target, compensate)
    layer = features.pruned.layers()[name]
    weights = kernel_matrix(layer)
    channels = np.ones(nb_inputs(layer), bool)
    if dropped and name in dropped:
      channels &= ~dropped[name]
    for unit in units:
      if name not in unit.readers:
        continue
      if unit.name not in kept:
        reader = reader_of(unit, name, layer, moments, features.scale(target))
        kept[unit.name] = choose_channels(unit, [reader], counts[unit.name], method)
        if method.scales:
          scaled[unit.name] = scale_channels(unit, [reader], counts[unit.name], method)
      if unit.name in scaled:
        mine = unit.elements[name][row_channels(layer)] >= 0
        weights[mine] = scaled[unit.name][unit.readers.index(name)]
      elements = unit.elements[name]
      channels &= (elements < 0) | kept[unit.name][elements]
    rows = channels[row_channels(layer)]
    record = assign(features, target, moments, weights, rows, method)
    record |= {'kept': int(channels.sum()), 'of': len(channels)}
    pending.discard(name)
    records.append(record)
    if progress is not None:
      progress(len(records), len(readers), record)
  return kept, records


@_with_few_threads
def statistics(
  original: keras.Model,
  pruned: keras.Model,
  units: Sequence[Unit],
  batches: Sequence[np.ndarray],
  method: Method,
) -> dict[str, list[Reader]]:
  """What each unit's choice depends on, by its name, while nothing more is pruned.

  Of all layers at once, so that the memory is that of all their normal equations.
  """
  features = _features(original, pruned, batches, method)
  found: dict[str, dict[str, Reader]] = {unit.name: {} for unit in units}
  for name in _readers_in_order(features, units):
    target = find_target(features.original, name)
    moments, layer = features.moments(target, False), features.pruned.layers()[name]
    for unit in units:
      if name in unit.readers:
        reader = reader_of(unit, name, layer, moments, features.scale(target))
        found[unit.name][name] = reader
  return {unit.name: [found[unit.name][name] for name in unit.readers] for unit in units}


def _features(
  original: keras.Model, pruned: keras.Model, batches: Sequence[np.ndarray], method: Method
) -> Features:
  features = Features(
    original,
    pruned,
    batches,
    seed=method.seed,
    nb_points=method.nb_points,
    store=method.store(),
  )
  nb_networks = 2  # The original and the pruned one see each image.
  tally.scored(nb_networks * sum(map(nested.size, batches)) * distributed.size())
  before, now = features.original.layers(), features.pruned.layers()
  features.changed(
    [
      name
      for name in now
      if any(
        (a.numpy() != b.numpy()).any() for a, b in zip(before[name].weights, now[name].weights)
      )
    ]
  )
  return features


def _readers_in_order(features: Features, units: Sequence[Unit]) -> list[str]:
  wanted = {name for unit in units for name in unit.readers}
  return [name for name in features.original.layers() if name in wanted]


def _all_after(features: Features, readers: list[str]) -> list[str]:
  """The readers, and every other layer that can be refit and sees something that they changed."""
  flat = features.original
  calls = flat.calls_by_layer()
  changed = {calls[name][0].outputs[0] for name in readers}
  found = []
  for call in flat.calls:
    if call.name in readers:
      found.append(call.name)
    elif changed.intersection(call.inputs):
      changed |= set(call.outputs)
      if _can_refit(flat, call.name):
        found.append(call.name)
  return found


def _can_refit(flat: FlatModel, name: str) -> bool:
  calls = flat.calls_by_layer()[name]
  return len(calls) == 1 and is_refittable(calls[0].layer, len(flat.shapes[calls[0].inputs[0]]))


def _joint_choices(
  original: keras.Model,
  pruned: keras.Model,
  units: Sequence[Unit],
  counts: Mapping[str, int],
  batches: Sequence[np.ndarray],
  method: Method,
) -> tuple[dict[str, np.ndarray], dict[str, list[np.ndarray]]]:
  """Choices for channels that several layers read, before any of these layers changes.

  Returns:
    (kept, scaled): by unit name the choice, and where the method scales them the readers' weights.
  """
  joint = [unit for unit in units if len(unit.readers) > 1 or unit.attentions]
  if not joint:
    return {}, {}
  found = statistics(original, pruned, joint, batches, method)
  given = [(unit, found[unit.name], counts[unit.name], method) for unit in joint]
  kept = {one[0].name: choose_channels(*one) for one in given}
  return kept, {one[0].name: scale_channels(*one) for one in given} if method.scales else {}


def say_layer(number: int, total: int, record: dict[str, Any]) -> None:
  """Prints the record of a layer that was pruned and refit."""
  after = record.get('error_after')
  refit = '' if after is None else f', {100 * after:.1f} % after the refit'
  say(
    f'prune  layer {number}/{total}  {record["name"]}: {record["kept"]} of {record["of"]} input '
    f'channels, output error {100 * record["error_before"]:.1f} %{refit}'
  )
