"""Settles a plan: wishes by group, layer and input, widths, silent channels, floors."""

from __future__ import annotations

from typing import Any

import numpy as np

from secateurs.utils.errors import UserError
from secateurs.utils.graph.groups.channel_graph import ChannelGraph
from secateurs.utils.graph.groups.members import PRODUCES, Group
from secateurs.utils.graph.rules.base import Trace
from secateurs.utils.graph.rules.constants import Constant
from secateurs.utils.graph.rules.kernels import Producer, weight
from secateurs.utils.graph.rules.norms import BatchNorm
from secateurs.utils.graph.slicing.planning import HeldBack, Keep, KeepKey, Plan
from secateurs.utils.graph.slicing.signals import follow_signals


def plan_slice(
  graph: ChannelGraph, keep: Keep, *, min_channels: int = 1, round_to: int = 1
) -> Plan:
  """Settles what `slice_model` will do; see there for the arguments and errors."""
  if round_to < 1 or min_channels < 0:
    raise UserError(
      f'round_to must be at least 1 and min_channels at least 0, got {round_to} and {min_channels}.'
    )
  wishes = _Wishes(graph)
  for key, value in keep.items():
    wishes.add(key, value)
  alive = wishes.alive()
  plan = Plan(graph, alive, dict(wishes.rows))
  if round_to > 1:
    _round_groups(plan, round_to)
  _fold(plan, wishes.explicit_rows())
  if plan.held_back and round_to > 1:
    _round_groups(plan, round_to)
  _settle_rows(plan, round_to)
  _check_floor(plan, min_channels)
  _check_signals(plan)
  return plan


def as_mask(value: Any, size: int, what: str) -> np.ndarray:
  """Turns indices or a bool array into a bool array [size].

  Raises:
    UserError: if the length is wrong, or an index is out of range or given twice.
  """
  array = np.asarray(value)
  if array.dtype == bool:
    if array.shape != (size,):
      raise UserError(
        f'The mask of {what} has shape {array.shape}, expected ({size},): one entry per channel.'
      )
    return array.copy()
  if array.size == 0:
    return np.zeros(size, bool)
  if array.ndim != 1 or array.dtype.kind not in 'iu':
    raise UserError(
      f'What to keep of {what} must be a list of integers or a bool array of length {size},'
      f' got {array.dtype} of shape {array.shape}.'
    )
  if array.min() < 0 or array.max() >= size or len(np.unique(array)) != len(array):
    raise UserError(
      f'The indices to keep of {what} must be distinct and lie in 0..{size - 1},'
      f' got {array.min()}..{array.max()} with {len(array) - len(np.unique(array))} repeated.'
    )
  mask = np.zeros(size, bool)
  mask[array] = True
  return mask


class _Wishes:
  """Collects what the keys of `keep` say about each element and about each consumer's rows."""

  def __init__(self, graph: ChannelGraph):
    self.graph = graph
    size = len(graph.traced.why)
    self.rows: dict[str, np.ndarray] = {}
    self._drops = np.full(size, -1)
    self._keeps = np.full(size, -1)
    self._titles: list[str] = []

  def add(self, key: KeepKey, value: Any) -> None:
    """Takes one entry of `keep`."""
    graph = self.graph
    if isinstance(key, (Group, int, np.integer)):
      group = graph.group(key)
      what = f'group {group.index} ({group.name})'
      self._elements(what, group.roots, as_mask(value, group.size, what))
      return
    name, side = key if isinstance(key, tuple) else (key, 'output')
    what = f'{side} of layer {name!r}'
    if side in ('input', 'output'):
      channels = graph.inputs(name) if side == 'input' else graph.outputs(name)
    else:
      channels = graph.inside(name, side)
    if not len(channels.roots):
      raise UserError(f'The {what} has no channels of known number, so none can be chosen.')
    mask = as_mask(value, len(channels.roots), what)
    trace = graph._trace(name)
    own = trace.consumed is not None and trace.rule.rows_are_own(trace.call.layer)
    if side == 'input' and own:
      self.rows[name] = mask
    else:
      self._elements(what, channels.roots, mask)

  def _elements(self, what: str, roots: np.ndarray, mask: np.ndarray) -> None:
    number = len(self._titles)
    self._titles.append(what)
    dropped = roots[~mask]
    reason = self.graph.protection(dropped)
    if reason is not None:
      place = int(np.flatnonzero(~mask)[self.graph.traced.why[dropped] >= 0][0])
      raise UserError(
        f'Channel {place} of the {what} is to go, but it is protected ({reason}): keep it.'
      )
    self._keeps[roots[mask]] = number
    self._drops[dropped] = number
    clash = np.flatnonzero((self._keeps >= 0) & (self._drops >= 0))
    if len(clash):
      keeper, dropper = self._titles[self._keeps[clash[0]]], self._titles[self._drops[clash[0]]]
      raise UserError(
        f'The {dropper} drops a channel that the {keeper} keeps, but both go together:'
        ' give the same choice for coupled channels, or choose by group.'
      )

  def alive(self) -> np.ndarray:
    """Elements that stay: not dropped by a key, nor by all of their consumers."""
    alive = self._drops < 0
    if not self.rows:
      return alive
    needed = np.zeros(len(alive), bool)
    offered = np.zeros(len(alive), bool)
    for name, trace in self.graph._first.items():
      if trace.consumed is None:
        continue
      labels = trace.ins[0].labels
      mask = self.rows.get(name)
      needed[labels if mask is None else labels[mask]] = True
      if mask is not None:
        offered[labels[~mask]] = True
    unwanted = offered & ~needed & (self.graph.traced.why < 0) & (self._keeps < 0)
    return alive & ~unwanted

  def explicit_rows(self) -> dict[str, np.ndarray]:
    """Rows that were dropped by name: what flows through them is meant to be lost."""
    return {name: ~mask for name, mask in self.rows.items()}


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
        weights = _filter_norms(plan.graph._trace(member.layer), member.part)
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
    trace = plan.graph._trace(name)
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
  for name, trace in plan.graph._first.items():
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
  groups = sorted({int(graph._group_of[root]) for root in signals.cause} - {-1})
  names = ' or '.join(f'group {index} ({graph.groups[index].name})' for index in groups[:3])
  elements = [int(graph._element_of[root]) for root in signals.cause[:8]]
  which = f' (one of its elements {sorted(set(elements))})' if len(groups) == 1 else ''
  raise UserError(f'{signals.problem}: keep at least one channel of {names}{which}.')


def _fold(plan: Plan, explicit: dict[str, np.ndarray]) -> None:
  """Finds constants that dropped channels still emit; folds them, or keeps the channel."""
  if not _any_silent(plan):
    return
  constants = simulate(plan.graph)
  held: dict[int, str] = {}
  folds: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
  calls = plan.graph.traced.flat.calls_by_layer()
  for trace in plan.graph.traced.traces:
    for root in _lost_in_sums(plan, trace, constants):
      held.setdefault(
        root, f'its constant does not fold into {trace.call.name!r}, which has no bias'
      )
    if trace.consumed is None:
      continue
    name = trace.call.name
    given = constants[trace.call.inputs[0]]
    labels = trace.ins[0].labels
    gone = ~plan.alive[labels] & ~explicit.get(name, np.zeros(len(labels), bool))
    gone &= given.silent & (trace.rule.row_norms(trace.call.layer, len(trace.ins[0].labels)) > 0)
    if not gone.any():
      continue
    lost = gone & given.spoiled
    for root in labels[lost]:
      held.setdefault(
        int(root), f'its constant meets zero padding or an unknown layer before {name!r}'
      )
    loud = gone & ~given.spoiled & (given.value != 0)
    if not loud.any():
      continue
    if not trace.rule.ignores_borders(trace.call.layer):
      for root in labels[loud]:
        held.setdefault(
          int(root), f'its constant does not fold into {name!r}, {trace.rule.fold_obstacle}'
        )
    elif len(calls[name]) > 1:
      for root in labels[loud]:
        held.setdefault(int(root), f'its constant does not fold into {name!r}, which is shared')
    else:
      folds.setdefault(name, []).append((labels, np.where(loud, given.value, 0.0)))
  for root, reason in held.items():
    plan.alive[root] = True
    group, element = plan.graph._group_of[root], plan.graph._element_of[root]
    plan.held_back.append(HeldBack(int(group), int(element), reason))
  for name, parts in folds.items():
    trace = plan.graph._trace(name)
    values = sum(np.where(plan.alive[labels], 0.0, value) for labels, value in parts)
    plan.added_bias[name] = trace.rule.response(trace.call.layer, values)


def _lost_in_sums(plan: Plan, trace: Trace, constants: list[Constant]) -> list[int]:
  """Dropped elements whose constant takes part in a sum without kernel, and is not zero."""
  loud: dict[int, bool] = {}
  for number in (*trace.rule.summed(trace), *trace.rule.heard(trace)):
    given, labels = constants[trace.call.inputs[number]], trace.ins[number].labels
    for place in np.flatnonzero(~plan.alive[labels] & given.silent):
      zero = not given.spoiled[place] and given.value[place] == 0
      root = int(labels[place])
      loud[root] = loud.get(root, True) and not zero
  return [root for root, one in loud.items() if one]


def _any_silent(plan: Plan) -> bool:
  """True if some dropped channel comes from a zero filter or a zero gamma."""
  for trace in plan.graph._first.values():
    outs = trace.outs[0].labels if trace.outs else np.zeros(0, int)
    gone = ~plan.alive[outs]
    if not gone.any():
      continue
    if isinstance(trace.rule, Producer) and trace.produced is not None:
      if not trace.rule.made(trace).any(axis=0)[gone].all():
        return True
    elif isinstance(trace.rule, BatchNorm):
      gamma = weight(trace.call.layer, 'gamma')
      if gamma is not None and (gamma[gone] == 0).any():
        return True
  return False


def simulate(graph: ChannelGraph) -> list[Constant]:
  """Follows constants through the model; returns one `Constant` for each tensor."""
  traced = graph.traced
  found = [Constant.live(len(channels.labels)) for channels in traced.channels]
  for trace in traced.traces:
    ins = [
      found[number]
      if len(found[number].value) == len(channels.labels)
      else Constant.live(len(channels.labels))
      for number, channels in zip(trace.call.inputs, trace.ins)
    ]
    for number, constant in zip(trace.call.outputs, trace.rule.constant(trace, ins)):
      found[number] = constant
  return found
