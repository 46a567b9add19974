"""Rows of the leaderboard: what each is given so that all have the same budget."""

import importlib
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
