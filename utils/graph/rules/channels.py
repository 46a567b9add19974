"""Atoms: the units that channels are tracked in.

Every channel that a kernel makes gets a number, its atom. A tensor carries the atoms of its
channel axis as an integer array, so concatenation is concatenation of arrays, a depthwise
multiplier is `repeat`, flattening is `tile`, and so on. Where two atoms must live or die together
(both sides of an addition) they are tied; where a channel cannot go at all it is protected, with
the reason.
"""

from __future__ import annotations

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class Channels:
  """The channel axis of one tensor.

  Attributes:
    axis: which axis of the tensor (batch is 0); None if no axis of known size is tracked.
    labels: int array [shape[axis]], the atom of each position.
  """

  axis: int | None
  labels: np.ndarray

  @staticmethod
  def none() -> Channels:
    """A tensor without tracked channels."""
    return Channels(None, np.zeros(0, np.int64))


class Atoms:
  """All atoms of a model, with the ties and protections that were found so far.

  Attributes:
    size: how many there are.
    sizes: number of a tensor that holds another one's shape -> that one's channels.
  """

  def __init__(self):
    self.size = 0
    self.sizes: dict[int, Channels] = {}
    self._ties: list[tuple[np.ndarray, np.ndarray]] = []
    self._protected: list[tuple[np.ndarray, str]] = []

  def new(self, count: int) -> np.ndarray:
    """Returns `count` fresh atoms."""
    self.size += count
    return np.arange(self.size - count, self.size)

  def tie(self, left: np.ndarray, right: np.ndarray) -> None:
    """Says that left[i] and right[i] go together, for every i."""
    if left is not right:
      self._ties.append((np.ravel(left), np.ravel(right)))

  def protect(self, labels: np.ndarray, reason: str) -> None:
    """Says that none of `labels` may be dropped, and why."""
    if len(labels):
      self._protected.append((np.ravel(labels), reason))

  def roots(self) -> np.ndarray:
    """Returns for every atom the smallest atom that it is tied to, directly or not."""
    if not self._ties:
      return np.arange(self.size)
    left = np.concatenate([pair[0] for pair in self._ties])
    right = np.concatenate([pair[1] for pair in self._ties])
    return components(self.size, left, right)

  def reasons(self, roots: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Returns why atoms are protected.

    Args:
      roots: what `roots()` gave.

    Returns:
      (why, texts): for every atom the number of the first reason that protects its root, or -1;
      and the reasons.
    """
    texts: list[str] = []
    numbers: dict[str, int] = {}
    why = np.full(self.size, -1)
    for labels, reason in self._protected:
      if reason not in numbers:
        numbers[reason] = len(texts)
        texts.append(reason)
      hit = roots[labels]
      why[hit[why[hit] < 0]] = numbers[reason]
    return why[roots], texts


def components(size: int, left: np.ndarray, right: np.ndarray) -> np.ndarray:
  """Connected components of a graph, the smallest node standing for its component.

  Hooks the larger root of each edge under the smaller one and shortens the paths, until no edge
  joins two roots; the number of rounds grows with the logarithm of `size`.

  Args:
    size: number of nodes.
    left: int array [edges].
    right: int array [edges].

  Returns:
    int array [size], the representative of each node.
  """
  parent = np.arange(size)
  while True:
    from_left, from_right = parent[left], parent[right]
    open_edges = from_left != from_right
    if not open_edges.any():
      return parent
    left, right = from_left[open_edges], from_right[open_edges]
    np.minimum.at(parent, np.maximum(left, right), np.minimum(left, right))
    while True:
      shorter = parent[parent]
      if np.array_equal(shorter, parent):
        break
      parent = shorter
