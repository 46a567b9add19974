"""Scripts that no other test runs import what there is."""

import ast
import importlib
from pathlib import Path

import pytest

SCRIPTS = sorted((Path(__file__).parents[2] / 'scripts').glob('*.py'))


def imported(path):
  """(module, name) of all that a script takes from this project."""
  for node in ast.walk(ast.parse(path.read_text())):
    if isinstance(node, ast.ImportFrom) and (node.module or '').startswith('secateurs'):
      yield from ((node.module, alias.name) for alias in node.names)


@pytest.mark.parametrize('path', SCRIPTS, ids=lambda path: path.stem)
def test_what_a_script_imports_exists(path):
  for module, name in imported(path):
    if not hasattr(importlib.import_module(module), name):
      importlib.import_module(f'{module}.{name}')
