"""From scores to a choice of channels: by ratio, or until a MAC or parameter target is met."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence

import numpy as np

from secateurs.utils.errors import UserError
from secateurs.utils.graph.choice.costs import plan_cost
from secateurs.utils.graph.choice.floors import floors, plan_of
from secateurs.utils.graph.groups.channel_graph import ChannelGraph
from secateurs.utils.graph.groups.members import PRODUCES, Group
from secateurs.utils.graph.slicing.signals import follow_signals
from secateurs.utils.graph.slicing.wishes import check_widths


def choose_channels(
  graph: ChannelGraph,
  scores: Sequence[np.ndarray],
  *,
  ratio: float | None = None,
  macs: float | None = None,
  params: float | None = None,
  scope: str = 'local',
  min_channels: int = 1,
  round_to: int = 1,
  skip: Collection[int] = (),
) -> dict[int, np.ndarray]:
  """Chooses what to keep of every group that can be cut, for `slice_model`.

  Exactly one of ratio, macs and params is given. A target is met from above within one element:
  putting back the last one that was dropped would miss it.

  Args:
    graph: the channel graph.
    scores: what `channel_scores` gave.
    ratio: fraction of elements to drop, in [0, 1]; of every group (local) or of all (global).
    macs: the sliced model has at most this many MACs; below 1, a fraction of the original's.
    params: the same for parameters.
    scope: 'local': groups lose equal fractions; 'global': scores are compared across groups, each
      group's divided by its mean.
    min_channels: every layer keeps at least this many of the channels that it makes and of those
      that it reads, and every other tensor at least one. With 0 whole branches may go, as far as the
      network can do without them.
    round_to: widths are rounded up to multiples of this.
    skip: indices of groups that stay whole.

  Returns:
    Group index -> sorted indices of the elements to keep.

  Raises:
    UserError: if not exactly one goal is given, a goal, the scope or a width is out of range, or the
      target cannot be reached.
  """
  goals = {'ratio': ratio, 'macs': macs, 'params': params}
  given = {name: value for name, value in goals.items() if value is not None}
  if len(given) != 1:
    raise UserError(f'Give exactly one of ratio, macs and params, got {sorted(given) or "none"}.')
  if scope not in ('local', 'global'):
    raise UserError(f"Unknown scope {scope!r}, expected 'local' or 'global'.")
  if ratio is not None and not 0 <= ratio <= 1:
    raise UserError(f'ratio must lie in [0, 1], the fraction of channels to drop, got {ratio}.')
  for name, target in (('macs', macs), ('params', params)):
    # Nothing compares with nan: it would count as met by whatever is cut.
    if target is not None and not 0 < target < math.inf:
      raise UserError(f'{name} must be a finite number above 0, got {target}.')
  check_widths(min_channels, round_to)
  groups = [g for g in graph.groups if g.prunable and g.index not in skip]
  order = _Order(graph, groups, scores, scope, min_channels, round_to)
  if ratio is not None:
    return order.by_ratio(ratio)
  which, target = (0, macs) if macs is not None else (1, params)
  if target < 1:
    counts = graph.counts()
    target *= (counts.macs, counts.params)[which]

  def cost(keep: dict[int, np.ndarray]) -> int:
    return plan_cost(plan_of(graph, groups, keep))[which]

  return order.by_cost(cost, target, ('MACs', 'parameters')[which])


class _Order:
  """The elements of all groups in the order in which they go."""

  def __init__(
    self,
    graph: ChannelGraph,
    groups: list[Group],
    scores: Sequence[np.ndarray],
    scope: str,
    min_channels: int,
    round_to: int,
  ):
    self.graph = graph
    self.groups = groups
    self.scores = scores
    self.may_go_whole = min_channels == 0
    fixed = floors(graph, groups, scores, min_channels)
    self.scope = scope
    self.round_to = round_to
    self.removable: dict[int, np.ndarray] = {}
    keys, owners, elements = [], [], []
    for group in groups:
      score = scores[group.index]
      free = np.flatnonzero(group.free & ~fixed[group.roots])
      ranked = free[np.argsort(score[free], kind='stable')]
      self.removable[group.index] = ranked
      if scope == 'local':
        keys.append((np.arange(len(ranked)) + 1) / group.size)
      else:
        keys.append(score[ranked] / (np.abs(score).mean() or 1.0))
      owners.append(np.full(len(ranked), group.index))
      elements.append(ranked)
    self.owner = np.concatenate([np.zeros(0, int), *owners])
    self.element = np.concatenate([np.zeros(0, int), *elements])
    first = np.argsort(np.concatenate([np.zeros(0), *keys]), kind='stable')
    self.owner, self.element = self.owner[first], self.element[first]

  def by_ratio(self, ratio: float) -> dict[int, np.ndarray]:
    """Drops the fraction of each group, or of all elements."""
    if self.scope == 'global':
      total = sum(group.size for group in self.groups)
      return self.keep(round(ratio * total))
    dropped = {
      group.index: self.removable[group.index][: round(ratio * group.size)] for group in self.groups
    }
    return self._settled(dropped)

  def by_cost(
    self, cost: Callable[[dict[int, np.ndarray]], int], target: float, unit: str
  ) -> dict[int, np.ndarray]:
    """Drops the fewest elements that meet the target."""
    low, high = 0, len(self.owner)
    least = cost(self.keep(high))
    if least > target:
      raise UserError(
        f'The target of {target:,.0f} {unit} is out of reach, the least is {least:,}:'
        ' raise the target, lower min_channels, or skip fewer groups.'
      )
    while low < high:
      middle = (low + high) // 2
      if cost(self.keep(middle)) <= target:
        high = middle
      else:
        low = middle + 1
    return self.keep(low)

  def keep(self, number: int) -> dict[int, np.ndarray]:
    """What stays after the first `number` elements have gone."""
    owner, element = self.owner[:number], self.element[:number]
    return self._settled({g.index: element[owner == g.index] for g in self.groups})

  def _settled(self, dropped: dict[int, np.ndarray]) -> dict[int, np.ndarray]:
    """Rounded widths; with a floor of zero, what the network cannot do without is put back."""
    keep = self._round(dropped)
    while self.may_go_whole:
      signals = follow_signals(plan_of(self.graph, self.groups, keep))
      if signals.problem is None:
        break
      best = max(
        (one for one in map(self._place, np.unique(signals.cause)) if one is not None),
        key=lambda one: self._relative(*one),
      )
      dropped = {
        index: np.setdiff1d(gone, [best[1]] if index == best[0] else [])
        for index, gone in self._gone(keep).items()
      }
      keep = self._round(dropped)
    return keep

  def _round(self, dropped: dict[int, np.ndarray]) -> dict[int, np.ndarray]:
    """Puts the best dropped elements back until widths are multiples of `round_to`."""
    keep = {}
    for group in self.groups:
      gone = dropped[group.index]
      mask = np.ones(group.size, bool)
      mask[gone] = False
      best_first = gone[np.argsort(-self.scores[group.index][gone], kind='stable')]
      for element in best_first:
        if self._fits(group, mask):
          break
        mask[element] = True
      keep[group.index] = np.flatnonzero(mask)
    return keep

  def _gone(self, keep: dict[int, np.ndarray]) -> dict[int, np.ndarray]:
    """What a choice drops, worst first."""
    return {
      group.index: self.removable[group.index][
        ~np.isin(self.removable[group.index], keep[group.index])
      ]
      for group in self.groups
    }

  def _place(self, root: int) -> tuple[int, int] | None:
    """(group, element) of a graph-wide number, if it may go."""
    place = self.graph.where(root)
    index, element = int(place.group), int(place.element)
    return (index, element) if element in self.removable.get(index, ()) else None

  def _relative(self, index: int, element: int) -> float:
    """An element's score as a multiple of its group's mean."""
    score = self.scores[index]
    return float(score[element] / (np.abs(score).mean() or 1.0))

  def _fits(self, group: Group, mask: np.ndarray) -> bool:
    if self.round_to == 1:
      return True
    widths = [mask[m.elements] for m in group.members if m.role == PRODUCES]
    return all(one.sum() % self.round_to == 0 or one.all() for one in widths)
