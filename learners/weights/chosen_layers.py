"""Applies `--layers` to kernels: which may have zeros, and how many weights stay."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from secateurs.learners.run.console import say
from secateurs.learners.run.layer_choice import LayerRule
from secateurs.learners.run.settings import Settings
from secateurs.utils.graph.groups.table import columns


def prunable_names(settings: Settings, names: Collection[str]) -> set[str]:
  """The kernels that may have zeros.

  Raises:
    UserError: a pattern fits no kernel's layer.
  """
  settings.layers.require([_layer(name) for name in names], settings.helper.net)
  return {name for name in names if not _rule(settings, name).skip}


def with_rules(
  settings: Settings, sizes: Mapping[str, int], kept: Mapping[str, int]
) -> dict[str, int]:
  """Weights that stay by kernel name, with ratios and floors; printed where there are any."""
  found = {name: _rule(settings, name).count(sizes[name], n) for name, n in kept.items()}
  if settings.run.layers is not None:
    rows = [
      [name, str(sizes[name]), str(n), str(_rule(settings, name))] for name, n in found.items()
    ]
    say(columns(['kernel', 'weights', 'stay', '--layers'], rows, right=(1, 2)))
  return found


def _rule(settings: Settings, name: str) -> LayerRule:
  return settings.layers.rule([_layer(name)])


def _layer(name: str) -> str:
  """The layer of a kernel's name."""
  return name.split('/')[0]
