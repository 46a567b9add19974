"""Puts the channels of a network into another order, through whole channel groups.

Every layer that makes, follows or reads the channels of a group gets its weights permuted alike, so
that the network computes the same. Which place of which weight belongs to a channel is found by asking
the layer's rule what goes when that channel alone is cut.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from secateurs.utils.errors import UserError
from secateurs.utils.graph.flat.rebuild import variables, weight_names
from secateurs.utils.graph.groups.channel_graph import ChannelGraph
from secateurs.utils.graph.groups.members import PRODUCES, Group
from secateurs.utils.graph.rules.base import Cut, Rule, Trace
from secateurs.utils.random_inputs import outputs, random_inputs

_NB_PROOF = 4
_TOLERANCE = 1e-4


def movable(graph: ChannelGraph) -> list[Group]:
  """The groups whose channels may change places.

  Those whose every element may be dropped, and that no layer takes a part of, divides into groups, or
  pairs with a constant of the graph.
  """
  by_root = {int(root): group.index for group in graph.groups for root in group.roots}
  fixed = {group.index for group in graph.groups if not group.free.all()}
  for trace in graph.traced.traces:
    rigid = type(trace.rule).rewrite is not Rule.rewrite
    rigid |= getattr(trace.call.layer, 'groups', 1) > 1
    for channels in (*trace.ins, *trace.outs):
      owners = np.array([by_root.get(int(root), -1) for root in channels.labels], int)
      for index in np.unique(owners[owners >= 0]):
        roots = graph.groups[index].roots
        if rigid or not _repeats(channels.labels[owners == index], roots):
          fixed.add(int(index))
  return [group for group in graph.groups if group.index not in fixed]


def by_norm(graph: ChannelGraph) -> dict[int, np.ndarray]:
  """Orders of all movable groups: greatest L1 norm of the filters first, by group index.

  Where several layers make a group's channels, as along residual additions, their norms are added.
  """
  orders = {}
  layers = graph.traced.flat.layers()
  traces = graph.first_traces
  for group in movable(graph):
    norms = np.zeros(group.size)
    for member in group.members:
      if member.role == PRODUCES:
        filters = traces[member.layer].rule.filters(layers[member.layer])
        sums = np.abs(filters).sum(axis=0)[member.positions]
        np.add.at(norms, member.elements, sums)
    orders[group.index] = np.argsort(-norms, kind='stable')
  return orders


def rearrange(graph: ChannelGraph, orders: Mapping[int, np.ndarray]) -> None:
  """Permutes the weights of a graph's model in place: new channel i is the old channel order[i].

  Args:
    graph: of the model.
    orders: for movable groups, by index, a permutation of their elements.

  Raises:
    UserError: the outputs for random inputs are not those from before; the weights are then put back.
  """
  model = graph.model
  partner = {}
  for index, order in orders.items():
    roots = graph.groups[index].roots
    partner.update(zip(map(int, roots), map(int, roots[order]), strict=True))
  inputs = random_inputs(model, _NB_PROOF)
  before, weights = outputs(model, inputs), model.get_weights()
  for trace in graph.first_traces.values():
    _permute(trace, partner, len(graph.traced.why))
  for old, new in zip(before, outputs(model, inputs), strict=True):
    if np.abs(old - new).max() > _TOLERANCE * max(np.abs(old).max(), 1e-6):
      model.set_weights(weights)
      raise UserError(
        f'The channels of {model.name} cannot be rearranged, since its outputs change: leave them in '
        'their order (--ws_rearrange=false).'
      )


def _permute(trace: Trace, partner: Mapping[int, int], nb_atoms: int) -> None:
  layer = trace.call.layer
  labels = [channels.labels for channels in (*trace.ins, *trace.outs)]
  mine = [int(root) for root in np.unique(np.concatenate(labels)) if int(root) in partner]
  if not mine or not layer.weights:
    return
  places: dict[tuple[str, int, int], dict[int, np.ndarray]] = {}
  alive = np.ones(nb_atoms, bool)
  for root in mine:
    alive[root] = False
    ins, outs = ([alive[one.labels] for one in side] for side in (trace.ins, trace.outs))
    for name, axes in trace.rule.axes(Cut(trace, ins, outs)).items():
      for number, (axis, kept) in enumerate(axes):
        gone = np.flatnonzero(~kept)
        if len(gone):
          places.setdefault((name, number, axis), {})[root] = gone
    alive[root] = True
  by_name = dict(zip(weight_names(layer), variables(layer), strict=True))
  for (name, _, axis), owners in places.items():
    if name not in by_name:
      continue  # Such as the bias of a layer without one.
    value = by_name[name].numpy()
    index = np.arange(value.shape[axis])
    for root, own in owners.items():
      index[own] = owners[partner[root]]
    by_name[name].assign(value.take(index, axis=axis))


def _repeats(labels: np.ndarray, roots: np.ndarray) -> bool:
  """Whether labels are the roots in order, the whole list or each of them repeated."""
  times, rest = divmod(len(labels), len(roots))
  if rest:
    return False
  tiled, repeated = np.tile(roots, times), np.repeat(roots, times)
  return bool(np.array_equal(labels, tiled) or np.array_equal(labels, repeated))
