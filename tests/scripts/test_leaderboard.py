"""Rows of the leaderboard: what each is given so that all have the same budget."""

import importlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from secateurs.learners import learners
from secateurs.learners.methods import METHODS, config_of, resolve
from secateurs.utils.errors import UserError

BUDGETS = {'macs': [0.5, 0.25], 'zeros': [0.75], 'bits': [4]}


@pytest.fixture
def board(monkeypatch):
  monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / 'scripts'))
  return importlib.import_module('leaderboard_rows')


@pytest.mark.parametrize(
  ('name', 'budgets', 'flags'),
  [
    ('cp', ['macs0.5', 'macs0.25'], ('--cp_preserve_ratio', '0.5')),
    ('thinet', ['macs0.5', 'macs0.25'], ('--cp_preserve_ratio', '0.5')),
    ('amc', ['macs0.5', 'macs0.25'], ('--cp_preserve_ratio', '0.5')),
    ('dcp', ['macs0.5', 'macs0.25'], ('--dcp_preserve_ratio', '0.5')),
    ('dcp-adapt', ['own'], ()),
    (
      'chn-pruned',
      ['macs0.5', 'macs0.25'],
      ('--cp_prune_option', 'auto', '--cp_preserve_ratio', '0.5'),
    ),
    ('l1', ['macs0.5', 'macs0.25'], ('--fp_preserve_ratio', '0.5')),
    ('chex', ['macs0.5', 'macs0.25'], ('--pr_preserve_ratio', '0.5')),
    ('block-drop', ['macs0.5', 'macs0.25'], ('--js_max_macs', '500')),
    ('joint-search', ['macs0.5', 'macs0.25'], ('--js_max_macs', '500')),
    ('weight-sparse', ['zeros0.75'], ('--ws_prune_ratio', '0.75')),
    ('agp', ['zeros0.75'], ('--ws_prune_ratio', '0.75')),
    ('deep-compression', ['zeros0.75'], ('--nuql_prune_ratio', '0.75')),
    ('uniform-quant', ['bits4'], ('--uql_weight_bits', '4')),
    ('non-uniform-quant', ['bits4'], ('--nuql_weight_bits', '4')),
  ],
)
def test_a_row_has_the_budget_of_its_kind(board, name, budgets, flags):
  rows = board.rows_of(name, BUDGETS, 1000, [])
  assert [row.budget for row in rows] == budgets
  assert rows[0].flags == flags


def test_flags_of_every_row_are_taken(board):
  for name in (*METHODS, *(one for one in learners() if one != 'full-prec')):
    learner, method = resolve(name)
    for row in board.rows_of(name, BUDGETS, 1000, []):
      words = dict(zip(row.flags[::2], row.flags[1::2], strict=True))
      given = {flag.removeprefix(f'--{learner.Config.prefix}'): v for flag, v in words.items()}
      fields = {k: v if k in ('prune_option', 'max_macs') else float(v) for k, v in given.items()}
      assert learner.Config(**fields) if method is None else config_of(name, **fields)


def test_what_has_no_budget_is_said(board):
  with pytest.raises(UserError, match='block-drop needs the MACs of the network'):
    board.rows_of('block-drop', BUDGETS, None, [])
  given = ['--uql_equivalent_bits', '4']
  assert [row.budget for row in board.rows_of('uniform-quant', BUDGETS, None, given)] == ['own']
  assert board.names_of(['methods']) == list(METHODS)
  assert 'full-prec' not in board.names_of([])


RUN = """#!/usr/bin/env bash
echo "run $*" >>calls
while [ $# -gt 0 ]; do case "$1" in --run_dir) d="$2" ;; --learner) l="$2" ;; esac; shift; done
[ "$l" != l1 ] || exit 3
mkdir -p "$d/logs/$l" "$d/models_${l}_eval"
echo '{}' >"$d/logs/$l/report.json"
touch "$d/models_${l}_eval/model.keras"
"""
PYTHON = """#!/usr/bin/env bash
case "$1" in
  -c | -) exec python3 "$@" ;;
  -m) echo "compare $*" >>calls ;;
  scripts/train_from_scratch.py)
    echo "scratch $*" >>calls
    while [ $# -gt 0 ]; do [ "$1" != --run_dir ] || d="$2"; shift; done
    mkdir -p "$d/logs/scratch"
    echo '{"original": {"macs": 1000}}' >"$d/logs/scratch/report.json"
    ;;
  *)
    echo "rows $*" >>calls
    printf '%s\\t%s\\t%s\\n' cp macs0.5 '--cp_preserve_ratio 0.5' l1 macs0.5 '' uql bits4 '--uql_bits 4'
    ;;
esac
"""


@pytest.mark.parametrize('jobs', [1, 2])
def test_a_run_that_fails_does_not_end_the_others(jobs, tmp_path):
  """The script itself, with stand-ins for what it starts."""
  scripts = tmp_path / 'scripts'
  scripts.mkdir()
  shutil.copy(Path(__file__).parents[2] / 'scripts' / 'leaderboard.sh', scripts)
  (scripts / 'env.sh').write_text(f'PATH={tmp_path}:$PATH\n')
  for path, text in ((scripts / 'run_local.sh', RUN), (tmp_path / 'python', PYTHON)):
    path.write_text(text)
    path.chmod(0o755)
  done = subprocess.run(
    [str(scripts / 'leaderboard.sh'), 'nets/x.py', '--export_int8'],
    env=os.environ | {'OUT': 'out', 'SEEDS': '0 1', 'JOBS': str(jobs)},
    capture_output=True,
    text=True,
  )
  assert done.returncode == 1
  assert 'These runs failed; run the command again' in done.stderr
  assert 'l1-macs0.5-seed0 l1-macs0.5-seed1' in done.stderr
  calls = (tmp_path / 'calls').read_text().splitlines()
  count = {kind: sum(call.startswith(kind) for call in calls) for kind in ('run', 'scratch')}
  # The baseline and three rows; the dense network and cp's slim one twice: uql's is not slim.
  assert count == {'run': 1 + 2 * 3, 'scratch': 2 + 2 * 2}
  (rows,) = (call for call in calls if call.startswith('rows'))
  assert rows.endswith('--given=--export_int8 --whole 1000')
  compared = calls[-1].split()
  assert calls[-1].startswith('compare')
  for name in ('out/dense-seed1', 'out/cp-macs0.5-seed0-scratch-macs', 'out/uql-bits4-seed1'):
    assert name in compared
  assert not any('l1-macs0.5' in word for word in compared)
