"""Marks for tests of which many are alike."""

from collections.abc import Collection, Iterable
from typing import Any

import pytest


def alike(*values: Any, slow: bool = False) -> list:
  """Parameters of tests like others that the suite has: only --exhaustive runs them."""
  marks = [pytest.mark.exhaustive, *([pytest.mark.slow] if slow else [])]
  return [pytest.param(value, marks=marks) for value in values]


def few(values: Iterable, keep: Collection, *, slow: bool = False) -> list:
  """All values as parameters, of which the suite runs those to be kept."""
  return [
    one for value in values for one in ([value] if value in keep else alike(value, slow=slow))
  ]
