"""The code of the guides runs as it stands."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MOST_LINES = {'learner': 40, 'criterion': 15, 'method': 20, 'net': 40, 'data': 40}
SHORT = ['--nb_epochs_rat', '0.05', '--bench_frames', '3', '--bench_threads', '1']


def code_blocks(page):
  return re.findall(r'```python\n(.*?)```', (ROOT / 'docs' / page).read_text(), flags=re.DOTALL)


def python(*command):
  done = subprocess.run([sys.executable, *command], cwd=ROOT, capture_output=True, text=True)
  assert done.returncode == 0, done.stdout + done.stderr
  return done.stdout


@pytest.fixture(scope='module')
def extensions():
  return dict(zip(MOST_LINES, code_blocks('extend.md'), strict=True))


@pytest.mark.parametrize('kind', MOST_LINES)
def test_extensions_are_short(extensions, kind):
  lines = [line for line in extensions[kind].splitlines() if line.strip()]
  assert len(lines) < MOST_LINES[kind]


def test_a_learner_of_ones_own(extensions, tmp_path):
  (tmp_path / 'random_sparse.py').write_text(extensions['learner'])
  run = (
    f'import sys; sys.path.insert(0, {str(tmp_path)!r}); import random_sparse\n'
    'from secateurs.learners import cli\n'
    'from secateurs.nets.experiments import LENET_AT_DIGITS\n'
    f'argv = ["x", "--learner", "random-sparse", "--run_dir", {str(tmp_path / "run")!r}, '
    f'"--rs_prune_ratio", "0.3", *{SHORT!r}]\n'
    'cli.main(lambda: LENET_AT_DIGITS, argv)\n'
  )
  assert re.search(r'zeros in prunable kernels +0.00 % +(29|30|31)\.', python('-c', run))


def test_a_criterion_and_a_method_of_ones_own(extensions, tmp_path):
  (tmp_path / 'mine.py').write_text(extensions['criterion'] + extensions['method'])
  run = (
    f'import sys; sys.path.insert(0, {str(tmp_path)!r}); import mine\n'
    'from secateurs.learners import cli\n'
    'from secateurs.nets.experiments import LENET_AT_DIGITS\n'
    f'argv = ["x", "--learner", "thin", "--cp_select", "spread", "--nocp_compare", '
    f'"--run_dir", {str(tmp_path / "run")!r}, *{SHORT!r}]\n'
    'cli.main(lambda: LENET_AT_DIGITS, argv)\n'
  )
  assert 'chn-pruned: lenet on digits' in python('-c', run).replace(
    'thin (chn-pruned)', 'chn-pruned'
  )
  report = json.loads((tmp_path / 'run/logs/chn-pruned/report.json').read_text())
  assert report['method'] == 'thin'
  assert (report['flags']['cp_select'], report['flags']['cp_refit']) == ('spread', False)


@pytest.mark.parametrize(('kind', 'learner'), [('net', 'chn-pruned'), ('data', 'weight-sparse')])
def test_a_net_and_a_data_set_of_ones_own(extensions, tmp_path, kind, learner):
  script = tmp_path / 'own_run.py'
  script.write_text(extensions[kind])
  flags = ['--learner', learner, '--run_dir', str(tmp_path / 'run')]
  out = python(str(script), *flags, *SHORT)
  assert 'accuracy' in out


def test_the_python_guide(tmp_path):
  model, functions, outputs = code_blocks('own_model.md')
  code = '\n'.join([model, functions, outputs]).replace('/tmp/mine', str(tmp_path))
  out = python('-c', code)
  assert 'macs_ratio' in out
  assert re.search(r"^\{'found_reds': [01]\.\d+\}$", out, flags=re.MULTILINE)
  assert re.findall(r'^finetune (\d) ', out, flags=re.MULTILINE) == ['0', '1']
  assert len((tmp_path / 'epochs.csv').read_text().splitlines()) == 3
  assert out.endswith('(None, 3)\n')
  assert (tmp_path / 'small.tflite').stat().st_size > 1000


@pytest.mark.slow
def test_the_guide_of_tasks(tmp_path):
  choice, own = code_blocks('tasks.md')
  assert len([line for line in own.splitlines() if line.strip()]) < 45  # With data and model.
  code = (choice + own).replace('/tmp/tasks', str(tmp_path))
  out = python('-c', code)
  assert '\nregression mae\n' in out
  assert "'name': 'degrees'" in out.splitlines()[-1]
  assert "'higher_is_better': False" in out.splitlines()[-1]


def test_the_guide_of_tasks_lists_the_tested_kinds():
  kinds = (ROOT / 'tests' / 'kinds' / 'kinds.py').read_text()
  names = re.findall(r'^@kind\ndef (\w+)', kinds, flags=re.MULTILINE)
  listed = (ROOT / 'docs' / 'tasks.md').read_text().partition('## Tested kinds')[2]
  assert len(names) > 30
  assert re.findall(r'`(\w+)` \|', listed) == names


@pytest.mark.slow
def test_the_guide_of_keras3(tmp_path):
  run, mapping = code_blocks('keras3.md')
  code = run.replace('nb_epochs_ft=2', f'nb_epochs_ft=2, run_dir={str(tmp_path)!r}, bench_frames=2')
  out = python('-c', code.replace('/tmp/small', str(tmp_path / 'small')) + mapping)
  assert 'Taken over from the compiled model' in out
  assert (tmp_path / 'small.keras').stat().st_size > 1000
