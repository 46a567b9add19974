"""Settles a plan: what goes, rounded widths, silent channels, floors."""

from __future__ import annotations

import numpy as np

from secateurs.utils.errors import UserError
from secateurs.utils.graph.groups.channel_graph import ChannelGraph
from secateurs.utils.graph.groups.members import PRODUCES, Group
from secateurs.utils.graph.rules.base import Trace
from secateurs.utils.graph.slicing.folding import fold_constants
from secateurs.utils.graph.slicing.planning import Keep, Plan
from secateurs.utils.graph.slicing.signals import follow_signals
from secateurs.utils.graph.slicing.wishes import Wishes, check_widths


def plan_slice(
  graph: ChannelGraph, keep: Keep, *, min_channels: int = 1, round_to: int = 1
) -> Plan:
  """Settles what `slice_model` will do, without building it: `apply_plan` does, `masked` masks by it.

  Args:
    graph: the model's channel graph.
    keep: as for `slice_model`.
    min_channels: as for `slice_model`.
    round_to: as for `slice_model`.

  Returns:
    The plan; `held_back` lists the channels that stay against the wish, with the reason.

  Raises:
    UserError: as of `slice_model`.
  """
  check_widths(min_channels, round_to)
  wishes = Wishes(graph)
  for key, value in keep.items():
    wishes.add(key, value)
  alive = wishes.alive()
  plan = Plan(graph, alive, dict(wishes.rows))
  if round_to > 1:
    _round_groups(plan, round_to)
  fold_constants(plan, wishes.explicit_rows())
  if plan.held_back and round_to > 1:
    _round_groups(plan, round_to)
  _settle_rows(plan, round_to)
  _check_floor(plan, min_channels)
  _check_signals(plan)
  return plan


def _widths_fit(plan: Plan, group: Group, round_to: int) -> bool:
  for member in group.members:
    if member.role != PRODUCES:
      continue
    mask = plan.alive[plan.graph.made(member.layer, member.part)]
    if mask.sum() % round_to and not mask.all():
      return False
  return True


def _round_groups(plan: Plan, round_to: int) -> None:
  """Puts channels back, largest filters first, until widths are multiples of `round_to`."""
  for group in plan.graph.groups:
    gone = np.flatnonzero(~plan.alive[group.roots])
    if not len(gone) or not plan.alive[group.roots].any() or _widths_fit(plan, group, round_to):
      continue
    norms = np.zeros(group.size)
    for member in group.members:
      if member.role == PRODUCES:
        weights = _filter_norms(plan.graph.trace(member.layer), member.part)
        np.add.at(norms, member.elements, weights[member.positions])
    for element in gone[np.argsort(-norms[gone], kind='stable')]:
      plan.alive[group.roots[element]] = True
      if _widths_fit(plan, group, round_to):
        break


def _filter_norms(trace: Trace, part: str | None) -> np.ndarray:
  """L1 norm of each filter."""
  return np.abs(trace.rule.made(trace, part)).sum(axis=0)


def _settle_rows(plan: Plan, round_to: int) -> None:
  """Rounds up the rows that consumers keep, and forgets choices that change nothing."""
  for name, mask in list(plan.rows.items()):
    trace = plan.graph.trace(name)
    alive = plan.alive[trace.ins[0].labels]
    kept = mask & alive
    missing = -int(kept.sum()) % round_to if kept.any() else 0
    if missing:
      spare = np.flatnonzero(alive & ~kept)
      strength = trace.rule.row_norms(trace.call.layer, len(trace.ins[0].labels))[spare]
      kept[spare[np.argsort(-strength, kind='stable')[:missing]]] = True
    if (kept == alive).all():
      del plan.rows[name]
    else:
      plan.rows[name] = kept


def _check_floor(plan: Plan, min_channels: int) -> None:
  """Raises if a layer loses channels and keeps fewer than `min_channels`."""
  for name, trace in plan.graph.first_traces.items():
    if not trace.call.layer.weights:
      continue
    cut = plan.cut(trace)
    sides = [('output', mask) for mask in cut.outs] + [('input', mask) for mask in cut.ins]
    for side, mask in sides:
      if not mask.all() and mask.sum() < min_channels:
        raise UserError(
          f'Layer {name!r} would keep {mask.sum()} of its {len(mask)} {side} channels, expected'
          f' at least {min_channels}: keep more of them{_lower_floor(plan, min_channels)}.'
        )
    for part, mask in cut.inside.items():
      least = max(min_channels, 1)
      if not mask.all() and mask.sum() < least:
        raise UserError(
          f'Layer {name!r} would keep {mask.sum()} of the {len(mask)} channels of its {part!r},'
          f' expected at least {least}: keep more of them.'
        )


def _lower_floor(plan: Plan, min_channels: int) -> str:
  """The advice to lower the floor, where that helps."""
  if min_channels > 1:
    return ', or lower min_channels'
  works = follow_signals(plan).problem is None
  return ', or let the whole branch go with min_channels=0' if works else ''


def _check_signals(plan: Plan) -> None:
  """Raises if the model cannot do without the channels that go."""
  signals = follow_signals(plan)
  if signals.problem is None:
    return
  graph = plan.graph
  places = graph.where(np.asarray(signals.cause, int))
  groups = sorted({*places.group.tolist()} - {-1})
  names = ' or '.join(f'group {index} ({graph.groups[index].name})' for index in groups[:3])
  elements = sorted({*places.element[:8].tolist()})
  which = f' (one of its elements {elements})' if len(groups) == 1 else ''
  raise UserError(f'{signals.problem}: keep at least one channel of {names}{which}.')
