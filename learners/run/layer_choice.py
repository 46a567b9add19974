"""`--layers FILE`: what each layer may lose, in a small YAML file.

  skip: [stem_conv, stage3_*]       # lose nothing
  only: [stage*]                    # all other layers lose nothing
  floors: {stage1_*: 0.5}           # keep at least this fraction
  ratios: {stage2_block1_conv1: 0.25}   # keep just this fraction

Names are those of layers, with * and ? for any letters; of several patterns that fit, the last counts.
For channels a layer stands for those that it makes, for zeros for its kernel.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import json
import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from secateurs.utils.errors import UserError
from secateurs.utils.yaml_files import read_yaml

_KEYS = ('skip', 'only', 'floors', 'ratios')


@dataclasses.dataclass(frozen=True)
class LayerRule:
  """What one layer, or some that lose together, may lose.

  Attributes:
    skip: whether it loses nothing.
    floor: fraction that stays at least, in [0, 1].
    ratio: fraction that stays; None for what the learner decides.
  """

  skip: bool = False
  floor: float = 0.0
  ratio: float | None = None

  def count(self, size: int, wanted: int) -> int:
    """How many of `size` stay where `wanted` would: the ratio's, or at least the floor's."""
    if self.ratio is not None:
      return min(max(round(self.ratio * size), 1), size)
    return min(max(wanted, math.ceil(self.floor * size)), size)

  def __str__(self) -> str:
    if self.skip:
      return 'stays whole'
    if self.ratio is not None:
      return f'keeps {self.ratio:g}'
    return f'keeps at least {self.floor:g}' if self.floor else 'as the learner decides'


@dataclasses.dataclass(frozen=True)
class LayerChoice:
  """The content of the file; empty where there is none."""

  skip: tuple[str, ...] = ()
  only: tuple[str, ...] = ()
  floors: Mapping[str, float] = dataclasses.field(default_factory=dict)
  ratios: Mapping[str, float] = dataclasses.field(default_factory=dict)
  path: str = ''

  def rule(self, names: Collection[str]) -> LayerRule:
    """The rule for layers that lose together."""
    skipped = _fits(self.skip, names) or bool(self.only and not _fits(self.only, names))
    return LayerRule(skipped, _last(self.floors, names) or 0.0, _last(self.ratios, names))

  def require(self, names: Collection[str], net: str) -> None:
    """Checks that each pattern fits a layer.

    Raises:
      UserError: one does not.
    """
    for pattern in (*self.skip, *self.only, *self.floors, *self.ratios):
      if not fnmatch.filter(names, pattern):
        raise UserError(
          f'--layers {self.path} names {pattern!r}, but no layer of {net} has that name: give names or '
          'patterns such as stage1_*; --exec_mode inspect lists the layers.'
        )

  def text(self) -> str:
    """The content in one line: equal for equal choices."""
    values = {key: getattr(self, key) for key in _KEYS}
    return json.dumps({key: value for key, value in values.items() if value})


def read_layers(path: str | None) -> LayerChoice:
  """Reads the file.

  Raises:
    UserError: it is missing, no YAML, or has keys or values that mean nothing.
  """
  if path is None:
    return LayerChoice()
  found = read_yaml(Path(path).expanduser(), '--layers')
  if not isinstance(found, dict) or not set(found) <= set(_KEYS):
    odd = ', '.join(map(str, set(found) - set(_KEYS))) if isinstance(found, dict) else 'no keys'
    raise UserError(f'--layers {path} has {odd}, but of {", ".join(_KEYS)} some were expected.')
  return LayerChoice(
    *(_names(path, key, found.get(key)) for key in ('skip', 'only')),
    *(_fractions(path, key, found.get(key)) for key in ('floors', 'ratios')),
    path=str(path),
  )


def _names(path: str, key: str, value: Any) -> tuple[str, ...]:
  value = [] if value is None else [value] if isinstance(value, str) else value
  if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
    raise UserError(f'--layers {path}: {key} takes a list of names, but {value!r} was given.')
  return tuple(value)


def _fractions(path: str, key: str, value: Any) -> dict[str, float]:
  value = {} if value is None else value
  fits = isinstance(value, dict) and all(
    isinstance(one, (int, float)) and not isinstance(one, bool) and 0 <= one <= 1
    for one in value.values()
  )
  if not fits:
    raise UserError(
      f'--layers {path}: {key} takes names with fractions in [0, 1] that stay, but {value!r} was given.'
    )
  return {str(name): float(one) for name, one in value.items()}


def _fits(patterns: Collection[str], names: Collection[str]) -> bool:
  return any(fnmatch.filter(names, pattern) for pattern in patterns)


def _last(fractions: Mapping[str, float], names: Collection[str]) -> float | None:
  found = [value for pattern, value in fractions.items() if fnmatch.filter(names, pattern)]
  return found[-1] if found else None
