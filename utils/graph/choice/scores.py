"""Scores of channel groups, from any criterion that scores the channels of a layer.

Higher means more worth keeping, everywhere. A criterion is a name, a function of one layer, or
ready numbers by layer, such as those of `data_scores`; what the members of a group say is joined
element by element.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
import tf_keras as keras

from secateurs.utils.errors import UserError
from secateurs.utils.graph.groups.channel_graph import ChannelGraph
from secateurs.utils.graph.groups.members import CONSUMES, Group, Member
from secateurs.utils.graph.rules.registry import rule_of

LayerCriterion = Callable[[keras.layers.Layer], 'np.ndarray | None']
# By layer name (its output channels) or (name, 'input').
GivenScores = Mapping[Any, np.ndarray]


def l1(layer: keras.layers.Layer) -> np.ndarray | None:
  """L1 norm of each filter, [filters] (Li et al. 2017); None for layers without filters."""
  return _norms(rule_of(layer).filters(layer), 1)


def l2(layer: keras.layers.Layer) -> np.ndarray | None:
  """L2 norm of each filter, [filters]; None for layers without filters."""
  return _norms(rule_of(layer).filters(layer), 2)


def bn_gamma(layer: keras.layers.Layer) -> np.ndarray | None:
  """|gamma| of a BatchNormalization, [channels] (Liu et al. 2017); None for other layers."""
  if not hasattr(layer, 'moving_mean') or getattr(layer, 'gamma', None) is None:
    return None
  return np.abs(layer.gamma.numpy())


JOINS = ('sum', 'mean', 'max', 'relative')
CRITERIA: dict[str, LayerCriterion] = {'l1': l1, 'l2': l2, 'bn_gamma': bn_gamma}


# Those that the graph takes along the axis on which it follows a layer's channels.
_ORDERS = {'l1': 1, 'l2': 2}


def _norms(filters: np.ndarray | None, order: int) -> np.ndarray | None:
  if filters is None:
    return None
  filters = np.abs(filters.astype(np.float64))
  return filters.sum(axis=0) if order == 1 else np.sqrt((filters**2).sum(axis=0))


def channel_scores(
  graph: ChannelGraph,
  criterion: str | LayerCriterion | GivenScores = 'l1',
  join: str | None = None,
  follow: Collection[str] = (),
  only: Collection[int] | None = None,
) -> list[np.ndarray]:
  """Scores every element of every group.

  Args:
    graph: the channel graph.
    criterion: 'l1', 'l2' or 'bn_gamma'; or a function that returns one number for each output
      channel of a layer, or None for layers it does not judge; or such numbers by layer name, or
      by (name, 'input') for the input channels of a layer (see `activation_scores`). Channels inside
      a layer, such as the heads of an attention, have the L2 norm of their weights with 'l2' and the
      L1 norm with any other criterion.
    join: 'sum', 'mean' or 'max' over the members of a group and, where an element has several
      channels of one layer, over those; 'relative' is the mean after each member's scores were
      divided by their own mean. The default is 'sum' in groups where every member scores every
      element. In the others it is 'relative' times the mean of the sums, which makes them comparable
      with other groups: after a split, say, some elements have two producers and some have one, and a
      sum would rank by the number of producers.
    follow: layer names; in a group that one of them belongs to, it alone decides (L1 pruning
      lets the shortcut's projection rank the residual sum).
    only: indices of the groups that are scored; default: all.

  Returns:
    For each group, in order, a float array [group.size]; zeros where a group is not scored, or
    cannot be cut and no member has a score.

  Raises:
    UserError: for an unknown criterion or join, a wrong number of scores or one that is not
      finite, or a group that could be cut and that no member scores.
  """
  if join not in (None, *JOINS):
    raise UserError(f'Unknown join {join!r}, expected one of {JOINS}, or none.')
  if isinstance(criterion, str) and criterion not in CRITERIA:
    raise UserError(f'Unknown criterion {criterion!r}, expected one of {sorted(CRITERIA)}.')
  return [
    _group_scores(graph, group, criterion, join, follow)
    if only is None or group.index in only
    else np.zeros(group.size)
    for group in graph.groups
  ]


def _group_scores(
  graph: ChannelGraph,
  group: Group,
  criterion: str | LayerCriterion | GivenScores,
  join: str | None,
  follow: Collection[str],
) -> np.ndarray:
  """Joins the members' scores."""
  members = [m for m in group.members if m.layer in follow and m.role != CONSUMES]
  parts = []
  for member in members or group.members:
    values = _member_scores(graph, member, criterion)
    if values is not None:
      parts.append((member.elements, values[member.positions]))
  if parts:
    return joined_scores(parts, group.size, join)
  if group.prunable:
    raise UserError(
      f'No layer of channel group {group.index} ({group.name}) has a score by this criterion:'
      ' choose another criterion, or leave the group out.'
    )
  return np.zeros(group.size)


def joined_scores(
  parts: Sequence[tuple[np.ndarray, np.ndarray]], size: int, join: str | None
) -> np.ndarray:
  """Joins what several layers say about the elements of a group.

  Args:
    parts: for each layer its (elements, scores), arrays of the same length.
    size: number of elements.
    join: see `channel_scores`.

  Returns:
    Float array [size]; zero for elements that no layer scores.
  """
  if join is None:
    counts = [np.bincount(elements, minlength=size) for elements, _ in parts]
    if all((one == one[0]).all() for one in counts):
      return joined_scores(parts, size, 'sum')
    mean_sum = sum(np.abs(values).sum() for _, values in parts) / size
    return joined_scores(parts, size, 'relative') * mean_sum
  if join == 'relative':
    parts = [(elements, values / (np.abs(values).mean() or 1.0)) for elements, values in parts]
  elements = np.concatenate([part[0] for part in parts])
  values = np.concatenate([part[1] for part in parts])
  if join == 'max':
    joined = np.full(size, -np.inf)
    np.maximum.at(joined, elements, values)
    return np.where(np.isinf(joined), 0.0, joined)
  total = np.bincount(elements, values, size)
  if join in ('mean', 'relative'):
    total /= np.maximum(np.bincount(elements, minlength=size), 1)
  return total


def _member_scores(
  graph: ChannelGraph, member: Member, criterion: str | LayerCriterion | GivenScores
) -> np.ndarray | None:
  """Scores for all channels on the member's side of the layer, or None."""
  trace = graph.trace(member.layer)
  if member.part is not None:
    return _norms(trace.rule.made(trace, member.part), _ORDERS.get(str(criterion), 1))
  if isinstance(criterion, Mapping):
    key = (member.layer, 'input') if member.role == CONSUMES else member.layer
    values = criterion.get(key)
  elif member.role == CONSUMES or (trace.rule.makes_channels and trace.produced is None):
    # A layer that channels pass through (Dense along tokens) scores its units, not them.
    return None
  elif criterion in _ORDERS:
    values = _norms(trace.rule.made(trace), _ORDERS[criterion])
  else:
    own = CRITERIA[criterion] if isinstance(criterion, str) else criterion
    values = own(trace.call.layer)
  if values is None:
    return None
  values = np.asarray(values, np.float64)
  labels = trace.ins[0].labels if member.role == CONSUMES else trace.outs[0].labels
  if values.shape != labels.shape:
    raise UserError(
      f'Layer {member.layer!r} got scores of shape {values.shape}, expected {labels.shape}: one'
      ' number for each of its channels.'
    )
  if not np.isfinite(values).all():
    raise UserError(
      f'Layer {member.layer!r} got {int((~np.isfinite(values)).sum())} scores that are not finite'
      ' numbers: check the loss and the data for NaN.'
    )
  return values
