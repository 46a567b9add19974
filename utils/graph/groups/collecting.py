"""From traces to channel groups: which layers make, follow or read the same channels."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from secateurs.utils.graph.groups.members import CONSUMES, FOLLOWS, PRODUCES, Group, Member
from secateurs.utils.graph.groups.tracing import Traced
from secateurs.utils.graph.rules.base import Trace
from secateurs.utils.graph.rules.channels import components


def collect(
  traced: Traced, traces: Mapping[str, Trace]
) -> tuple[list[Group], np.ndarray, np.ndarray]:
  """Joins layers that make a common element into groups, and lists the members.

  Args:
    traced: the channels of a model.
    traces: layer name -> the trace of its first call.

  Returns:
    The groups in topological order of their first producer; and for each atom, int array [atoms],
    its group's index and its element in the group, or -1.
  """
  group_of, element_of = (np.full(len(traced.why), -1) for _ in range(2))
  groups: list[Group] = []
  producers: list[tuple[str, np.ndarray]] = []
  for name, trace in traces.items():
    producers += [(f'{name}.{part}', labels) for part, labels in trace.inside.items()]
    if trace.produced is not None:
      producers.append((name, trace.produced))
  if not producers:
    return groups, group_of, element_of
  roots = np.concatenate([labels for _, labels in producers])
  owner = np.repeat(np.arange(len(producers)), [len(labels) for _, labels in producers])
  size = len(producers)
  joined = components(size + len(group_of), owner, roots + size)[:size]
  for index, first in enumerate(np.unique(joined)):
    unique, appearance = np.unique(roots[joined[owner] == first], return_index=True)
    elements = unique[np.argsort(appearance)]
    group_of[elements] = index
    element_of[elements] = np.arange(len(elements))
    groups.append(Group(index, producers[first][0], elements, [], *_why(traced, elements)))
  for name, trace in traces.items():
    kind = type(trace.call.layer).__name__
    for role, labels, part in _roles(trace):
      owners = group_of[labels]
      for index in np.unique(owners[owners >= 0]):
        positions = np.flatnonzero(owners == index)
        members = element_of[labels[positions]]
        groups[index].members.append(Member(name, kind, role, positions, members, part))
  return groups, group_of, element_of


def _why(traced: Traced, elements: np.ndarray) -> tuple[np.ndarray, list[str]]:
  why = traced.why[elements]
  numbers = np.unique(why[why >= 0])
  place = np.full(len(traced.reasons) + 1, -1)
  place[numbers] = np.arange(len(numbers))
  return place[why], [traced.reasons[number] for number in numbers]


def _roles(trace: Trace) -> list[tuple[str, np.ndarray, str | None]]:
  """What a layer does with channels, with which, and of what of its inside."""
  found: list[tuple[str, np.ndarray, str | None]] = [
    (PRODUCES, labels, part) for part, labels in trace.inside.items()
  ]
  if trace.consumed is not None:
    found.append((CONSUMES, trace.consumed, None))
  if trace.produced is not None:
    found.append((PRODUCES, trace.produced, None))
  elif trace.call.layer.weights and trace.consumed is None and trace.ins:
    found.append((FOLLOWS, trace.outs[0].labels, None))
  return found
