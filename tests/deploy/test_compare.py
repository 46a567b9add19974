"""Comparison of runs, from report.json files alone."""

import json
import re
import subprocess
import sys

import pytest
from sample_report import sample_report

from secateurs.utils.deploy.compare import (
  Entry,
  entries,
  find_reports,
  format_comparison,
  main,
  pareto,
)
from secateurs.utils.deploy.report import read_report, write_report
from secateurs.utils.deploy.rows import report_rows
from secateurs.utils.errors import UserError


def run(folder, learner, seed, accuracy, macs, flags=None, latency=0.3, original=None):
  report = sample_report()
  report.update(
    learner=learner, seed=seed, flags={'seed': seed, 'run_dir': str(folder), **(flags or {})}
  )
  report['compressed'].update(accuracy=accuracy, macs=macs)
  report['compressed']['latency'] = [{'threads': 1, 'p50_ms': latency, 'p90_ms': 1.0, 'fps': 1.0}]
  report['original']['latency'] = [{'threads': 1, 'p50_ms': 0.6, 'p90_ms': 1.0, 'fps': 1.0}]
  report['original'].update({'accuracy': 0.88, 'macs': 40e6} | (original or {}))
  write_report(report, folder)
  return report


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


def test_equal_entries_are_all_on_the_front():
  def entry(name, accuracy, macs):
    return Entry(name, 'net', (1, 1), [], False, [accuracy], {'macs': macs}, {}, None)

  same = [entry('a', 0.8, 5), entry('b', 0.8, 5), entry('dearer', 0.8, 6), entry('worse', 0.7, 5)]
  assert [e.name for e in pareto(same, 'macs')] == ['a', 'b']


def test_networks_whose_files_have_one_name_are_no_seeds(tmp_path):
  timed = [{'threads': 1, 'p50_ms': 0.2, 'p90_ms': 1.0, 'fps': 1.0}]
  run(tmp_path / 'a', 'weight-sparse', 0, 0.86, 40e6)
  run(
    tmp_path / 'b',
    'weight-sparse',
    0,
    0.84,
    20e6,
    latency=0.1,
    original={'macs': 20e6, 'latency': timed},
  )
  found = entries(find_reports([tmp_path]))
  assert [len(e.reports) for e in found] == [1] * 4
  assert len({e.name for e in found}) == 4
  assert {e.values['macs']: e.values['latency'] for e in found if not e.original} == {
    40e6: pytest.approx(0.3),
    20e6: pytest.approx(0.1),
  }


def test_runs_of_one_seed_are_no_seeds(tmp_path):
  for name in 'ab':
    run(tmp_path / name, 'weight-sparse', 0, 0.86, 40e6)
  found = entries(find_reports([tmp_path]))
  names = [f'weight-sparse ({tmp_path / name})' for name in 'ab']
  assert [e.name for e in found] == ['original', *names]
  assert 'seeds' not in format_comparison(found)


def test_baselines_of_several_seeds_are_one_row(tmp_path):
  for seed, accuracy in enumerate((0.88, 0.87)):
    for learner in ('chn-pruned', 'weight-sparse'):
      run(tmp_path / f'{learner}{seed}', learner, seed, 0.86, 20e6, original={'accuracy': accuracy})
  original, *methods = entries(find_reports([tmp_path]))
  assert original.accuracies == [0.88, 0.87]
  assert original.name == 'original'
  assert [len(e.accuracies) for e in methods] == [2, 2]
  run(tmp_path / 'again', 'dis-chn-pruned', 1, 0.86, 20e6, original={'accuracy': 0.85})
  found = entries(find_reports([tmp_path]))
  assert [e.accuracies for e in found if e.original] == [[0.88], [0.87], [0.85]]


def test_a_chain_is_compared_with_what_went_into_its_first_link(tmp_path):
  report = run(tmp_path, 'weight-sparse', 0, 0.84, 20e6, original={'macs': 20e6})
  first = {**report['original'], 'accuracy': 0.9, 'macs': 80e6}
  link = {'learner': 'chn-pruned', 'original': first, 'compressed': report['original']}
  last = {key: report[key] for key in ('learner', 'original', 'compressed')}
  write_report({**report, 'links': [link, last]}, tmp_path)
  original, chain = entries(find_reports([tmp_path]))
  assert original.accuracy == 0.9
  assert chain.name == 'chn-pruned + weight-sparse'
  shares = {row.key: row.share for row in report_rows(read_report(tmp_path / 'report.json'))}
  assert chain.ratios['macs'] == shares['macs'] == pytest.approx(0.25)
  assert chain.ratios['latency'] == pytest.approx(shares['latency/1/p50_ms'])


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
