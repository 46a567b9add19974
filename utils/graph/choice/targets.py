"""From scores to a choice of channels: by ratio, or until a MAC or parameter target is met."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import numpy as np

from secateurs.utils.errors import UserError
from secateurs.utils.graph.choice.costs import plan_cost
from secateurs.utils.graph.groups.channel_graph import ChannelGraph
from secateurs.utils.graph.groups.members import PRODUCES, Group
from secateurs.utils.graph.slicing.planning import Plan


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
    ratio: share of elements to drop, in [0, 1]; of every group (local) or of all (global).
    macs: the sliced model has at most this many MACs; below 1, a share of the original's.
    params: the same for parameters.
    scope: 'local': groups lose equal shares; 'global': scores are compared across groups, each
      group's divided by its mean.
    min_channels: every layer keeps at least this many of its channels.
    round_to: widths are rounded up to multiples of this.
    skip: indices of groups that stay whole.

  Returns:
    Group index -> sorted indices of the elements to keep.

  Raises:
    UserError: if not exactly one goal is given, the ratio or scope is out of range, or the target
      cannot be reached.
  """
  goals = {'ratio': ratio, 'macs': macs, 'params': params}
  given = {name: value for name, value in goals.items() if value is not None}
  if len(given) != 1:
    raise UserError(f'Give exactly one of ratio, macs and params, got {sorted(given) or "none"}.')
  if scope not in ('local', 'global'):
    raise UserError(f"Unknown scope {scope!r}, expected 'local' or 'global'.")
  if ratio is not None and not 0 <= ratio <= 1:
    raise UserError(f'ratio must lie in [0, 1], the share of channels to drop, got {ratio}.')
  groups = [g for g in graph.groups if g.prunable and g.index not in skip]
  order = _Order(groups, scores, scope, min_channels, round_to)
  if ratio is not None:
    return order.by_ratio(ratio)
  which, target = (0, macs) if macs is not None else (1, params)
  if target <= 0:
    raise UserError(f'A target must be above 0, got {target}.')
  if target < 1:
    counts = graph.counts()
    target *= (counts.macs, counts.params)[which]

  def cost(keep: dict[int, np.ndarray]) -> int:
    alive = np.ones(len(graph.traced.why), bool)
    for group in groups:
      alive[group.roots] = False
      alive[group.roots[keep[group.index]]] = True
    return plan_cost(Plan(graph, alive, {}))[which]

  return order.by_cost(cost, target, ('MACs', 'parameters')[which])


class _Order:
  """The elements of all groups in the order in which they go."""

  def __init__(
    self,
    groups: list[Group],
    scores: Sequence[np.ndarray],
    scope: str,
    min_channels: int,
    round_to: int,
  ):
    self.groups = groups
    self.scores = scores
    self.scope = scope
    self.round_to = round_to
    self.removable: dict[int, np.ndarray] = {}
    keys, owners, elements = [], [], []
    for group in groups:
      score = scores[group.index]
      free = np.flatnonzero(group.free & ~self._floor(group, score, min_channels))
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

  def _floor(self, group: Group, score: np.ndarray, min_channels: int) -> np.ndarray:
    """The best elements of every producer, which no choice may touch."""
    fixed = np.zeros(group.size, bool)
    for member in group.members:
      if member.role == PRODUCES:
        elements = np.unique(member.elements)
        best = elements[np.argsort(-score[elements], kind='stable')]
        fixed[best[:min_channels]] = True
    return fixed

  def by_ratio(self, ratio: float) -> dict[int, np.ndarray]:
    """Drops the share of each group, or of all elements."""
    if self.scope == 'global':
      total = sum(group.size for group in self.groups)
      return self.keep(round(ratio * total))
    dropped = {
      group.index: self.removable[group.index][: round(ratio * group.size)] for group in self.groups
    }
    return self._round(dropped)

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
    return self._round({group.index: element[owner == group.index] for group in self.groups})

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

  def _fits(self, group: Group, mask: np.ndarray) -> bool:
    if self.round_to == 1:
      return True
    widths = [mask[m.elements] for m in group.members if m.role == PRODUCES]
    return all(one.sum() % self.round_to == 0 or one.all() for one in widths)
