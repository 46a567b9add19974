"""Marks for tests of which many are alike."""

from typing import Any

import pytest


def alike(*values: Any, slow: bool = False) -> list:
  """Parameters of tests like others that the suite has: only --exhaustive runs them."""
  marks = [pytest.mark.exhaustive, *([pytest.mark.slow] if slow else [])]
  return [pytest.param(value, marks=marks) for value in values]
