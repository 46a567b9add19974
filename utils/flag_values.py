"""Configs from flags: one flag for each field, by its name, type and default."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping
from typing import Any

from absl import flags

from secateurs.utils.config import Config


def define_flags(config_class: type[Config], values: flags.FlagValues) -> None:
  """Defines one flag per field of a config class; a name that is taken raises."""
  hints = typing.get_type_hints(config_class)
  for field in dataclasses.fields(config_class):
    name, help_ = config_class.flag_name(field), field.metadata['help']
    kinds = [k for k in typing.get_args(hints[field.name]) if k is not type(None)]
    kind = kinds[0] if kinds else hints[field.name]
    define = {
      bool: flags.DEFINE_boolean,
      int: flags.DEFINE_integer,
      float: flags.DEFINE_float,
      str: flags.DEFINE_string,
    }[kind]
    define(name, field.default, help_, flag_values=values)


def read_config(config_class: type[Config], values: flags.FlagValues) -> Config:
  """Makes a config from its flags.

  Raises:
    UserError: a value out of range.
  """
  fields = dataclasses.fields(config_class)
  return config_class(**{f.name: values[config_class.flag_name(f)].value for f in fields})


def apply_settings(
  settings: Mapping[str, Any], config_class: type[Config], values: flags.FlagValues
) -> None:
  """Sets flags to a method's settings, except those that were given or have no effect beside them."""
  prefix = config_class.prefix
  names = [config_class.flag_name(field) for field in dataclasses.fields(config_class)]
  given = {n.removeprefix(prefix): values[n].value for n in names if values[n].present}
  own = {name.removeprefix(prefix): v for name, v in settings.items() if name in names}
  chosen = {prefix + name: v for name, v in config_class.with_settings(own, given).items()}
  chosen |= {name: v for name, v in settings.items() if name not in names}
  for name, value in chosen.items():
    if not values[name].present:
      values[name].value = value
