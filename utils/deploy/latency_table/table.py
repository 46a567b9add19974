"""The table: times of segments over their channels, as a file, and what follows from it."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydantic

from secateurs.utils.errors import UserError
from secateurs.utils.files import atomic_path

SCHEMA = 1


@dataclasses.dataclass
class SegmentTimes:
  """Times of one segment.

  Attributes:
    text: the segment for people.
    inputs: numbers of channels that it takes, rising; those of the output where it makes none.
    outputs: numbers of channels that it makes, rising; one element where it makes none.
    ms: [inputs, outputs], median of a frame, the call of an empty file taken off.
    spread: the largest spread of these medians, as a fraction.
  """

  text: str
  inputs: list[int]
  outputs: list[int]
  ms: list[list[float]]
  spread: float = 0.0

  def at(self, inputs: float, outputs: float) -> float:
    """Time in ms at any numbers of channels: linear between those that were measured."""
    rows = [_linear(outputs, self.outputs, row) for row in self.ms]
    return max(_linear(inputs, self.inputs, rows), 0.0)


@dataclasses.dataclass
class Scale:
  """How times of segments add up in a whole network: measured = offset + factor * sum^power.

  Attributes:
    factor: of the sum.
    offset: ms.
    sums: ms, of the networks that these were fit to.
    measured: ms, of the same.
    power: above 1 where a large network loses more to caches than its segments alone do.
  """

  factor: float
  offset: float
  sums: list[float]
  measured: list[float]
  power: float = 1.0

  def ms(self, total: float) -> float:
    """Time of a network whose segments take so many ms together."""
    return self.offset + self.factor * max(total, 0.0) ** self.power


@dataclasses.dataclass
class LatencyTable:
  """Latencies of segments on one device.

  Attributes:
    device: processor, or what --collect was given.
    runtime: name and version of the interpreter.
    threads: of the interpreter.
    kind: float or int8.
    call_ms: time of a file that computes nothing.
    segments: by key, see `segments.Segment`.
    networks: by fingerprint, how sums become times of whole networks.
    clock: wall, or cpu: that of the thread, which other work on the machine disturbs least.
    schema: version of the file.
  """

  device: str
  runtime: str
  threads: int
  kind: str
  call_ms: float = 0.0
  segments: dict[str, SegmentTimes] = dataclasses.field(default_factory=dict)
  networks: dict[str, Scale] = dataclasses.field(default_factory=dict)
  clock: str = 'wall'
  schema: int = SCHEMA

  def write(self, path: str | os.PathLike) -> None:
    """Writes the file; it appears whole or not at all."""
    with atomic_path(Path(path)) as partial:
      partial.write_text(json.dumps(dataclasses.asdict(self), indent=1) + '\n', encoding='utf-8')

  def scale_of(self, fingerprint: str) -> Scale:
    """How sums become times of a network; of another network of the table, or 1, where unknown."""
    if fingerprint in self.networks:
      return self.networks[fingerprint]
    known = list(self.networks.values())
    return known[0] if known else Scale(1.0, self.call_ms, [], [])


def read_table(path: str | os.PathLike, flag: str = 'latency_table') -> LatencyTable:
  """Reads a table.

  Raises:
    UserError: there is none, or it is no table of this version.
  """
  path = Path(path).expanduser()
  if not path.is_file():
    raise UserError(
      f'--{flag} {path} does not exist: make it with python -m secateurs.utils.deploy.latency_table '
      f'MODEL --out {path}.'
    )
  try:
    found = _parsed(json.loads(path.read_text('utf-8')))
  except (OSError, ValueError, TypeError, RecursionError) as error:
    raise UserError(
      f'--{flag} {path} is no table of latencies: make it again with python -m '
      f'secateurs.utils.deploy.latency_table MODEL --out {path}.'
    ) from error
  if found.schema != SCHEMA:
    raise UserError(
      f'--{flag} {path} has schema {found.schema}, but {SCHEMA} was expected: make it again.'
    )
  return found


def _parsed(values: Any) -> LatencyTable:
  found = pydantic.TypeAdapter(LatencyTable).validate_python(values)
  scales = [number for one in found.networks.values() for number in (one.factor, one.offset)]
  if not np.isfinite([found.call_ms, *scales]).all():
    raise ValueError('a time is not finite')
  for key, times in found.segments.items():
    sides = (len(times.inputs), len(times.outputs))
    rising = all(one and one == sorted(set(one)) for one in (times.inputs, times.outputs))
    if not rising or np.shape(times.ms) != sides or not np.isfinite(times.ms).all():
      raise ValueError(f'{key} has times that are not those of its channels')
  return found


def _linear(place: float, places: Sequence[float], values: Sequence[float]) -> float:
  """Linear between places and beyond the last one, constant below the first."""
  if len(places) == 1:
    return float(values[0])
  if place > places[-1]:
    slope = (values[-1] - values[-2]) / (places[-1] - places[-2])
    return float(values[-1] + max(slope, 0.0) * (place - places[-1]))
  return float(np.interp(place, places, values))
