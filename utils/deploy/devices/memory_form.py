"""Peak memory of the activations of a file in closed form, where channels go and operators stay."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence

import numpy as np

from secateurs.utils.deploy.devices.memory_plan import Life, aligned, bytes_of, plan, spans_of
from secateurs.utils.deploy.int8.opened import OpenFile
from secateurs.utils.deploy.int8.operators import layer_of
from secateurs.utils.errors import UserError


@dataclasses.dataclass(frozen=True)
class Held:
  """What is alive at one operator.

  Attributes:
    kind: of the operator.
    name: of what it makes.
    bytes: of all tensors that are alive.
    of_input: of these, bytes of the network's inputs.
    fixed: of these, bytes of other tensors that no unit narrows.
    tensors: how many there are.
  """

  kind: str
  name: str
  bytes: int
  of_input: int
  fixed: int
  tensors: int


class MemoryForm:
  """Memory of activations when `gone[u]` channels of unit u have gone.

  The size of every tensor is linear in the numbers of channels, and its life stays as it is, so that
  the whole file, and for each unit one that lacks some of its channels, give all sizes.
  """

  def __init__(self, whole: bytes, less: Sequence[tuple[bytes, int]]) -> None:
    """Reads the files.

    Args:
      whole: content of the .tflite file of the network.
      less: for each unit the content of the file with so many of its channels gone, and that number;
        with 0 the unit narrows nothing.

    Raises:
      UserError: the operators of two of the files differ.
    """
    file = OpenFile(whole)
    spans, form = spans_of(file), _form(file)
    self._sizes = _sizes(file, spans)
    self._first, self._last = np.array(list(spans.values()), int).reshape(-1, 2).T
    slopes = [np.zeros_like(self._sizes)]
    for content, gone in less:
      other = OpenFile(content) if gone else file
      if _form(other) != form:
        raise UserError(
          'Files with fewer channels have other operators than the whole one, so that the memory of '
          'their activations cannot be computed beforehand: give a target in MACs or latency.'
        )
      slopes.append((self._sizes - _sizes(other, spans_of(other))) / max(gone, 1))
    self._slopes = np.array(slopes[1:]).reshape(len(less), len(self._sizes))
    numbers = np.arange(len(file.operators))[:, None]
    self._alive = (self._first <= numbers) & (numbers <= self._last)
    self._inputs = np.isin(list(spans), file.inputs)
    self._full_names = [file.name(op.outputs[0]) for op in file.operators]
    self._names = [name.split(';')[0] for name in self._full_names]
    self._kinds = [op.kind for op in file.operators]

  def held(self, gone: Sequence[int]) -> np.ndarray:
    """Bytes of the tensors that are alive at each operator, [operators]."""
    return self._alive @ aligned(self._sizes_at(gone))

  def peak(self, gone: Sequence[int]) -> int:
    """Bytes of the planned arena."""
    sizes = aligned(self._sizes_at(gone)).astype(int).tolist()
    lives = zip(sizes, self._first.tolist(), self._last.tolist(), strict=True)
    return plan([Life(*life) for life in lives])

  def relief(self, unit: int, gone: int) -> np.ndarray:
    """Bytes by which each operator holds less when a unit alone loses channels, [operators]."""
    less = np.rint(self._sizes - gone * self._slopes[unit])
    return self._alive @ (aligned(self._sizes) - aligned(less))

  def relief_without(self, gone: Collection[str], layers: Sequence[str]) -> np.ndarray:
    """Bytes by which each operator holds less without some layers, [operators].

    Operators of these layers hold nothing; others do not hold what those made.

    Args:
      gone: names of the layers.
      layers: names of all layers, in order.
    """
    mine = np.array([layer_of(name, layers) in gone for name in self._full_names], bool)
    made = np.zeros(len(self._first), bool)
    made[~self._inputs] = mine[self._first[~self._inputs]]
    sizes = aligned(self._sizes)
    return np.where(mine, self._alive @ sizes, self._alive @ (sizes * made))

  def worst(self, gone: Sequence[int]) -> Held:
    """What the operator holds that holds most."""
    sizes = aligned(self._sizes_at(gone))
    number = int(np.argmax(self._alive @ sizes))
    alive = self._alive[number]
    fixed = alive & ~self._inputs & ~self._slopes.any(axis=0)
    return Held(
      self._kinds[number],
      self._names[number],
      int(sizes[alive].sum()),
      int(sizes[alive & self._inputs].sum()),
      int(sizes[fixed].sum()),
      int(alive.sum()),
    )

  def _sizes_at(self, gone: Sequence[int]) -> np.ndarray:
    return np.rint(self._sizes - np.asarray(gone, float) @ self._slopes)


def _sizes(file: OpenFile, spans: dict[int, tuple[int, int]]) -> np.ndarray:
  return np.array([bytes_of(file, number) for number in spans], float)


def _form(file: OpenFile) -> list[tuple]:
  """Kinds of the operators, and which computed tensors each reads and makes, numbered as they come."""
  places = {number: place for place, number in enumerate(spans_of(file))}
  return [
    (op.kind, *([places.get(number) for number in side] for side in (op.inputs, op.outputs)))
    for op in file.operators
  ]
