"""Hyper-parameters as frozen dataclasses that know their own flags.

A config class states each field once, with default, help text and valid values. The command line makes
its flags from the same fields (`flag_name`), and constructing a config checks every value.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Collection, Mapping
from typing import Any, ClassVar

from secateurs.utils.errors import UserError


class Default(str):
  """A default text, which differs in type from the same text where a user gave it."""

  __slots__ = ()


def option(
  default: Any,
  help: str,
  *,
  low: float | None = None,
  high: float | None = None,
  choices: Collection[str] | Callable[[], Collection[str]] | None = None,
  affects_result: bool = True,
  used_with: Mapping[str, Any] | None = None,
) -> Any:
  """Declares one hyper-parameter of a `Config`.

  Args:
    default: default value; its type, or the annotation for None, is the flag's type.
    help: one sentence for `--help` and the README.
    low: least valid value, inclusive.
    high: greatest valid value, inclusive.
    choices: valid values of a string, or a function that gives them when a value is checked.
    affects_result: whether a run that is resumed must have been started with the same value.
    used_with: the option has an effect only where this other one, a field or property of the same
      config, has that value, or one of these (a tuple); elsewhere any value but the default is refused.

  Returns:
    A dataclass field.
  """
  metadata = {
    'help': help,
    'low': low,
    'high': high,
    'choices': choices,
    'affects_result': affects_result,
    'used_with': used_with or {},
  }
  if isinstance(default, str):
    default = Default(default)
  return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True)
class Config:
  """Base of all hyper-parameter classes; `prefix` is put before the names of their flags."""

  prefix: ClassVar[str] = ''
  # Properties that `used_with` may name, each with the field that sets it, or, where no value of one
  # field does, with what to give as it is written: `--{prefix}rate above 0`.
  settled_by: ClassVar[Mapping[str, str]] = {}

  def __post_init__(self) -> None:
    for field in dataclasses.fields(self):
      _check(self.flag_name(field), getattr(self, field.name), field.metadata)
    for field in dataclasses.fields(self):
      self._require_used(field)

  @classmethod
  def flag_name(cls, field: dataclasses.Field) -> str:
    """Name of a field's flag, without dashes."""
    return cls.prefix + field.name

  @classmethod
  def with_settings(cls, settings: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Values that were given, and those of a method's settings that have an effect beside them.

    Args:
      settings: of a method, by field.
      given: what the user set, by field; it wins.
    """
    # The values as a config would hold them, without its checks: they may not fit each other yet.
    config = object.__new__(cls)
    for field in dataclasses.fields(cls):
      value = given.get(field.name, settings.get(field.name, field.default))
      object.__setattr__(config, field.name, value)
    fields = {field.name: field for field in dataclasses.fields(cls)}
    useful = {n: v for n, v in settings.items() if n not in fields or config.is_used(fields[n])}
    return {**useful, **given}

  def is_used(self, field: dataclasses.Field) -> bool:
    """Whether a field has an effect beside the others' values."""
    return not self._unmet(field)

  def _unmet(self, field: dataclasses.Field) -> dict[str, tuple[Any, ...]]:
    """The other options without which a field has no effect, with the values that they should have."""
    conditions = field.metadata.get('used_with', {})
    wanted = {k: v if isinstance(v, tuple) else (v,) for k, v in conditions.items()}
    return {name: values for name, values in wanted.items() if getattr(self, name) not in values}

  def _require_used(self, field: dataclasses.Field) -> None:
    value, unmet = getattr(self, field.name), self._unmet(field)
    if not unmet or value == field.default:
      return
    other, values = next(iter(unmet.items()))
    settled = self.settled_by.get(other, other)
    if settled.startswith('--'):
      raise UserError(
        f'{_flag_text(self.flag_name(field), value)} has an effect only with '
        f'{settled.format(prefix=self.prefix)}: give that, or leave --{self.flag_name(field)} out.'
      )
    flag = self.prefix + settled
    remedy = _flag_text(flag, values[0])
    raise UserError(
      f'{_flag_text(self.flag_name(field), value)} has an effect only with {remedy}, but '
      f'{_flag_text(flag, getattr(self, other))} is set: add {remedy}, or leave '
      f'--{self.flag_name(field)} out.'
    )

  def as_flags(self, *, affecting_result: bool = False) -> dict[str, Any]:
    """Maps flag names to values; only those that change a run's result if asked."""
    return {
      self.flag_name(field): getattr(self, field.name)
      for field in dataclasses.fields(self)
      if field.metadata.get('affects_result', True) or not affecting_result
    }

  @property
  def data_defaults(self) -> Mapping[str, Any]:
    """Defaults of the data's flags that a learner with this config has in place of the usual ones."""
    return {}

  @classmethod
  def default_flags(cls) -> dict[str, Any]:
    """Maps flag names to default values."""
    return {cls.flag_name(field): field.default for field in dataclasses.fields(cls)}


def _flag_text(name: str, value: Any) -> str:
  """A flag as it is written on the command line."""
  if isinstance(value, bool):
    return f'--{name}' if value else f'--no{name}'
  return f'--{name} {value}'


def _check(flag: str, value: Any, rules: Any) -> None:
  if value is None:
    return
  choices, low, high = rules.get('choices'), rules.get('low'), rules.get('high')
  choices = choices() if callable(choices) else choices
  if choices is not None and value not in choices:
    raise UserError(f'--{flag} takes one of {", ".join(choices)}, but {value!r} was given.')
  if low is None and high is None:
    return
  if not isinstance(value, (int, float)) or not math.isfinite(value):
    raise UserError(f'--{flag} takes a finite number, but {value!r} was given.')
  if (low is not None and value < low) or (high is not None and value > high):
    if high is None:
      expected = f'a value of at least {low}'
    elif low is None:
      expected = f'a value of at most {high}'
    else:
      expected = f'a value in [{low}, {high}]'
    raise UserError(f'--{flag} takes {expected}, but {value} was given.')
