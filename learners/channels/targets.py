"""Targets that say how much stays: what each asks for, and which flags do not go together."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from secateurs.learners.channels.allocation.amc_config import AMC
from secateurs.utils.config import Config
from secateurs.utils.errors import UserError

TARGETS = ('preserve_ratio', 'target_latency', 'target_ram')
"""Options of which each says how much stays."""


def keeps_all_filters(config: Config, options: Sequence[str]) -> str | None:
  """The flag of a ranking of filters that asks for all of them to stay; None where some may go.

  Args:
    config: has `preserve_ratio`, `target_latency`, `target_ram`, `prune_option` and `prune_ratio`.
    options: those of `prune_option` that its ratio decides.
  """
  if config.preserve_ratio == 1:
    return f'--{config.prefix}preserve_ratio 1'
  if any(getattr(config, name) is not None for name in TARGETS):
    return None
  if config.prune_ratio == 0 and config.prune_option in options:
    return f'--{config.prefix}prune_ratio 0'
  return None


def refuse_beside_targets(config: Config, names: Sequence[str]) -> None:
  """Checks that no option is given which a target replaces.

  Raises:
    UserError: one differs from its default.
  """
  targets = [name for name in TARGETS if getattr(config, name) is not None]
  defaults = {field.name: field.default for field in dataclasses.fields(config)}
  given = [name for name in names if getattr(config, name) != defaults[name]]
  if targets and given:
    raise UserError(
      f'--{config.prefix}{given[0]} {getattr(config, given[0]):g} has no effect beside '
      f'--{config.prefix}{targets[0]}, which says how much stays: leave one of them out.'
    )


def refuse_two_targets(config: Config) -> None:
  """Checks that no more than one target is given.

  Raises:
    UserError: two are.
  """
  given = [name for name in TARGETS if getattr(config, name) is not None]
  if len(given) > 1:
    raise UserError(
      f'--{config.prefix}{given[0]} and --{config.prefix}{given[1]} both say how much stays: '
      'leave one of them out.'
    )


def refuse_targets_of_agent(config: Config) -> None:
  """Checks that no latency or memory is asked of the agent, whose budgets are MACs.

  Raises:
    UserError: one is.
  """
  given = [name for name in ('target_latency', 'target_ram') if getattr(config, name) is not None]
  if config.prune_option == AMC and given:
    raise UserError(
      f'--{config.prefix}prune_option amc has a budget of MACs, but --{config.prefix}{given[0]} '
      f'was given: give --{config.prefix}preserve_ratio in its place.'
    )


def require_target(config: Config) -> None:
  """Checks that a table of latencies came with a target.

  Raises:
    UserError: it did not.
  """
  if config.latency_table is not None and config.target_latency is None:
    raise UserError(
      f'--{config.prefix}latency_table says how latencies follow from widths, but no target was given: '
      f'give --{config.prefix}target_latency, too.'
    )
