import dataclasses
import importlib
import importlib.util
import json
import os
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from secateurs.learners import cli
from secateurs.learners.methods import resolve

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / 'README.md', ROOT / 'CONTRIBUTING.md', *sorted((ROOT / 'docs').glob('*.md'))]


def commands(pattern):
  """The command lines of all pages that match a pattern, as words."""
  found = []
  for page in PAGES:
    text = page.read_text(encoding='utf-8').replace('\\\n', ' ')
    lines = re.findall(rf'^\s*(?:SEEDS="0 1 2" )?(\./scripts/{pattern}.*)$', text, re.MULTILINE)
    found += [shlex.split(line, comments=True) for line in lines]
  return found


def update_docs():
  spec = importlib.util.spec_from_file_location('update_docs', ROOT / 'scripts/update_docs.py')
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def test_generated_pages_are_those_of_the_code_and_the_results():
  for path, content in update_docs().pages().items():
    assert path.read_text(encoding='utf-8') == content, f'{path}: run python scripts/update_docs.py'


def test_one_name_that_means_something_else_elsewhere_has_a_row_of_its_own():
  section = update_docs().flag_tables().partition('## Your model, and how')[2].partition('## ')[0]
  for flag in ('preprocess', 'image_size', 'nb_corrupt_max'):
    assert f'`--{flag}`' in section


@pytest.mark.parametrize('script', sorted((ROOT / 'nets').glob('*_run.py')), ids=lambda p: p.stem)
def test_flags_of_every_entry_script_are_on_their_page(script):
  page = (ROOT / 'docs/flags.md').read_text(encoding='utf-8')
  experiment = importlib.import_module(f'secateurs.nets.{script.stem}').experiment()
  for config in experiment.configs:
    for field in dataclasses.fields(config):
      row = f'| `--{config.flag_name(field)}` | '
      assert any(
        line.startswith(row) and line.endswith(f' {field.metadata["help"]} |')
        for line in page.splitlines()
      ), config.flag_name(field)


def test_flags_of_the_command_line_itself_are_on_their_page():
  head = (ROOT / 'docs/flags.md').read_text(encoding='utf-8').partition('\n## ')[0]
  for flag in cli._defined(()):
    assert f'`--{flag}' in head or flag == 'h', flag
  for mode in cli.MODES:
    assert f'`{mode}`' in head


def test_the_readme_stays_short():
  assert len((ROOT / 'README.md').read_text(encoding='utf-8').splitlines()) <= 180


def test_no_placeholder_is_left():
  for page in PAGES:
    assert not re.search(r'^@\w+@$', page.read_text(encoding='utf-8'), re.MULTILINE), page


def test_the_reference_is_built_offline(tmp_path):
  pytest.importorskip('pdoc')
  done = subprocess.run(
    [sys.executable, str(ROOT / 'scripts' / 'build_api.py'), str(tmp_path)],
    capture_output=True, text=True, check=False, cwd=ROOT,
  )  # fmt: skip
  assert done.returncode == 0, done.stderr
  page = (tmp_path / 'secateurs' / 'utils' / 'graph.html').read_text()
  assert 'slice_model' in page


def test_kept_reports_are_whole_reports(tmp_path):
  """Layers, further figures and folders are left out, and it is a report all the same."""
  sys.path.insert(0, str(ROOT / 'tests' / 'deploy'))
  from sample_report import sample_report

  from secateurs.utils.deploy.pages.report import read_report, write_report

  flags = {'seed': 0, 'run_dir': '/somewhere', 'model': '/somewhere/net.h5', 'ws_prune_ratio': 0.5}
  report = {**sample_report(), 'flags': flags}
  write_report(report, tmp_path / 'logs')
  done = subprocess.run(
    [sys.executable, str(ROOT / 'scripts/keep_report.py'), str(tmp_path), str(tmp_path / 'r.json')],
    capture_output=True, text=True, check=False,
  )  # fmt: skip
  assert done.returncode == 0, done.stderr
  kept = read_report(tmp_path / 'r.json')
  assert kept['flags'] == {'seed': 0, 'model': 'net.h5', 'ws_prune_ratio': 0.5}
  assert kept['compressed'] == report['compressed']
  assert kept['layers'] == []


def rows(text):
  """The head and the rows of a printed table, by their first cells."""
  head, _, below = re.search(r'^( +original .*)\n(-+)\n((?:\S.*\n)+)', text, re.MULTILINE).groups()
  return head.split(), {
    row[0]: row[1:] for row in (re.split(r'  +', r) for r in below.splitlines())
  }


def test_the_python_of_the_readme_prints_the_table_of_the_readme(tmp_path):
  """As printed, in a folder and a process of its own, with the Keras that a user has."""
  page = (ROOT / 'README.md').read_text(encoding='utf-8')
  code, printed = re.search(r'```python\n(.*?)```.*?```\n(.*?)```', page, re.DOTALL).groups()
  (tmp_path / 'block.py').write_text(code)
  ours = ('KERAS_BACKEND', 'TF_USE_LEGACY_KERAS')
  done = subprocess.run(
    [sys.executable, 'block.py'],
    cwd=tmp_path, env={name: value for name, value in os.environ.items() if name not in ours},
    capture_output=True, text=True, check=False,
  )  # fmt: skip
  assert done.returncode == 0, done.stderr
  (head, found), (expected_head, expected) = rows(done.stdout), rows(printed)
  assert head == expected_head
  assert len(expected) == 3
  assert {name: len(found[name]) for name in expected} == {n: len(v) for n, v in expected.items()}
  original = next(tmp_path.glob('runs/*/models_cp/original.tflite'))
  assert (tmp_path / 'small.tflite').stat().st_size <= original.stat().st_size / 2


def test_every_file_that_the_readme_names_exists():
  text = (ROOT / 'README.md').read_text(encoding='utf-8')
  links = [link for link in re.findall(r'\]\(([^)#]+)', text) if not link.startswith('http')]
  assert links
  for link in links:
    assert (ROOT / link).exists(), link


def test_every_command_names_scripts_that_exist():
  found = commands(r'\S+')
  assert len(found) >= 10
  for words in found:
    assert (ROOT / words[0]).is_file(), words
    if len(words) > 1 and words[1].startswith('nets/'):
      assert (ROOT / words[1]).is_file(), words


def test_the_launchers_accept_every_command(tmp_path):
  """With --print_command, in one process; the launchers are plain Python without the project."""
  code = (
    'import json, runpy, sys\n'
    'sys.path.insert(0, sys.argv[1])\n'
    'main = runpy.run_path(f"{sys.argv[1]}/__main__.py")["main"]\n'
    'for mode, *words in json.loads(sys.argv[2]):\n'
    '  assert main(mode, [*words, "--print_command"]) == 0, words\n'
  )
  found = commands(r'run_(?:local|docker|seven)\.sh nets/')
  assert len(found) >= 10
  modes = [[re.search(r'run_(\w+)\.sh', words[0])[1], *words[1:]] for words in found]
  done = subprocess.run(
    [sys.executable, '-c', code, str(ROOT / 'scripts' / 'launcher'), json.dumps(modes)],
    cwd=tmp_path, capture_output=True, text=True, check=False,
  )  # fmt: skip
  assert done.returncode == 0, done.stderr
  assert done.stdout.count('_run.py') == len(found)


def test_every_flag_of_the_commands_is_known(capsys):
  """--help comes after the flags are parsed: an unknown flag, or a wrong type, raises."""
  for words in commands(r'run_(?:local|docker|seven)\.sh nets/'):
    flags = [w for w in words[2:] if not re.match(r'-n=', w)]
    for flag in ('--hosts', '--slots', '--image'):
      if flag in flags:
        del flags[flags.index(flag) : flags.index(flag) + 2]
    experiment = runpy.run_path(str(ROOT / words[1]))['experiment']
    assert cli._run(experiment, ['x', *flags, '--help']) == 0
    if '--chain' in flags or 'inspect' in flags:
      continue  # A chain names its learners in its file, and inspect needs none.
    name = flags[flags.index('--learner') + 1]
    learner, method = resolve(name)
    assert name == (learner if method is None else method).name
  assert '--learner' in capsys.readouterr().out
