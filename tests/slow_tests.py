"""Which tests are slow: measured by --store-slow, kept in slow_tests.txt, marked when collected."""

from __future__ import annotations

import collections
from pathlib import Path

import pytest

LIST = Path(__file__).with_name('slow_tests.txt')


def stored() -> set[str]:
  """Names of the slow tests, relative to this folder."""
  if not LIST.is_file():
    return set()
  lines = LIST.read_text(encoding='utf-8').splitlines()
  return {line for line in lines if line and not line.startswith('#')}


def short(nodeid: str) -> str:
  """A test's name relative to this folder."""
  return nodeid.removeprefix('tests/')


class Store:
  """Adds up what each test takes, its fixtures included, and writes down those that take long.

  Tests that were not run keep their place in the list.
  """

  def __init__(self, seconds: float) -> None:
    """`seconds`: from when on a test is slow."""
    self._seconds = seconds
    self._taken: collections.Counter[str] = collections.Counter()

  def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
    """Called by pytest after each part of a test."""
    self._taken[short(report.nodeid)] += report.duration

  def pytest_sessionfinish(self) -> None:
    """Called by pytest at the end."""
    slow = {name for name, taken in self._taken.items() if taken >= self._seconds}
    names = sorted((stored() - set(self._taken)) | slow)
    head = f'# Tests of {self._seconds:g} s and more, by pytest --store-slow {self._seconds:g}.\n'
    LIST.write_text(head + ''.join(f'{name}\n' for name in names), encoding='utf-8')
