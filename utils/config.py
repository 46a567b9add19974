"""Hyper-parameters as frozen dataclasses that know their own flags.

A config class states each field once, with default, help text and valid values. The command line makes
its flags from the same fields (`flag_name`), and constructing a config checks every value.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Collection
from typing import Any, ClassVar

from secateurs.utils.errors import UserError


class Default(str):
  """A default text, which can be told from the same text where a user gave it."""

  __slots__ = ()


def option(
  default: Any,
  help: str,
  *,
  low: float | None = None,
  high: float | None = None,
  choices: Collection[str] | Callable[[], Collection[str]] | None = None,
  affects_result: bool = True,
) -> Any:
  """Declares one hyper-parameter of a `Config`.

  Args:
    default: default value; its type, or the annotation for None, is the flag's type.
    help: one sentence for `--help` and the README.
    low: least valid value, inclusive.
    high: greatest valid value, inclusive.
    choices: valid values of a string, or a function that gives them when a value is checked.
    affects_result: whether a run that is resumed must have been started with the same value.

  Returns:
    A dataclass field.
  """
  metadata = {
    'help': help,
    'low': low,
    'high': high,
    'choices': choices,
    'affects_result': affects_result,
  }
  if isinstance(default, str):
    default = Default(default)
  return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True)
class Config:
  """Base of all hyper-parameter classes; `prefix` is put before the names of their flags."""

  prefix: ClassVar[str] = ''

  def __post_init__(self) -> None:
    for field in dataclasses.fields(self):
      _check(self.flag_name(field), getattr(self, field.name), field.metadata)

  @classmethod
  def flag_name(cls, field: dataclasses.Field) -> str:
    """Name of a field's flag, without dashes."""
    return cls.prefix + field.name

  def as_flags(self, *, affecting_result: bool = False) -> dict[str, Any]:
    """Maps flag names to values; only those that change a run's result if asked."""
    return {
      self.flag_name(field): getattr(self, field.name)
      for field in dataclasses.fields(self)
      if field.metadata.get('affects_result', True) or not affecting_result
    }


def _check(flag: str, value: Any, rules: Any) -> None:
  if value is None:
    return
  choices, low, high = rules.get('choices'), rules.get('low'), rules.get('high')
  choices = choices() if callable(choices) else choices
  if choices is not None and value not in choices:
    raise UserError(f'--{flag} takes one of {", ".join(choices)}, but {value!r} was given.')
  if low is None and high is None:
    return
  if not isinstance(value, (int, float)) or math.isnan(value):
    raise UserError(f'--{flag} takes a number, but {value!r} was given.')
  if (low is not None and value < low) or (high is not None and value > high):
    if high is None:
      expected = f'a value of at least {low}'
    elif low is None:
      expected = f'a value of at most {high}'
    else:
      expected = f'a value in [{low}, {high}]'
    raise UserError(f'--{flag} takes {expected}, but {value} was given.')
