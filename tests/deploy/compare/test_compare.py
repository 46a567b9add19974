"""Comparison of runs, from report.json files alone."""

import json
import re
import subprocess
import sys

import pytest
from sample_report import error, sample_report, score

from secateurs.utils.deploy.compare import (
  Entry,
  entries,
  find_reports,
  format_comparison,
  main,
  pareto,
  ranked_groups,
  render_page,
)
from secateurs.utils.deploy.pages.report import read_report, write_report
from secateurs.utils.deploy.reports.rows import report_rows
from secateurs.utils.deploy.reports.scores import kind_of
from secateurs.utils.errors import UserError


def run(folder, learner, seed, value, macs, flags=None, latency=0.3, original=None):
  report = sample_report()
  report.update(
    learner=learner, seed=seed, flags={'seed': seed, 'run_dir': str(folder), **(flags or {})}
  )
  result = value if isinstance(value, dict) else score(value)
  report['compressed'].update(score=result, macs=macs)
  report['compressed']['latency'] = [{'threads': 1, 'p50_ms': latency, 'p90_ms': 1.0, 'fps': 1.0}]
  report['original']['latency'] = [{'threads': 1, 'p50_ms': 0.6, 'p90_ms': 1.0, 'fps': 1.0}]
  report['original'].update({'score': score(0.88), 'macs': 40e6} | (original or {}))
  write_report(report, folder)
  return report


ACCURACY = kind_of(score(0.5))


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
  assert sorted(lasso.scores) == [0.84, 0.86]
  assert lasso.score == pytest.approx(0.85)
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
  def entry(name, value, macs):
    values = {'macs': macs}
    return Entry(name, 'net', ACCURACY, (1, 1), [], False, [value], 0.01, None, values, {}, None)

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


def test_names_have_the_flags_that_differ_and_are_set(tmp_path):
  run(tmp_path / 'a', 'uniform-quant', 0, 0.88, 40e6, flags={'bits': 8, 'mean': 4.0, 'tune': True})
  run(tmp_path / 'b', 'uniform-quant', 0, 0.87, 40e6, flags={'bits': 4, 'mean': None, 'tune': True})
  names = {entry.name for entry in entries(find_reports([tmp_path])) if not entry.original}
  assert names == {'uniform-quant, bits=8, mean=4', 'uniform-quant, bits=4'}


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
      run(
        tmp_path / f'{learner}{seed}',
        learner,
        seed,
        0.86,
        20e6,
        original={'score': score(accuracy)},
      )
  original, *methods = entries(find_reports([tmp_path]))
  assert original.scores == [0.88, 0.87]
  assert original.name == 'original'
  assert [len(e.scores) for e in methods] == [2, 2]
  run(tmp_path / 'again', 'dis-chn-pruned', 1, 0.86, 20e6, original={'score': score(0.85)})
  found = entries(find_reports([tmp_path]))
  assert [e.scores for e in found if e.original] == [[0.88], [0.87], [0.85]]


@pytest.mark.parametrize(
  'content',
  ['{"report"', '{}', '[]', '{"report": 3}', '\xff', '[' * 99_999],
  ids=['cut', 'nothing', 'list', 'number', 'bytes', 'deep'],
)
def test_a_damaged_summary_of_a_chain_is_a_sentence(runs, content):
  path = runs / 'chain.json'
  path.write_bytes(content.encode('latin-1'))
  with pytest.raises(UserError, match=f'{path} is no summary of a chain') as error:
    find_reports([runs])
  assert '\n' not in str(error.value)


def test_a_chain_is_compared_with_what_went_into_its_first_link(tmp_path):
  report = run(tmp_path, 'weight-sparse', 0, 0.84, 20e6, original={'macs': 20e6})
  first = {**report['original'], 'score': score(0.9), 'macs': 80e6}
  link = {'learner': 'chn-pruned', 'original': first, 'compressed': report['original']}
  link['seconds_total'] = 1000.0
  last = {key: report[key] for key in ('learner', 'original', 'compressed', 'seconds_total')}
  write_report({**report, 'links': [link, last]}, tmp_path)
  original, chain = entries(find_reports([tmp_path]))
  assert original.score == 0.9
  assert chain.name == 'chn-pruned + weight-sparse'
  shares = {row.key: row.share for row in report_rows(read_report(tmp_path / 'report.json'))}
  assert chain.seconds == 1000.0 + report['seconds_total']
  assert chain.ratios['macs'] == shares['macs'] == pytest.approx(0.25)
  assert chain.ratios['latency'] == pytest.approx(shares['latency/1/p50_ms'])


def test_the_table(runs):
  text = format_comparison(entries(find_reports([runs])))
  assert re.search(r'cp_select=lasso +85.00 % \(84.00-86.00, 2 seeds\)', text)
  assert re.search(r'dis-chn-pruned .*10.00 M \(0.25x\) \*', text)


def test_flags_of_a_later_version_make_no_other_method(tmp_path):
  run(tmp_path / '0', 'chn-pruned', 0, 0.86, 20e6, {'cp_select': 'lasso'})
  run(tmp_path / '1', 'chn-pruned', 1, 0.84, 20e6, {'cp_select': 'lasso', 'cp_jobs': 1})
  _, both = entries(find_reports([tmp_path]))
  assert (both.name, len(both.scores)) == ('chn-pruned', 2)
  run(tmp_path / '2', 'chn-pruned', 2, 0.80, 20e6, {'cp_select': 'lasso', 'cp_jobs': 2})
  assert len(entries(find_reports([tmp_path]))) == 4  # The flag tells two runs apart now.


def test_scores_before_training_and_what_choosing_took(tmp_path):
  for seed, before in enumerate((0.50, 0.60)):
    report = run(tmp_path / str(seed), 'chn-pruned', seed, 0.85, 20e6)
    inside = 7.0 * seed  # The second run trains inside of its choosing, as rounds do.
    phases = [
      ('baseline', 0, 9.0),
      ('prune', 0, 2.0 + inside),
      ('press1', 40, 7.0),
      ('finetune', 80, 5.0),
    ]
    report['seconds_total'] = sum(seconds for _, _, seconds in phases) - inside
    images = {'images_trained': 100, 'images_scored': 10 * seed}
    report['phases'] = [{'name': n, 'iters': i, 'seconds': s, **images} for n, i, s in phases]
    report['pruned'] = {'score': score(before)}
    report['extra'] = {'batch_norm': {'before': 0.9, 'after': 0.92}}
    write_report(report, tmp_path / str(seed))
  original, pruned = entries(find_reports([tmp_path]))
  assert (pruned.before, pruned.choosing) == (pytest.approx(0.55), pytest.approx(2.0))
  assert pruned.statistics == pytest.approx(0.02)
  assert pruned.images == (300, 15)  # Of three phases, without the baseline.
  assert (original.before, original.choosing, original.statistics) == (None, None, None)
  text = format_comparison([original, pruned])
  assert 'before training' in text
  assert 'choosing' in text
  assert '300 / 15' in text
  assert '55.00 %' in text
  assert '+2.00 pt' in text
  without = run(tmp_path / 'other', 'chn-pruned', 0, 0.85, 20e6)
  without.update(pruned=None, phases=[])
  write_report(without, tmp_path / 'other')
  assert 'before training' not in format_comparison(entries(find_reports([tmp_path / 'other'])))


def test_changes_inside_of_a_training_count_as_choosing(tmp_path):
  report = run(tmp_path, 'prune-regrow', 0, 0.85, 20e6)
  phases = [('explore', 80, 9.0), ('slice', 0, 1.0), ('measure', 0, 1.0)]
  report['phases'] = [{'name': n, 'iters': i, 'seconds': s} for n, i, s in phases]
  report['extra'] = {'changes': [{'seconds': 0.5}, {'seconds': 0.25}]}
  write_report(report, tmp_path)
  _, found = entries(find_reports([tmp_path]))
  assert found.choosing == pytest.approx(0.75)


def test_files_and_command_line(runs, tmp_path, capsys):
  out = tmp_path / 'out'
  assert main([str(runs), '--out', str(out)]) == 0
  assert 'dis-chn-pruned' in capsys.readouterr().out
  page = (out / 'compare.html').read_text()
  assert page.count('<svg') == 4
  assert 'http' not in page
  rows = json.loads((out / 'compare.json').read_text())
  assert [row['original'] for row in rows] == [True, False, False, False]
  assert [len(row['scores']) for row in rows] == [1, 1, 2, 1]
  assert rows[2]['score'] == pytest.approx(0.85)
  assert rows[0]['kind']['name'] == 'accuracy'
  assert page.count('report</a>') == 2
  assert 'href="../b/report.html"' in page
  assert '>report 2</a>' in page


def test_runs_of_different_scores_are_not_ranked_together(runs):
  flags = {'cp_select': 'lasso'}
  run(runs / 'd', 'chn-pruned', 2, error(0.1), 1e6, flags, original={'score': error(0.2)})
  found = entries(find_reports([runs]))
  headings = ranked_groups(found)
  assert {heading: len(group) for heading, group in headings.items()} == {
    'resnet20 on cifar10: accuracy, %': 4,
    'resnet20 on cifar10: mae (lower is better)': 2,
  }
  assert found[3].best == entries(find_reports([runs / 'c', runs / 'b']))[2].best
  text = format_comparison(found)
  assert text.count('original') >= 2
  assert re.search(r'chn-pruned, cp_select=lasso +0\.1 ', text)


def test_a_score_of_which_less_is_better(tmp_path):
  for name, value, macs in (('good', 0.2, 20e6), ('worse', 0.3, 20e6), ('cheap', 0.9, 10e6)):
    run(tmp_path / name, name, 0, error(value), macs, original={'score': error(0.15)})
  found = entries(find_reports([tmp_path]))
  assert [entry.name for entry in found] == ['original', 'good', 'worse', 'cheap']
  assert [entry.name for entry in pareto(found, 'macs')] == ['cheap', 'good', 'original']
  assert 'Mae (lower is better), against MACs' in render_page(found)
  assert 'accuracy' not in format_comparison(found)


def test_a_run_without_a_score_is_listed_but_never_best(tmp_path):
  run(tmp_path / 'good', 'weight-sparse', 0, 0.8, 20e6)
  run(tmp_path / 'diverged', 'chn-pruned', 0, {**score(0.5), 'value': None}, 1e6)
  found = entries(find_reports([tmp_path]))
  lost = next(entry for entry in found if entry.name == 'chn-pruned')
  assert (lost.score, lost.best) == (None, [])
  assert 'without a score' in format_comparison(found)
  assert 'without a score' in render_page(found)


def test_verdicts_go_by_the_noise(tmp_path):
  run(tmp_path / 'a', 'slow', 0, 0.879, 20e6, latency=0.5)
  run(tmp_path / 'b', 'fast', 0, 0.874, 20e6, latency=0.2)
  run(tmp_path / 'c', 'bad', 0, 0.60, 1e6, latency=0.1)
  found = entries(find_reports([tmp_path]))
  assert "Fastest with accuracy within the noise of the original's: row 3, fast (0.33x)." in (
    format_comparison(found)
  )
  text = format_comparison([entry for entry in found if entry.name in ('original', 'bad')])
  assert (
    "No accuracy is within the noise of the original's; nearest: row 2, bad (-28.00 pt)" in text
  )


def test_report_and_comparison_agree_on_the_file_size(tmp_path):
  report = run(tmp_path, 'weight-sparse', 0, 0.87, 40e6)
  report['compressed']['sparse'] = {'bytes': 400_000, 'gzip_bytes': 300_000}
  write_report(report, tmp_path)
  row = report_rows(read_report(tmp_path / 'report.json'))[0]
  _, entry = entries(find_reports([tmp_path]))
  assert row.label == 'file size (_sparse.tflite)'
  assert entry.file == '_sparse.tflite'
  assert entry.ratios['file'] == row.share == pytest.approx(400_000 / 1_093_520)
  assert '400.0 kB (0.37x, sparse) *' in format_comparison([entry])


def test_the_module_is_a_command():
  command = [sys.executable, '-m', 'secateurs.utils.deploy.compare', '--help']
  done = subprocess.run(command, capture_output=True, text=True)
  assert done.returncode == 0
  assert 'usage: python -m secateurs.utils.deploy.compare' in done.stdout


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


def test_what_is_deployed_counts(tmp_path):
  """Few bits: the file's own score, size and latency; packed: the size of the packed file."""
  for name, key in (('quant', 'quant'), ('packed', 'packed')):
    report = run(tmp_path / name, f'{name}-learner', 0, 0.88, 40e6)
    own = {'bytes': 100_000, 'gzip_bytes': 90_000}
    if key == 'quant':
      own |= {
        'score': score(0.87),
        'latency': [{'threads': 1, 'p50_ms': 0.1, 'p90_ms': 1.0, 'fps': 1.0}],
      }
    report['compressed'][key] = own
    write_report(report, tmp_path / name)
  quant, packed = (
    next(e for e in entries(find_reports([tmp_path])) if e.name.startswith(name))
    for name in ('quant', 'packed')
  )
  assert (quant.score, quant.values['file'], quant.file) == (0.87, 100_000, '_quant.tflite')
  assert quant.ratios['latency'] == pytest.approx(0.1 / 0.6)
  assert (packed.score, packed.values['file'], packed.file) == (0.88, 100_000, '.dc')
  text = format_comparison([quant, packed])
  assert 'quant)' in text
  assert '"packed" marks .dc' in text
