"""Parts of a split that stay equally wide.

TensorFlow Lite has a fast operator for equal parts; unequal ones take another, which XNNPACK does not
run, so that the network falls into more pieces and can get slower than it was.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp

from secateurs.learners.channels.cuts.cutting import plan_of, unit_masks
from secateurs.learners.channels.cuts.units import Unit
from secateurs.utils.graph import ChannelGraph

# Channels of a unit that may go beyond those that were to go: a fraction of all, and at least some.
_FURTHER_SHARE, _FURTHER = 1 / 8, 3
_SECONDS = 20.0


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
  graph: ChannelGraph,
  units: Sequence[Unit],
  masks: Mapping[str, np.ndarray],
  keys: Mapping[str, np.ndarray],
) -> dict[str, np.ndarray]:
  """A choice in which all parts of each split that was into equal parts are equally wide again.

  Of all choices with as many channels of each unit as were chosen, or up to an eighth of all (three
  of a narrow unit) fewer, that which keeps most of what was chosen, and then the highest ranks: an
  integer program. Where there is none, the choice stays as it is.

  Args:
    graph: the channel graph.
    units: what was chosen from.
    masks: bool array [unit.size] by the name of every unit: the channels that stay.
    keys: [unit.size] by the name of each unit that may still change; the highest stay, those of -inf
      have gone, those of inf must stay.
  """
  if not uneven(graph, units, masks):
    return dict(masks)
  splits = equal_splits(graph)
  free = [unit for unit in units if unit.name in keys and isinstance(unit.key, int)]
  roots = [graph.groups[unit.key].roots for unit in free]
  touched = np.zeros(len(graph.traced.why), bool)
  for parts in splits:
    touched[np.concatenate(parts)] = True
  chosen = [i for i, own in enumerate(roots) if touched[own].any()]
  free, roots = [free[i] for i in chosen], [roots[i] for i in chosen]
  alive = plan_of(graph, units, [masks[unit.name] for unit in units]).alive
  if not free:
    return dict(masks)
  place = np.full(len(alive), -1)
  place[np.concatenate(roots)] = np.arange(sum(map(len, roots)))
  found = _solved(splits, free, place, alive, masks, keys)
  if found is None:
    return dict(masks)
  ends = np.cumsum([unit.size for unit in free])[:-1]
  return {**masks, **dict(zip((u.name for u in free), np.split(found, ends), strict=True))}


def uneven(
  graph: ChannelGraph, units: Sequence[Unit], masks: Mapping[str, np.ndarray]
) -> list[list[np.ndarray]]:
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
  keys = {name: mask.astype(float) for name, mask in given.items()}
  for unit in units:
    if isinstance(unit.key, int):
      keys[unit.name][~graph.groups[unit.key].free] = np.inf
  found = evened(graph, units, given, keys)
  return [found[unit.name] for unit in units]


def _solved(
  splits: Sequence[Sequence[np.ndarray]],
  free: Sequence[Unit],
  place: np.ndarray,
  alive: np.ndarray,
  masks: Mapping[str, np.ndarray],
  keys: Mapping[str, np.ndarray],
) -> np.ndarray | None:
  """Bool array over the free units' channels, one after the other; None if there is no choice."""
  size = sum(unit.size for unit in free)
  rows, low, high = [], [], []
  first = 0
  for unit in free:
    row = np.zeros(size)
    row[first : first + unit.size] = 1
    stays = int(masks[unit.name].sum())
    rows.append(row)
    least = max(stays - max(int(_FURTHER_SHARE * unit.size), _FURTHER), 1)
    low.append(min(unit.rule.count(unit.size, least), stays))
    high.append(stays)
    first += unit.size
  for parts in splits:
    counted = [_row(part, place, alive, size) for part in parts]
    for row, fixed in counted[1:]:
      rows.append(counted[0][0] - row)
      low.append(fixed - counted[0][1])
      high.append(low[-1])
  gains = np.concatenate([_gains(keys[unit.name], masks[unit.name]) for unit in free])
  every = np.concatenate([keys[unit.name] for unit in free])
  solution = milp(
    -gains,
    integrality=np.ones(size),
    bounds=Bounds(every == np.inf, every > -np.inf),
    constraints=LinearConstraint(np.array(rows), low, high),
    options={'time_limit': _SECONDS},
  )
  return None if solution.x is None else solution.x > 0.5


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
