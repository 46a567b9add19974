"""Parts of a split that stay equally wide.

TensorFlow Lite has a fast operator for equal parts; unequal ones take another, which XNNPACK does not
run, so that the network falls into more pieces and can get slower than it was.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp

from secateurs.learners.channels.cuts.cutting import plan_of, unit_masks
from secateurs.learners.channels.cuts.units import Unit
from secateurs.utils.graph import ChannelGraph

# Channels of a unit that may go, or stay, beyond those that were to: a fraction, and at least some.
_FURTHER_SHARE, _FURTHER = 1 / 8, 3
_SECONDS = 20.0
_EXCESS = 3.0  # What a channel costs that was to go and stays; keeping one is worth at most 2.

Masks = Mapping[str, np.ndarray]


def equal_splits(graph: ChannelGraph) -> list[list[np.ndarray]]:
  """For each split into equal parts along channels the atoms of each part."""
  found = []
  for trace in graph.traced.traces:
    parts = [out.labels for out in trace.outs]
    symbol = getattr(trace.call.layer, 'symbol', None) or ''
    whole = len(trace.ins[0].labels) if trace.ins else 0
    equal = len({len(part) for part in parts}) == 1 and len(parts[0]) * len(parts) == whole
    if symbol.split('.')[-1] == 'split' and len(parts) > 1 and equal:
      found.append(parts)
  return found


def evened(
  graph: ChannelGraph, units: Sequence[Unit], masks: Masks, keys: Masks
) -> dict[str, np.ndarray]:
  """A choice in which all parts of each split that was into equal parts are equally wide again.

  Of all choices with as many channels of each unit as were chosen, or up to an eighth of all (three
  of a narrow unit) fewer, that which keeps most of what was chosen, and then the highest ranks. Where
  there is none, as many more may stay of a unit that is cut: channels that shuffles tie go several at
  a time. Where there is none of these either, the choice stays as it is (see `split_notes`).

  Args:
    graph: the channel graph.
    units: what was chosen from.
    masks: bool array [unit.size] by the name of every unit: the channels that stay.
    keys: [unit.size] by the name of each unit that may still change; the highest stay, those of -inf
      have gone, those of inf must stay.
  """
  if not uneven(graph, units, masks):
    return dict(masks)

  def more(unit: Unit) -> int:
    gone = int((~masks[unit.name]).sum())
    return min(further(unit), max(gone - 1, 0))

  found = nearest_even(graph, units, masks, keys, fewer=further)
  if found is None:
    found = nearest_even(graph, units, masks, keys, fewer=further, more=more)
  return dict(masks) if found is None else found


def further(unit: Unit) -> int:
  """How many channels of a unit `evened` may drop, or keep, beyond what was chosen."""
  return max(int(_FURTHER_SHARE * unit.size), _FURTHER)


def nearest_even(
  graph: ChannelGraph,
  units: Sequence[Unit],
  masks: Masks,
  keys: Masks,
  *,
  fewer: Callable[[Unit], int],
  more: Callable[[Unit], int] = lambda unit: 0,
  worth: Mapping[str, float] = MappingProxyType({}),
) -> dict[str, np.ndarray] | None:
  """The choice nearest to one that makes the parts of all splits equally wide: an integer program.

  Args:
    graph: the channel graph.
    units: see `evened`.
    masks: see `evened`.
    keys: see `evened`.
    fewer: how many channels of a unit may go beyond those that were to.
    more: how many may stay of those that were to go.
    worth: what a channel of a unit counts against those of others, by unit name; default: 1.

  Returns:
    Bool array [unit.size] by the name of every unit; None if there is no such choice.
  """
  free = touched(graph, [unit for unit in units if unit.name in keys])
  if not free:
    return None
  alive = plan_of(graph, units, [masks[unit.name] for unit in units]).alive
  limits = [_limits(unit, int(masks[unit.name].sum()), fewer, more) for unit in free]
  gains = [worth.get(unit.name, 1.0) * _gains(keys[unit.name], masks[unit.name]) for unit in free]
  every = np.concatenate([keys[unit.name] for unit in free])
  found = _solved(graph, free, alive, limits, np.concatenate(gains), every)
  if found is None:
    return None
  ends = np.cumsum([unit.size for unit in free])[:-1]
  return {**masks, **dict(zip((u.name for u in free), np.split(found, ends), strict=True))}


def touched(graph: ChannelGraph, units: Sequence[Unit]) -> list[Unit]:
  """Those units of which channels lie in a split into equal parts."""
  inside = np.zeros(len(graph.traced.why), bool)
  for parts in equal_splits(graph):
    inside[np.concatenate(parts)] = True
  return [
    unit
    for unit in units
    if isinstance(unit.key, int) and inside[graph.groups[unit.key].roots].any()
  ]


def uneven(graph: ChannelGraph, units: Sequence[Unit], masks: Masks) -> list[list[np.ndarray]]:
  """Those of `equal_splits` whose parts a choice makes unequally wide; `masks` are as of `evened`."""
  splits = equal_splits(graph)
  if not splits:
    return []
  alive = plan_of(graph, units, [masks[unit.name] for unit in units]).alive
  return [parts for parts in splits if len({int(alive[part].sum()) for part in parts}) > 1]


def evened_choice(
  graph: ChannelGraph,
  units: Sequence[Unit],
  kept: Mapping[str, Sequence[int]],
  chosen: Mapping[str, np.ndarray],
  keys: Mapping[str, np.ndarray],
) -> dict[str, np.ndarray]:
  """As `evened`, for a choice in some of the units, which alone may change.

  Args:
    graph: the channel graph.
    units: all of the network.
    kept: channels that stay of units that were chosen before, by name; the others are whole.
    chosen: bool array [unit.size] by the name of each unit that is chosen now.
    keys: see `evened`.
  """
  masks = joined(units, kept, chosen)
  found = evened(graph, units, masks, {name: keys[name] for name in chosen})
  return {name: found[name] for name in chosen}


def joined(
  units: Sequence[Unit], kept: Mapping[str, Sequence[int]], chosen: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
  """Masks, bool [unit.size], of all units: chosen before (lists) and now (masks); others are whole."""
  whole = {unit.name: np.ones(unit.size, bool) for unit in units}
  return whole | unit_masks(units, kept) | dict(chosen)


def even_masks(
  graph: ChannelGraph, units: Sequence[Unit], masks: Sequence[np.ndarray], *, even: bool
) -> list[np.ndarray]:
  """Masks of a network of which only the structure matters: if asked for, with equal parts."""
  if not even:
    return list(masks)
  given = {unit.name: mask for unit, mask in zip(units, masks, strict=True)}
  found = evened(graph, units, given, plain_keys(graph, units, given))
  return [found[unit.name] for unit in units]


def plain_keys(graph: ChannelGraph, units: Sequence[Unit], masks: Masks) -> dict[str, np.ndarray]:
  """Keys for `evened` where it does not matter which channels stay, but protected ones must."""
  keys = {unit.name: masks[unit.name].astype(float) for unit in units}
  for unit in units:
    if isinstance(unit.key, int):
      keys[unit.name][~graph.groups[unit.key].free] = np.inf
  return keys


def _limits(
  unit: Unit, stays: int, fewer: Callable[[Unit], int], more: Callable[[Unit], int]
) -> tuple[int, int, int]:
  """Of a unit's channels the least that stay, those that were to stay, and the most."""
  least = min(unit.rule.count(unit.size, max(stays - fewer(unit), 1)), stays)
  most = max(unit.rule.count(unit.size, min(stays + more(unit), unit.size)), stays)
  return least, stays, most


def _solved(
  graph: ChannelGraph,
  free: Sequence[Unit],
  alive: np.ndarray,
  limits: Sequence[tuple[int, int, int]],
  gains: np.ndarray,
  keys: np.ndarray,
) -> np.ndarray | None:
  """Bool array over the free units' channels, one after the other; None if there is no choice.

  The program has a column for each channel, and one for each unit: how many more stay than were to.
  """
  roots = np.concatenate([graph.groups[unit.key].roots for unit in free])
  size = len(roots)
  place = np.full(len(alive), -1)
  place[roots] = np.arange(size)
  owners = np.repeat(np.arange(len(free)), [unit.size for unit in free])
  mine = (owners == np.arange(len(free))[:, None]).astype(float)
  least, stays, most = np.array(limits).T
  rows, low, high = [np.hstack([mine, -np.eye(len(free))])], [*least], [*stays]
  for parts in equal_splits(graph):
    (first, there), *others = [_row(part, place, alive, size) for part in parts]
    for row, fixed in others:
      rows.append(np.append(first - row, np.zeros(len(free)))[None])
      low.append(fixed - there)
      high.append(fixed - there)
  solution = milp(
    np.append(-gains, np.full(len(free), _EXCESS)),
    integrality=np.ones(size + len(free)),
    bounds=Bounds(
      np.append(keys == np.inf, np.zeros(len(free))), np.append(keys > -np.inf, most - stays)
    ),
    constraints=LinearConstraint(np.vstack(rows), low, high),
    options={'time_limit': _SECONDS},
  )
  return None if solution.x is None else solution.x[:size] > 0.5


def _row(
  part: np.ndarray, place: np.ndarray, alive: np.ndarray, size: int
) -> tuple[np.ndarray, int]:
  """How often each free channel lies in a part, and how many of its other channels stay."""
  mine = place[part]
  return np.bincount(mine[mine >= 0], minlength=size), int(alive[part[mine < 0]].sum())


def _gains(keys: np.ndarray, mask: np.ndarray) -> np.ndarray:
  """What keeping a channel is worth: chosen ones more than others, and each by its rank."""
  ranks = np.empty(len(keys))
  ranks[np.argsort(keys, kind='stable')] = np.arange(1, len(keys) + 1)
  return mask + ranks / len(keys)
