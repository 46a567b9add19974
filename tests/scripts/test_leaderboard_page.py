"""The page of the leaderboard: names, a paired test by hand, and a table from kept reports."""

import copy
import importlib
import json
import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from secateurs.utils.hits import packed

ROOT = Path(__file__).parents[2]


@pytest.fixture
def board(monkeypatch):
  monkeypatch.syspath_prepend(str(ROOT / 'scripts'))
  return importlib.import_module('leaderboard_page')


@pytest.mark.parametrize(
  ('stem', 'found'),
  [
    ('cp-macs0.5-seed0', ('cp', 'macs0.5', 0)),
    ('l1-sensitivity-macs0.25-seed12', ('l1-sensitivity', 'macs0.25', 12)),
    ('dcp-adapt-own-seed1', ('dcp-adapt', 'own', 1)),
    ('uniform-quant-bits4-seed2', ('uniform-quant', 'bits4', 2)),
    ('dense-seed0', ('dense', 'none', 0)),
    ('l1-macs0.5-seed0-scratch-epochs', ('l1, from scratch (epochs)', 'macs0.5', 0)),
  ],
)
def test_names_of_runs(board, stem, found):
  run = board.run_of(stem, {})
  assert (run.name, run.budget, run.seed) == found
  with pytest.raises(ValueError, match='nothing is no name of a run'):
    board.run_of('nothing', {})


def test_a_paired_test_over_the_seeds_that_both_have(board):
  mine, others = {0: 0.87, 1: 0.875, 2: 0.88, 5: 0.1}, {0: 0.86, 1: 0.868, 2: 0.872}
  mean, p = board.paired(mine, others)
  differences = np.array([0.01, 0.007, 0.008])
  t = differences.mean() / (differences.std(ddof=1) / 3**0.5)
  assert mean == pytest.approx(differences.mean())
  assert p == pytest.approx(2 * stats.t.sf(t, 2), rel=1e-6)
  assert board.paired(mine, {0: 0.5}) == (pytest.approx(0.37), None)
  assert board.paired(mine, mine) == (0, None)
  assert board.paired(mine, {7: 0.5}) is None


def test_mcnemar_counts_the_samples_that_one_network_alone_has_right(board):
  first, second = np.zeros((2, 100), bool)
  first[:14], second[10:16] = True, True  # 10 only the first has, 2 only the second.
  mine, others = {0: packed(first), 3: packed(first)}, {0: packed(second), 1: packed(second)}
  p = sum(math.comb(12, k) for k in (0, 1, 2, 10, 11, 12)) / 2**12
  assert board.mcnemar(mine, others) == pytest.approx(p)
  assert board.mcnemar({0: packed(first)}, {0: packed(first)}) == 1
  assert board.mcnemar(mine, {5: packed(second)}) is None
  assert board.mcnemar(mine, {0: None}) is None
  assert board.mcnemar(mine, {0: packed(second[:50])}) is None


def test_a_table_for_each_budget(board, tmp_path):
  kept = ROOT / 'docs' / 'results' / 'resnet20_cifar10' / 'cp50.json'
  report = json.loads(kept.read_text(encoding='utf-8'))
  for name, shift in (('l1', 0.0), ('cp', 0.01)):
    for seed in range(3):
      own = copy.deepcopy(report)
      own['compressed']['score']['value'] = 0.85 + shift + 0.001 * seed * (1 + shift)
      own['compressed']['score']['hits'] = packed(np.arange(100) < 60 + 1000 * shift)
      (tmp_path / f'{name}-macs0.5-seed{seed}.json').write_text(json.dumps(own), 'utf-8')
  text = board.page(board.read(tmp_path))
  assert 'ResNet' in text or 'resnet' in text
  assert '0.5 of the MACs' in text
  rows = [line for line in text.splitlines() if line.startswith(('| cp', '| l1'))]
  assert rows[0].startswith('| cp | 86.10 ± 0.10 % | 3 |')
  assert '+1.00 (samples p = 0.000, seeds p = 0.000) |' in rows[0]
  assert rows[1].endswith('| - |')
  assert board.read(tmp_path / 'nowhere') == []
