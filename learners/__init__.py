"""Compression algorithms by name, and published methods that are settings of them.

A learner is one module of this package with one `@register`ed class; a method is a row of `methods`.
"""

from __future__ import annotations

import importlib
from typing import TypeVar

from secateurs.utils.errors import UserError
from secateurs.utils.registry import unknown

_MODULES = (
  'full_precision',
  'weight_sparse',
  'channel_pruned',
  'dis_chn_pruned',
  'filter_pruned',
  'reg_pruned',
  'gate_pruned',
  'prune_regrow',
  'uniform_quant',
  'non_uniform_quant',
  'joint_search',
)
_LEARNERS: dict[str, type] = {}
L = TypeVar('L', bound=type)


def register(learner: L) -> L:
  """Makes a learner known under its `name` and its `aliases`; a decorator of its class.

  Args:
    learner: a class with `name`, `aliases` and `Config`, whose flags the command line then has; see
      `run.compression.CompressionLearner` and docs/extend.md.

  Returns:
    The class itself.

  Raises:
    ValueError: another learner has the name.
  """
  for name in (learner.name, *learner.aliases):
    if _LEARNERS.get(name, learner) is not learner:
      raise ValueError(f'Two learners have the name {name}: {_LEARNERS[name]} and {learner}.')
    _LEARNERS[name] = learner
  return learner


def learners() -> dict[str, type]:
  """All learner classes by their names, aliases left out; this package's come first, in a fixed order.

  The order does not depend on which modules were imported before.
  """
  modules = [importlib.import_module(f'{__name__}.{module}').__name__ for module in _MODULES]
  own = [learner for learner in _LEARNERS.values() if learner.__module__ in modules]
  own.sort(key=lambda learner: modules.index(learner.__module__))
  found = dict.fromkeys([*own, *_LEARNERS.values()])
  return {learner.name: learner for learner in found}


def get_learner(name: str) -> type:
  """Finds a learner class by name or alias.

  Raises:
    UserError: no learner has that name; the message suggests the most similar one.
  """
  known = learners()
  if name in _LEARNERS:
    return _LEARNERS[name]
  raise UserError(unknown('learner', name, {**known, **_LEARNERS}))
