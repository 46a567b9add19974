"""Scores of channel groups, from any criterion that scores the channels of a layer.

Higher means more worth keeping, everywhere. A criterion is a name, a function of one layer, or
ready numbers by layer, such as those of `data_scores`; what the members of a group say is joined
element by element.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np
import tf_keras as keras

from secateurs.utils.errors import UserError
from secateurs.utils.graph.groups.channel_graph import ChannelGraph
from secateurs.utils.graph.groups.members import CONSUMES, Group, Member
from secateurs.utils.graph.rules.kernels import Producer, weight
from secateurs.utils.graph.rules.registry import rule_of

LayerCriterion = Callable[[keras.layers.Layer], 'np.ndarray | None']
# By layer name (its output channels) or (name, 'input').
GivenScores = Mapping[Any, np.ndarray]


def l1(layer: keras.layers.Layer) -> np.ndarray | None:
  """L1 norm of each filter, [filters] (Li et al. 2017); None for layers without filters."""
  return _filter_norm(layer, 1)


def l2(layer: keras.layers.Layer) -> np.ndarray | None:
  """L2 norm of each filter, [filters]; None for layers without filters."""
  return _filter_norm(layer, 2)


def bn_gamma(layer: keras.layers.Layer) -> np.ndarray | None:
  """|gamma| of a BatchNormalization, [channels] (Liu et al. 2017); None for other layers."""
  if not hasattr(layer, 'moving_mean') or getattr(layer, 'gamma', None) is None:
    return None
  return np.abs(layer.gamma.numpy())


CRITERIA: dict[str, LayerCriterion] = {'l1': l1, 'l2': l2, 'bn_gamma': bn_gamma}


def _filter_norm(layer: keras.layers.Layer, order: int) -> np.ndarray | None:
  rule = rule_of(layer)
  if not isinstance(rule, Producer):
    return None
  kernel = np.abs(weight(layer, rule.kernel).astype(np.float64))
  axis = rule.out_axis % kernel.ndim
  others = tuple(a for a in range(kernel.ndim) if a != axis)
  return kernel.sum(axis=others) if order == 1 else np.sqrt((kernel**2).sum(axis=others))


def channel_scores(
  graph: ChannelGraph,
  criterion: str | LayerCriterion | GivenScores = 'l1',
  join: str = 'sum',
  follow: Collection[str] = (),
) -> list[np.ndarray]:
  """Scores every element of every group.

  Args:
    graph: the channel graph.
    criterion: 'l1', 'l2' or 'bn_gamma'; or a function that returns one number for each output
      channel of a layer, or None for layers it does not judge; or such numbers by layer name, or
      by (name, 'input') for the input channels of a layer (see `activation_scores`).
    join: 'sum', 'mean' or 'max' over the members of a group and, where an element has several
      channels of one layer, over those.
    follow: layer names; in a group that one of them belongs to, it alone decides (L1 pruning
      lets the shortcut's projection rank the residual sum).

  Returns:
    For each group, in order, a float array [group.size]; zeros where a group cannot be cut and
    no member has a score.

  Raises:
    UserError: for an unknown criterion or join, a wrong number of scores or one that is not
      finite, or a group that could be cut and that no member scores.
  """
  if join not in ('sum', 'mean', 'max'):
    raise UserError(f"Unknown join {join!r}, expected 'sum', 'mean' or 'max'.")
  if isinstance(criterion, str):
    if criterion not in CRITERIA:
      raise UserError(f'Unknown criterion {criterion!r}, expected one of {sorted(CRITERIA)}.')
    criterion = CRITERIA[criterion]
  layers = graph.traced.flat.layers()
  return [_group_scores(group, criterion, join, follow, layers) for group in graph.groups]


def _group_scores(
  group: Group,
  criterion: LayerCriterion | GivenScores,
  join: str,
  follow: Collection[str],
  layers: Mapping[str, keras.layers.Layer],
) -> np.ndarray:
  """Joins the members' scores."""
  members = [m for m in group.members if m.layer in follow and m.role != CONSUMES]
  parts = []
  for member in members or group.members:
    values = _member_scores(member, criterion, layers[member.layer])
    if values is not None:
      parts.append((member.elements, values[member.positions]))
  if not parts:
    if group.prunable:
      raise UserError(
        f'No layer of channel group {group.index} ({group.name}) has a score by this criterion:'
        ' choose another criterion, or leave the group out.'
      )
    return np.zeros(group.size)
  elements = np.concatenate([part[0] for part in parts])
  values = np.concatenate([part[1] for part in parts])
  if join == 'max':
    joined = np.full(group.size, -np.inf)
    np.maximum.at(joined, elements, values)
    return np.where(np.isinf(joined), 0.0, joined)
  total = np.bincount(elements, values, group.size)
  if join == 'mean':
    total /= np.maximum(np.bincount(elements, minlength=group.size), 1)
  return total


def _member_scores(
  member: Member, criterion: LayerCriterion | GivenScores, layer: keras.layers.Layer
) -> np.ndarray | None:
  """Scores for all channels on the member's side of the layer, or None."""
  if isinstance(criterion, Mapping):
    key = (member.layer, 'input') if member.role == CONSUMES else member.layer
    values = criterion.get(key)
  else:
    values = None if member.role == CONSUMES else criterion(layer)
  if values is None:
    return None
  values = np.asarray(values, np.float64)
  if values.ndim != 1 or len(values) <= member.positions.max():
    raise UserError(
      f'Layer {member.layer!r} got scores of shape {values.shape}, expected one number for each of'
      f' its channels.'
    )
  if not np.isfinite(values).all():
    raise UserError(
      f'Layer {member.layer!r} got {int((~np.isfinite(values)).sum())} scores that are not finite'
      ' numbers: check the loss and the data for NaN.'
    )
  return values
