"""Comparison of runs, from report.json files alone."""

import json
import re
import subprocess
import sys

import pytest
from sample_report import sample_report

from secateurs.utils.deploy.compare import entries, find_reports, format_comparison, main, pareto
from secateurs.utils.deploy.report import write_report
from secateurs.utils.errors import UserError


def run(folder, learner, seed, accuracy, macs, flags=None, latency=0.3):
  report = sample_report()
  report.update(
    learner=learner, seed=seed, flags={'seed': seed, 'run_dir': str(folder), **(flags or {})}
  )
  report['compressed'].update(accuracy=accuracy, macs=macs)
  report['compressed']['latency'] = [{'threads': 1, 'p50_ms': latency, 'p90_ms': 1.0, 'fps': 1.0}]
  report['original']['latency'] = [{'threads': 1, 'p50_ms': 0.6, 'p90_ms': 1.0, 'fps': 1.0}]
  report['original'].update(accuracy=0.88, macs=40e6)
  write_report(report, folder)


@pytest.fixture
def runs(tmp_path):
  run(tmp_path / 'a0', 'chn-pruned', 0, 0.86, 20e6, {'cp_select': 'lasso'})
  run(tmp_path / 'a1', 'chn-pruned', 1, 0.84, 20e6, {'cp_select': 'lasso'})
  run(tmp_path / 'b', 'chn-pruned', 0, 0.87, 20e6, {'cp_select': 'backward'})
  run(tmp_path / 'c' / 'logs', 'dis-chn-pruned', 0, 0.82, 10e6, latency=0.15)
  return tmp_path


def test_seeds_are_one_row_and_flags_tell_methods_apart(runs):
  found = entries(find_reports([runs]))
  assert [e.name for e in found] == [
    'original',
    'chn-pruned, cp_select=backward',
    'chn-pruned, cp_select=lasso',
    'dis-chn-pruned',
  ]
  lasso = found[2]
  assert sorted(lasso.accuracies) == [0.84, 0.86]
  assert lasso.accuracy == pytest.approx(0.85)
  assert len(lasso.reports) == 2
  assert lasso.ratios['macs'] == pytest.approx(0.5)
  assert found[3].values['latency'] == pytest.approx(0.25 * found[0].values['latency'])


def test_the_pareto_front(runs):
  found = entries(find_reports([runs]))
  front = [e.name for e in pareto(found, 'macs')]
  assert front == ['dis-chn-pruned', 'chn-pruned, cp_select=backward', 'original']
  assert 'macs' not in found[2].best
  assert 'macs' in found[3].best


def test_the_table(runs):
  text = format_comparison(entries(find_reports([runs])))
  assert re.search(r'cp_select=lasso +85.00 % \(84.00-86.00, 2 seeds\)', text)
  assert re.search(r'dis-chn-pruned .*10.00 M \(0.25x\) \*', text)


def test_files_and_command_line(runs, tmp_path, capsys):
  out = tmp_path / 'out'
  assert main([str(runs), '--out', str(out)]) == 0
  assert 'dis-chn-pruned' in capsys.readouterr().out
  page = (out / 'compare.html').read_text()
  assert page.count('<svg') == 4
  assert 'http' not in page
  rows = json.loads((out / 'compare.json').read_text())
  assert [row['original'] for row in rows] == [True, False, False, False]


def test_what_is_no_run(tmp_path, capsys):
  with pytest.raises(UserError, match=r'holds no report.json'):
    find_reports([tmp_path])
  (tmp_path / 'report.json').write_text('{}')
  assert main([str(tmp_path)]) == 1
  assert 'is no report of this program' in capsys.readouterr().err


def test_comparing_loads_no_tensorflow(runs):
  code = (
    'import sys; from secateurs.utils.deploy.compare import main;'
    'main(sys.argv[1:]); sys.exit("tensorflow" in sys.modules)'
  )
  out = str(runs / 'out')
  done = subprocess.run([sys.executable, '-c', code, str(runs), '--out', out], capture_output=True)
  assert done.returncode == 0, done.stderr
