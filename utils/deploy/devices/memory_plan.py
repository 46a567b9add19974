"""Peak memory of the activations of a .tflite file, by a planner.

A tensor is alive from the operator that makes it to the last one that reads it. The planner places the
tensors greedily by falling size, each at the lowest free offset among those that are alive with it, as
runtimes for microcontrollers do; an arena holds scratch buffers and records of operators beside it.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from secateurs.utils.deploy.int8.opened import OpenFile

ALIGNMENT = 16  # Bytes.


@dataclasses.dataclass(frozen=True)
class Life:
  """A tensor: bytes, and numbers of the first and the last operator that it is alive at."""

  bytes: int
  first: int
  last: int


@dataclasses.dataclass(frozen=True)
class Peak:
  """Memory of activations.

  Attributes:
    bytes: of the planned arena.
    least: bytes of the tensors that are alive at once at the worst operator, which no plan can beat.
    operator: name of what that operator makes.
    kind: of that operator.
  """

  bytes: int
  least: int
  operator: str
  kind: str


def peak_memory(path: str | os.PathLike) -> Peak:
  """The peak of a file's main graph with a batch of 1."""
  return peak_of(Path(path).read_bytes())


def peak_of(content: bytes) -> Peak:
  """The same of the content of a file."""
  file = OpenFile(content)
  lives = lives_of(file)
  alive = [sum(one.bytes for one in lives if one.first <= n <= one.last) for n in _numbers(file)]
  worst = int(np.argmax(alive)) if alive else 0
  if not file.operators:
    return Peak(plan(lives), sum(one.bytes for one in lives), '', '')
  op = file.operators[worst]
  return Peak(plan(lives), alive[worst], file.name(op.outputs[0]).split(';')[0], op.kind)


def lives_of(file: OpenFile) -> list[Life]:
  """The lives of all tensors that are computed or given."""
  return [Life(aligned(bytes_of(file, number)), *span) for number, span in spans_of(file).items()]


def spans_of(file: OpenFile) -> dict[int, tuple[int, int]]:
  """For each tensor that is computed or given the first and the last operator that it is alive at."""
  first: dict[int, int] = dict.fromkeys(file.inputs, 0)
  last: dict[int, int] = dict.fromkeys(file.inputs, 0)
  for op in file.operators:
    for number in (*op.inputs, *op.outputs):
      if number >= 0 and not file.is_constant(number):
        first.setdefault(number, op.number)
        last[number] = op.number
  end = max(len(file.operators) - 1, 0)
  last.update(dict.fromkeys(file.outputs, end))
  return {
    number: (first.get(number, 0), last[number]) for number in last if file.type(number) is not None
  }


def plan(lives: Sequence[Life]) -> int:
  """Bytes of an arena that holds tensors, placed greedily by falling size."""
  placed: list[tuple[int, Life]] = []
  for one in sorted(lives, key=lambda life: (-life.bytes, life.first)):
    offset = 0
    for start, other in sorted(placed, key=lambda entry: entry[0]):
      if other.last < one.first or other.first > one.last:
        continue
      if start >= offset + one.bytes:
        break
      offset = max(offset, start + other.bytes)
    placed.append((offset, one))
  return max((start + one.bytes for start, one in placed), default=0)


def _numbers(file: OpenFile) -> range:
  return range(len(file.operators))


def bytes_of(file: OpenFile, number: int) -> int:
  """Bytes of a tensor."""
  shape = [max(size, 1) for size in file.shape(number)]
  return int(np.prod(shape)) * np.dtype(file.type(number)).itemsize


def aligned(size: Any) -> Any:
  """Bytes that a tensor takes in an arena; of numbers or arrays."""
  return -(-size // ALIGNMENT) * ALIGNMENT
