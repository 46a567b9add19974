"""Compression algorithms by name.

A learner is one module of this package with one `@register`ed class.
"""

from __future__ import annotations

import difflib
import importlib
from typing import TYPE_CHECKING

from secateurs.utils.errors import UserError

if TYPE_CHECKING:
  from secateurs.learners.abstract_learner import Learner

_MODULES = ('full_precision', 'weight_sparse', 'channel_pruned', 'dis_chn_pruned')
_LEARNERS: dict[str, type[Learner]] = {}


def register(learner: type[Learner]) -> type[Learner]:
  """Makes a learner known under its `name` and its `aliases`.

  Raises:
    ValueError: the name is taken.
  """
  for name in (learner.name, *learner.aliases):
    if _LEARNERS.get(name, learner) is not learner:
      raise ValueError(f'Two learners are called {name}: {_LEARNERS[name]} and {learner}.')
    _LEARNERS[name] = learner
  return learner


def learners() -> dict[str, type[Learner]]:
  """All learners by their names, aliases left out; this package's come first, in `_MODULES`' order.

  The order is the same whoever imported which learner's module before.
  """
  modules = [importlib.import_module(f'{__name__}.{module}').__name__ for module in _MODULES]
  own = [learner for learner in _LEARNERS.values() if learner.__module__ in modules]
  own.sort(key=lambda learner: modules.index(learner.__module__))
  found = dict.fromkeys([*own, *_LEARNERS.values()])
  return {learner.name: learner for learner in found}


def get_learner(name: str) -> type[Learner]:
  """Finds a learner by name or alias.

  Raises:
    UserError: no learner is called so; the nearest name is told.
  """
  known = learners()
  if name in _LEARNERS:
    return _LEARNERS[name]
  near = difflib.get_close_matches(name, _LEARNERS, 1)
  hint = f', did you mean {near[0]}' if near else ''
  raise UserError(f'--learner takes one of {", ".join(known)}, but {name} was given{hint}.')
