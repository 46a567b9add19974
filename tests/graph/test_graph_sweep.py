"""Single operations and layer kinds: cut exactly, left whole for a reason, or refused.

The table in docs/graph.md comes from here: with SECATEURS_WRITE_TABLES=1 the slow test writes it.
"""

import os
import re
from pathlib import Path

import pytest
import tf_keras as keras
from graph_sweep import LAYERS, MAPS, network, outcome

PAGE = Path(__file__).parents[2] / 'docs' / 'graph.md'
START, END = '<!-- sweep -->\n', '<!-- end of sweep -->'
KINDS = {'operations': {n: lambda f=f: network(f) for n, f in MAPS.items()}, 'layers': LAYERS}
NAMES = [(kind, name) for kind, builders in KINDS.items() for name in builders]


def judged(kind, name):
  keras.backend.clear_session()
  return outcome(KINDS[kind][name]())


def reason(text):
  """A reason without the names that Keras gives."""
  return re.sub(r"^(\w+) '[^']*' ", '', text).removeprefix('activation ')


def tables(found):
  """Markdown: what is cut, as a list, and what is not, with reasons."""
  lines = []
  for kind, builders in KINDS.items():
    cut = [name for name in builders if found[kind, name][0] == 'cut']
    rest = [name for name in builders if found[kind, name][0] != 'cut']
    lines += [f'Of {len(builders)} {kind}, {len(cut)} are cut exactly:', '']
    lines += [', '.join(f'`{name}`' for name in cut) + '.', '']
    lines += [f'| other {kind} | outcome | reason |', '|---|---|---|']
    for name in rest:
      outcome_, text = found[kind, name]
      lines.append(f'| `{name}` | {outcome_} | {reason(text)} |')
    lines.append('')
  return '\n'.join(lines)


@pytest.mark.parametrize(('kind', 'name'), NAMES[::14])
def test_a_sample_of_operations_and_layers(kind, name):
  result, text = judged(kind, name)
  assert result in ('cut', 'whole')
  assert bool(text) == (result == 'whole')


@pytest.mark.slow
@pytest.mark.exhaustive
def test_the_table_of_operations_and_layers():
  assert len(MAPS) >= 150
  assert len(LAYERS) >= 60
  text = tables({(kind, name): judged(kind, name) for kind, name in NAMES})
  page = PAGE.read_text()
  before, after = page.index(START) + len(START), page.index(END)
  if os.environ.get('SECATEURS_WRITE_TABLES'):
    PAGE.write_text(page[:before] + text + page[after:])
  else:
    assert page[before:after] == text
