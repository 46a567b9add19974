"""What no choice of channels may touch, and the plan of a choice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from secateurs.utils.graph.groups.channel_graph import ChannelGraph
from secateurs.utils.graph.groups.members import Group
from secateurs.utils.graph.slicing.planning import Plan


def plan_of(graph: ChannelGraph, groups: Sequence[Group], keep: Mapping[int, np.ndarray]) -> Plan:
  """The plan of a choice within `groups`, silent channels not folded."""
  alive = np.ones(len(graph.traced.why), bool)
  for group in groups:
    alive[group.roots] = False
    alive[group.roots[keep[group.index]]] = True
  return Plan(graph, alive, {})


def floors(
  graph: ChannelGraph, groups: Sequence[Group], scores: Sequence[np.ndarray], min_channels: int
) -> np.ndarray:
  """The best elements of every layer and tensor, which no choice may touch.

  What a split, a slice or a gather takes from a group is a tensor like any other: the layer that
  reads it keeps some of its channels, though the group has others.

  Args:
    graph: the channel graph.
    groups: those that may be cut.
    scores: by group.
    min_channels: the least number of channels on either side of a layer with weights; other
      tensors keep one, or none if this is 0.

  Returns:
    Bool array [atoms], True where an element stays.
  """
  fixed = np.ones(len(graph.traced.why), bool)
  value = np.zeros(len(fixed))
  for group in groups:
    fixed[group.roots[group.free]] = False
    score = scores[group.index]
    value[group.roots] = score / (np.abs(score).mean() or 1.0)
  sites: dict[bytes, tuple[np.ndarray, int]] = {}
  for trace in graph.traced.traces:
    least = min_channels if trace.call.layer.weights else min(min_channels, 1)
    places = [(channels.labels, least) for channels in (*trace.ins, *trace.outs)]
    # What a layer keeps inside cannot go whole.
    places += [(labels, max(least, 1)) for labels in trace.inside.values()]
    for labels, least in places:
      if len(labels) and least:
        key = labels.tobytes()
        sites[key] = labels, max(least, sites[key][1] if key in sites else 0)
  # The narrow ones first: what they keep counts for the wide ones that hold them.
  for labels, least in sorted(sites.values(), key=lambda site: len(site[0])):
    missing = min(least, len(labels)) - int(fixed[labels].sum())
    if missing <= 0:
      continue
    roots, counts = np.unique(labels[~fixed[labels]], return_counts=True)
    best = np.argsort(-value[roots], kind='stable')
    needed = int(np.searchsorted(np.cumsum(counts[best]), missing)) + 1
    fixed[roots[best[:needed]]] = True
  return fixed
