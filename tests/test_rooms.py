"""The rooms of the checkout: imports point one way, and no two modules import each other.

All imports count: those inside functions and those for types alone, too.
"""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# From the top of the house to its ground; a module may import its own level's room and what is below.
LEVELS = (
  ('learners.cli', 'learners.__main__'),
  ('learners.methods',),
  ('learners',),  # The learner modules and the registry.
  ('learners.search',),
  ('learners.quant', 'learners.pressure'),
  ('learners.channels', 'learners.weights'),
  ('learners.run',),
  ('utils',),
)
MAX_LINES = 250
# `secateurs.compress` and the command `secateurs`, which tie a learner to a model and data.
FRONTS = ('nets.compress', 'nets.front')


def modules():
  found = {}
  for room in ('learners', 'nets', 'utils'):
    for path in (ROOT / room).rglob('*.py'):
      parts = list(path.relative_to(ROOT).with_suffix('').parts)
      found['.'.join(parts[:-1] if parts[-1] == '__init__' else parts)] = path
  return found


def imports(path, known):
  """Modules of the checkout that a file imports, wherever in the file."""
  for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
    if isinstance(node, ast.Import):
      names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
      assert not node.level, f'{path} has a relative import'
      names = [f'{node.module}.{alias.name}' for alias in node.names]
    else:
      continue
    for name in names:
      name = name.removeprefix('secateurs.')
      while name and name not in known:
        name = name.rpartition('.')[0]
      if name:
        yield name


@pytest.fixture(scope='module')
def graph():
  known = modules()
  return {name: set(imports(path, known)) - {name} for name, path in known.items()}


def components(graph):
  """Strongly connected components of more than one module (Tarjan 1972)."""
  index, low, stack, found = {}, {}, [], []

  def visit(node):
    index[node] = low[node] = len(index)
    stack.append(node)
    for other in graph[node]:
      if other not in index:
        visit(other)
      if other in stack:
        low[node] = min(low[node], low[other])
    if low[node] == index[node]:
      place = stack.index(node)
      if len(stack) - place > 1:
        found.append(sorted(stack[place:]))
      del stack[place:]

  for node in graph:
    if node not in index:
      visit(node)
  return found


def level_of(module):
  for number, prefixes in enumerate(LEVELS):
    for prefix in prefixes:
      inside = module == prefix or (
        module.startswith(f'{prefix}.') and (prefix != 'learners' or module.count('.') == 1)
      )
      if inside:
        return number
  return None


def test_no_two_modules_import_each_other(graph):
  assert components(graph) == []


def test_components_are_found():
  assert components({'a': {'b'}, 'b': {'c'}, 'c': {'b'}, 'd': {'a'}}) == [['b', 'c']]


def test_imports_point_one_way(graph):
  wrong = [
    f'{name} imports {other}'
    for name, others in graph.items()
    for other in others
    if level_of(name) is not None
    and other != 'learners'  # The registry, which imports learner modules by name.
    and (level_of(other) is None or level_of(other) < level_of(name))
  ]
  assert wrong == []


def test_channels_and_weights_do_not_know_each_other(graph):
  for one, other in (
    ('learners.channels', 'learners.weights'),
    ('learners.weights', 'learners.channels'),
  ):
    for name, others in graph.items():
      if name.startswith(one):
        assert not [found for found in others if found.startswith(other)], name


def test_graphs_know_no_other_room_of_utils(graph):
  for name, others in graph.items():
    # The command line reads and writes files of either Keras.
    if name.startswith('utils.graph') and name != 'utils.graph.__main__':
      parts = {other.split('.')[1] for other in others}
      assert {part for part in parts if (ROOT / 'utils' / part).is_dir()} <= {'graph'}, name


def test_learners_know_tasks_by_their_interface(graph):
  tasks = 'utils.training.tasks'
  shared = {
    f'{tasks}.{name}' for name in ('evaluation', 'objectives', 'pictures', 'scores', 'task')
  }
  for name, others in graph.items():
    if name.startswith('learners'):
      assert {other for other in others if other.startswith(tasks)} <= shared, name


def test_only_entry_scripts_of_nets_know_learners(graph):
  for name, others in graph.items():
    if name.startswith('nets.') and name not in FRONTS and not name.endswith('_run'):
      assert not [other for other in others if other.startswith('learners')], name


def test_learners_are_short():
  long = {
    path.name: number
    for path in (ROOT / 'learners').glob('*.py')
    if (number := len(path.read_text(encoding='utf-8').splitlines())) >= MAX_LINES
  }
  assert long == {}


def test_flags_are_read_in_one_place(graph):
  readers = [
    name
    for name, path in modules().items()
    if 'absl import flags' in path.read_text(encoding='utf-8')
  ]
  # The second one makes configs of flags that it is handed, and reads none itself.
  assert sorted(readers) == ['learners.cli', 'utils.flag_values']
