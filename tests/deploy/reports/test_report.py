"""report.json, report.html and the terminal table."""

import copy
import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest
from sample_report import error, sample_metrics, sample_report, score

from secateurs.utils.deploy.compare import entries, find_reports, render_page
from secateurs.utils.deploy.compare.page import write_comparison
from secateurs.utils.deploy.pages import curves, plots
from secateurs.utils.deploy.pages.page import render_html
from secateurs.utils.deploy.pages.report import read_report, with_changes, write_report
from secateurs.utils.deploy.reports import units
from secateurs.utils.deploy.reports.float_file import deployed_block, deployed_file
from secateurs.utils.deploy.reports.metrics import parse_metrics, phase_offsets, read_metrics
from secateurs.utils.deploy.reports.row import Row
from secateurs.utils.deploy.reports.rows import comparison_rows, report_rows
from secateurs.utils.deploy.reports.schema import validate_report
from secateurs.utils.deploy.reports.scores import noise_of_difference
from secateurs.utils.deploy.reports.table import format_table
from secateurs.utils.deploy.reports.wording import goals, verdict
from secateurs.utils.errors import UserError
from secateurs.utils.hits import packed


@pytest.fixture
def report():
  return sample_report()


@pytest.fixture
def log_dir(tmp_path):
  (tmp_path / 'metrics.jsonl').write_text('\n'.join(sample_metrics()) + '\n')
  return tmp_path


# Schema


def _without(report, path):
  report = copy.deepcopy(report)
  *parents, last = path
  target = report
  for key in parents:
    target = target[key]
  del target[last]
  return report


def _with(report, path, value):
  report = copy.deepcopy(report)
  *parents, last = path
  target = report
  for key in parents:
    target = target[key]
  target[last] = value
  return report


def test_the_sample_and_the_leanest_report_are_valid(report):
  validate_report(report)
  for key in ('pruned', 'notes', 'extra'):
    report = _without(report, [key])
  report['original'], report['compressed'], report['layers'] = {}, {'latency': None}, []
  validate_report(report)


@pytest.mark.parametrize(
  ('path', 'named'),
  [
    (['learner'], 'report: learner is missing'),
    (['original'], 'report: original is missing'),
    (['layers', 2, 'macs'], r'layers\[2\]\.macs is missing'),
    (['compressed', 'latency', 0, 'p50_ms'], r'compressed\.latency\[0\]\.p50_ms is missing'),
    (['compressed', 'score', 'unit'], r'compressed\.score\.unit is missing'),
  ],
)
def test_missing_keys_are_named(report, path, named):
  with pytest.raises(ValueError, match=named):
    validate_report(_without(report, path))


@pytest.mark.parametrize(
  ('path', 'value', 'named'),
  [
    (['lerner'], 'x', 'lerner is no key of schema 2'),
    (['compressed', 'flops'], 1, r'compressed\.flops is no key'),
    (['original', 'int8', 'speed'], 1, r'original\.int8\.speed is no key'),
    (['schema'], 1, 'schema must be 2, got 1'),
    (['original', 'accuracy'], '88 %', r"original\.accuracy must be a valid number, got '88 %'"),
    (['original', 'loss'], float('nan'), r'original\.loss must be a finite number'),
    (['original', 'score', 'value'], True, r'original\.score\.value must be a valid number'),
    (
      ['original', 'score', 'unit'],
      'points',
      r"original\.score\.unit must be 'percent' or 'number'",
    ),
    (['original', 'score', 'noise'], -1.0, r'original\.score\.noise must be greater than or equal'),
    (
      ['original', 'score', 'hits'],
      {'samples': 90, 'bits': 'AAAA'},
      r'original\.score\.hits .*90 samples have 24 bits',
    ),
    (['flags', 'lrn_rate'], float('inf'), r'flags\.lrn_rate .*not JSON compliant'),
    (['layers', 0, 'macs'], [1, 2, 3], r'layers\[0\]\.macs List should have at most 2 items'),
    (['phases'], {}, 'phases must be a valid list'),
    (['seed'], True, 'seed must be a valid integer'),
  ],
)
def test_wrong_values_are_named(report, path, value, named):
  with pytest.raises(ValueError, match=named):
    validate_report(_with(report, path, value))


def test_an_error_is_one_sentence(report):
  with pytest.raises(ValueError, match=r'^report: [^\n]*\(and 1 more\)$'):
    validate_report({**report, 'seed': 0.5, 'lerner': 'x'})


def test_writing_and_reading_loads_no_tensorflow(report, tmp_path):
  write_report(report, tmp_path)
  code = (
    'import sys; from secateurs.utils.deploy import read_report, write_report;'
    'write_report(read_report(sys.argv[1] + "/report.json"), sys.argv[1]);'
    'sys.exit("tensorflow" in sys.modules)'
  )
  done = subprocess.run([sys.executable, '-c', code, str(tmp_path)], capture_output=True)
  assert done.returncode == 0, done.stderr


# report.json


def test_report_json_holds_every_number(report, log_dir):
  paths = write_report(report, log_dir)
  assert paths['json'] == log_dir / 'report.json'
  written = read_report(paths['json'])
  changes = written.pop('changes')
  assert written == report
  assert changes['tflite_bytes'] == 561044 / 1093520
  assert changes['score'] == pytest.approx(-0.0031)
  assert changes['int8/latency/1/p50_ms'] == pytest.approx(0.19 / 0.29)
  assert sorted(path.name for path in log_dir.iterdir()) == [
    'metrics.jsonl',
    'report.html',
    'report.json',
  ]


def test_every_change_in_the_table_is_in_the_json(report, tmp_path):
  report['links'] = [{'learner': 'uniform', 'compressed': {'score': score(0.8700), 'macs': 100}}]
  written = read_report(write_report(report, tmp_path)['json'])
  deltas = [*written['changes'].values(), *written['links'][0]['changes'].values()]
  printed = {f'{delta:.2f}x' for delta in deltas} | {f'{100 * delta:+.2f} pt' for delta in deltas}
  table = format_table(report)
  cells = re.findall(r'  (\S+x|\S+ pt)$', table[: table.index('requested')], re.MULTILINE)
  assert len(cells) == len(deltas)
  assert set(cells) <= printed


def test_numpy_numbers_are_written_as_numbers(report, tmp_path):
  report['original']['accuracy'] = np.float32(0.5)
  report['original']['params'] = np.int64(7)
  paths = write_report(report, tmp_path)
  original = json.loads(paths['json'].read_text())['original']
  assert (original['accuracy'], original['params']) == (0.5, 7)


def test_a_number_that_is_not_finite_is_left_out_and_said(report, tmp_path):
  report['original']['loss'] = np.float32('nan')
  written = read_report(write_report(report, tmp_path)['json'])
  assert written['original']['loss'] is None
  assert 'original.loss' in written['notes'][-1]


def test_an_invalid_report_keeps_the_earlier_one(report, tmp_path):
  write_report(report, tmp_path)
  with pytest.raises(ValueError, match='learner is missing'):
    write_report(_without(report, ['learner']), tmp_path)
  assert read_report(tmp_path / 'report.json')['learner'] == report['learner']


def test_an_unwritable_log_dir_is_one_sentence(report, tmp_path):
  (tmp_path / 'file').write_text('in the way')
  with pytest.raises(UserError, match='Cannot write to the folder'):
    write_report(report, tmp_path / 'file' / 'logs')


# report.html


def test_html_stands_alone(report, log_dir):
  page = write_report(report, log_dir)['html'].read_text()
  assert not re.search(r'https?:|//\w|@import|<script|<link|<img', page)
  references = re.findall(r'(?:href|src|url)[=(]"?([^")\s>]*)', page)
  assert references  # the drawings refer to their own parts
  assert all(r.startswith('#') or r == 'report.json' for r in references)
  assert page.count('<svg') == 5


def test_html_shows_notes_first_and_every_layer(report, log_dir):
  page = write_report(report, log_dir)['html'].read_text()
  assert page.index(report['notes'][0]) < page.index('Before and after')
  for layer in report['layers']:
    assert f'>{layer["name"]} <' in page
  for text in ('0.51\N{MULTIPLICATION SIGN}', '\N{MINUS SIGN}0.31 pt', '87.89 %', '5 min 01 s'):
    assert text in page


def test_html_leaves_out_layers_without_macs(report):
  norm = {**report['layers'][0], 'name': 'stem_bn', 'type': 'BatchNormalization', 'macs': [0, 0]}
  report['layers'].insert(1, norm)
  page = render_html(report, [])
  assert 'stem_conv' in page
  assert 'stem_bn' not in page


def test_html_escapes_what_it_is_given(report, tmp_path):
  report['net'] = '<script>alert(1)</script>'
  assert '<script>' not in write_report(report, tmp_path)['html'].read_text()


EVIL = '"><img src=x onerror=$x$>'


def _texts(value, path=()):
  """Paths of all texts and of all keys that a report is free to choose."""
  for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
    if isinstance(inner, (dict, list)):
      yield from _texts(inner, (*path, key))
    elif isinstance(inner, str):
      yield (*path, key)


def test_no_text_of_a_report_becomes_markup(report, tmp_path):
  changed = []
  for path in list(_texts(report)):
    hostile = _with(report, path, EVIL)
    try:
      validate_report(hostile)
    except ValueError:  # One of a few words.
      continue
    report = hostile
    changed.append(path[-1])
  assert {'net', 'name', 'dataset'} <= set(changed)
  report['compressed']['metrics'] = {EVIL: 0.5}
  page = write_report(report, tmp_path)['html'].read_text()
  assert '<img src=x' not in page
  assert '&lt;img src=x' in page
  assert '<img src=x' not in render_page(entries(find_reports([tmp_path])), tmp_path)


def test_names_that_are_no_utf8_are_written(report, tmp_path):
  """Of folders: what stands for such bytes is read again from the report."""
  report['dataset'] = os.fsdecode(b'a\xff')
  report['files'] = {'keras': os.fsdecode(b'../\xff/m.keras')}
  paths = write_report(report, tmp_path)
  assert read_report(paths['json'])['dataset'] == 'a\udcff'
  page = paths['html'].read_text()
  assert 'a\\udcff' in page
  assert '../%FF/m.keras' in page
  write_comparison(entries(find_reports([tmp_path])), tmp_path)


def test_html_without_metrics_layers_or_measures(report):
  report['original'], report['compressed'], report['layers'] = {}, {}, []
  report['int8_layers'] = None
  report['phases'], report['parity'], report['achieved'] = [], {}, {}
  page = render_html(report, [])
  assert 'Training' not in page
  assert 'Layers' not in page


# Training curves


def test_torn_lines_are_skipped_and_repeats_count_once(tmp_path):
  path = tmp_path / 'metrics.jsonl'
  path.write_text(
    '{"phase": "a", "step": 10, "loss": 3.0}\n'
    '{"phase": "a", "step": 20, "lo{"phase": "a", "step": 20, "loss": 2.0}\n'
    '{"phase": "a", "step": 20, "eval_loss": 2.5}\n'
    '\n'
    '{"phase": "a", "step": 20, "loss": 1.5}\n'
    '{"phase": "a", "step": 30, "loss": 1.'
  )
  assert read_metrics(path) == [
    {'phase': 'a', 'step': 10, 'loss': 3.0},
    {'phase': 'a', 'step': 20, 'loss': 1.5},
    {'phase': 'a', 'step': 20, 'eval_loss': 2.5},
  ]
  assert read_metrics(tmp_path / 'nothing.jsonl') == []


def test_phases_follow_one_another_on_the_step_axis():
  restarting = [{'phase': 'a', 'step': 100}, {'phase': 'b', 'step': 10}, {'phase': 'b', 'step': 40}]
  assert phase_offsets(restarting) == {'a': 0, 'b': 100}
  counting_on = [{'phase': 'a', 'step': 100}, {'phase': 'b', 'step': 110}]
  assert phase_offsets(counting_on) == {'a': 0, 'b': 0}


def test_many_phases_share_colours_by_kind():
  phases = [f'layer-{n:02d}/{kind}' for n in range(9) for kind in ('select', 'fine-tune')]
  assert set(curves.phase_kinds(phases).values()) == {'select', 'fine-tune'}
  assert curves.phase_kinds(['block-1', 'block-2']) == {'block-1': 'block-1', 'block-2': 'block-2'}


def test_curves_survive_values_that_are_not_finite():
  records = parse_metrics(
    f'{{"phase": "a", "step": {step}, "loss": {"NaN" if step == 2 else step}}}' for step in range(5)
  )
  assert [title for title, _ in curves.curves(records)] == ['Loss']


def test_lines_that_are_damaged_are_no_points():
  """What a page of a run cannot end with, after all training."""
  huge = 10**400
  good = [f'{{"phase": "a", "step": {n}, "loss": {huge if n == 2 else n}}}' for n in range(6)]
  odd = ['{"phase": [], "step": 1}', '{"phase": "a", "step": "b"}']
  odd.append(f'{{"phase": "a", "step": {huge}}}')
  records = parse_metrics([*good, *odd, '{"phase": "a", "step": NaN}', '[' * 99_999])
  assert [record['step'] for record in records] == list(range(6))
  assert [title for title, _ in curves.curves(records)] == ['Loss']


def test_curves_are_of_whatever_the_file_has():
  steps = range(5)
  records = [
    {'phase': 'a', 'step': n, 'epoch': n, 'mean_iou': 0.1 * n, 'lrn_rate': 0.1**n} for n in steps
  ]
  records += [{'phase': 'a', 'step': n, 'eval_mean_iou': 0.1 * n, 'eval_boxes': n} for n in steps]
  assert [title for title, _ in curves.curves(records)] == ['Mean iou', 'Learning rate', 'Boxes']
  in_percent = [title for title, _ in curves.curves(records, {'mean_iou'})]
  assert in_percent == ['Mean iou, %', 'Learning rate', 'Boxes']
  assert curves.has_evaluations(records)
  assert not curves.has_evaluations(records[:5])


def test_three_points_are_no_curve():
  records = [{'phase': 'a', 'step': n, 'loss': 1.0} for n in range(4)]
  assert curves.curves(records[:3]) == []
  assert len(curves.curves(records)) == 1


def test_close_points_share_a_label():
  points = [
    plots.Point(x, y, '#000', str(n)) for n, (x, y) in enumerate([(0, 0), (9, 9), (0.1, 0)])
  ]
  assert plots.merged_labels(points) == [((0.1, 0), '0, 2'), ((9, 9), '1')]


def test_typesetting_leaves_names_alone():
  typeset = units.typeset('0.27x chn-pruned -0.31 pt, max_x 1x4')
  times, minus = '\N{MULTIPLICATION SIGN}', '\N{MINUS SIGN}'
  assert typeset == f'0.27{times} chn-pruned {minus}0.31 pt, max_x 1x4'


def test_drawings_escape_what_they_are_given():
  records = [{'phase': 'a', 'step': n, '"><script>$x$': 1.0} for n in range(4)]
  assert '<script>' not in curves.curves(records)[0][1]


def test_thinning_keeps_short_curves_and_averages_long_ones():
  assert curves.thin([1, 2, 3], [4, 5, 6]) == ([1, 2, 3], [4, 5, 6])
  xs, ys = curves.thin(list(range(1000)), [1.0, 3.0] * 500)
  assert len(xs) <= curves.MAX_POINTS
  assert xs[0] == 1.0
  assert sum(ys) / len(ys) == pytest.approx(2.0, abs=0.01)


# The terminal table


def test_table_fits_a_terminal_and_states_ratios(report):
  text = format_table(report)
  assert text.isascii()
  assert max(map(len, text.splitlines())) <= 88
  lines = {line.split('  ')[0]: line.split() for line in text.splitlines()}
  assert lines['file size (.tflite)'][-6:] == ['1.09', 'MB', '-', '561.0', 'kB', '0.51x']
  assert lines['frames/s, 2 threads'][-4:] == ['2,961', '-', '5,105', '1.72x']
  assert lines['accuracy'][-2:] == ['-0.31', 'pt']
  assert lines['MACs'][-1] == '0.51x'
  assert 'removed part: requested 75 %, achieved 75 %' in text
  assert 'evaluated on 10,000 samples, standard error of accuracy 0.33 pt' in text
  for name in ('original', 'compressed'):
    report[name]['score']['hits'] = packed(np.ones(10_000, bool))
  assert 'standard error of accuracy 0.33 pt, of its change 0.01 pt' in format_table(report)


def test_table_without_a_pruned_block_has_no_such_column(report):
  report['pruned'] = None
  assert 'pruned' not in format_table(report).splitlines()[2]


def test_table_gives_each_link_its_rows(report):
  report['links'] = [
    {'learner': 'chn-pruned', 'compressed': {'score': score(0.8800)}},
    {'learner': 'weight-sparse', 'compressed': {'score': score(0.8789)}},
    {'learner': 'uniform', 'original': {'score': score(0.5)}, 'compressed': {'score': score(0.6)}},
  ]
  validate_report(report)
  lines = format_table(report).splitlines()
  for number, (learner, change) in enumerate(
    (('chn-pruned', '-0.20'), ('weight-sparse', '-0.11'), ('uniform', '+10.00')), start=1
  ):
    start = lines.index(f'link {number}: {learner}')
    assert lines[start + 3].split()[0] == 'accuracy'  # the one row that the link measured
    assert lines[start + 3].split()[-2:] == [change, 'pt']
    assert lines[start + 4] == ''
  assert 'Link 2: weight-sparse' in render_html(report, [])


def test_a_chain_is_compared_with_what_went_into_its_first_link(report):
  def block(accuracy, size, ms):
    timed = {'threads': 1, 'p50_ms': ms, 'p90_ms': 2 * ms, 'fps': 1000 / ms}
    return {'score': score(accuracy), 'tflite_bytes': size, 'latency': [timed]}

  # The machine was half as fast when the second link timed what the first had made.
  first, middle, last = block(0.9, 800, 4.0), block(0.88, 400, 2.0), block(0.87, 100, 3.0)
  links = [
    {'learner': 'chn-pruned', 'original': first, 'compressed': middle},
    {'learner': 'weight-sparse', 'original': block(0.88, 400, 4.0), 'compressed': last},
  ]
  report |= {**links[1], 'links': links, 'pruned': None}
  validate_report(report)
  rows = {row.key: row for row in report_rows(report)}
  assert rows['tflite_bytes'].share == pytest.approx(100 / 800)
  assert rows['score'].delta == pytest.approx(-0.03)
  for key in ('p50_ms', 'p90_ms'):
    assert rows[f'latency/1/{key}'].share == pytest.approx(2 / 4 * 3 / 4)
  assert rows['latency/1/fps'].share == pytest.approx(4 / 2 * 4 / 3)
  assert with_changes(report)['changes']['tflite_bytes'] == pytest.approx(100 / 800)
  text = format_table(report)
  assert '0.12x' in text[text.index('the whole chain') :]
  # 300 of 10,000 samples changed since the first link, and 100 since the last one's.
  for part, number in ((first, 9000), (report['original'], 8800), (report['compressed'], 8700)):
    part['score']['hits'] = packed(np.arange(10_000) < number)
  assert 'of its change 0.17 pt' in format_table(report)


def test_the_time_of_a_chain_is_that_of_all_links(report):
  first = {'learner': 'chn-pruned', 'method': 'cp', 'seconds_total': 3600.0}
  first['compressed'] = {'score': score(0.88), 'tflite_bytes': 4321}
  last = {'learner': 'weight-sparse', 'compressed': report['compressed'], 'seconds_total': 462.0}
  report |= {'links': [first, last]}
  validate_report(report)
  whole, own = units.fmt_seconds(4062.0), units.fmt_seconds(462.0)
  text, page = format_table(report), render_html(report, [])
  assert f'total time {whole} (cp {units.fmt_seconds(3600.0)} + weight-sparse {own})' in text
  assert max(map(len, text.splitlines())) <= 88
  assert f' · {whole} in total' in page
  assert '<h2>Phases of the last link</h2>' in page
  table = page[page.index('Cost of each link') :]
  cells = [re.findall('<t[dh][^>]*>(.*?)</t[dh]>', row) for row in table.split('<tr>')[2:5]]
  assert cells[0] == ['link 1', 'cp', '4.3 kB', '88.00 %', units.fmt_seconds(3600.0)]
  assert cells[1][:2] == ['link 2', 'weight-sparse']
  assert cells[1][-1] == own
  assert [cells[2][0], cells[2][-1]] == ['the whole chain', whole]
  # An old link that does not say makes the total unknown, not smaller.
  report['links'] = [{'learner': 'chn-pruned'}, last]
  validate_report(report)
  assert 'total time' not in format_table(report)
  assert 'in total' not in render_html(report, [])


def test_rows_call_nothing_better_within_the_noise():
  def better(before, after, **common):
    return comparison_rows({**common, **before}, None, {**common, **after})[0].better

  def scored(before, after):
    return better({'score': before}, {'score': after})

  # Of 10,000 samples: standard error of the difference 0.46 points.
  assert scored(score(0.880), score(0.872)) is None
  assert scored(score(0.880), score(0.870)) is False
  assert scored(score(0.880), score(0.890)) is True
  # Of 360 samples: 2.4 points.
  assert scored(score(0.880, 360), score(0.840, 360)) is None
  assert scored(score(0.880, 360), score(0.820, 360)) is False
  assert scored(score(0.880), score(0.200, noise=None)) is None
  # Where it is known which of 200 samples each has right, those that both have right say nothing.
  right = np.arange(200) < 160
  others = right & (np.arange(200) >= 8)
  before, after = (score(float(one.mean()), 200, hits=packed(one)) for one in (right, others))
  assert scored(before, after) is False
  assert scored(before, {**after, 'hits': packed(others[:199])}) is None
  assert noise_of_difference(before, after) == pytest.approx((9 - 64 / 202) ** 0.5 / 202)
  assert scored(error(0.50), error(0.48)) is None
  assert scored(error(0.50), error(0.40)) is True
  assert scored(error(0.50), error(0.60)) is False
  assert better({'macs': 100}, {'macs': 50}) is True
  assert better({'loss': 0.5}, {'loss': 0.4}) is None  # its noise is unknown
  slow = [{'threads': 1, 'p50_ms': 1.00, 'p90_ms': 1.0, 'fps': 1.0}]
  same = [{'threads': 1, 'p50_ms': 0.97, 'p90_ms': 1.0, 'fps': 1.0}]
  assert better({'latency': slow}, {'latency': same}) is None


def test_p90_has_a_verdict_only_if_the_median_has_one():
  def p90(median):
    before = {'threads': 1, 'p50_ms': 1.0, 'p90_ms': 1.5, 'fps': 1000.0}
    after = {'threads': 1, 'p50_ms': median, 'p90_ms': 1.29, 'fps': 1000.0 / median}
    rows = comparison_rows({'latency': [before]}, None, {'latency': [after]})
    return next(row for row in rows if row.key == 'latency/1/p90_ms')

  assert (p90(0.99).better, p90(0.99).within_noise) == (None, True)
  assert (p90(0.80).better, p90(0.80).within_noise) == (True, False)


def test_rows_without_information_are_skipped():
  block = {'score': score(0.9), 'score_bn_reestimated': 0.9, 'sparsity': 0.0}
  assert [row.key for row in comparison_rows(block, None, block)] == ['score']


def test_a_better_score_than_the_original_gets_a_caveat(report):
  assert 'fair comparison' not in format_table(report)
  report['compressed']['score'] = score(0.95)
  assert 'fair comparison' in format_table(report).replace('\n     ', '')
  assert 'fair comparison' in render_html(report, [])


def test_a_training_that_made_the_score_worse_is_named(report):
  text = format_table(report).replace('\n     ', '')
  assert 'training after the cut' not in text
  report['pruned']['score'], report['compressed']['score'] = score(0.85), score(0.8)
  text = format_table(report).replace('\n     ', '')
  assert 'made accuracy worse, from 85.00 % to 80.00 %: --nb_epochs_ft 0' in text
  assert 'from 85.00 % to 80.00 %' in render_html(report, [])
  report['compressed']['score'] = score(0.845)  # Within the noise.
  assert 'training after the cut' not in format_table(report).replace('\n     ', '')


def test_training_in_8_bits_that_made_the_file_worse_is_named(report):
  int8 = report['compressed']['int8']
  int8['score'], int8['post_training_score'] = score(0.8), 0.801  # Within the noise.
  assert 'Training in 8 bits' not in format_table(report)
  int8['post_training_score'] = 0.85
  text = format_table(report).replace('\n     ', '')
  assert 'int8 file worse, from 85.00 % to 80.00 %: leave --enbl_qat out' in text


def test_a_score_of_which_less_is_better(report, tmp_path):
  report['task'] = 'regression'
  for name, value in (('original', 0.5), ('pruned', 0.9), ('compressed', 0.8)):
    block = report[name]
    for key in ('accuracy', 'accuracy_top5', 'figures', 'int8'):
      block.pop(key, None)
    block['score'] = error(value)
    block['figures'] = [error(2 * value) | {'name': 'max_error', 'label': 'largest error'}]
  paths = write_report(report, tmp_path)
  rows = {row.key: row for row in report_rows(report)}
  row = rows['score']
  assert (row.label, row.original, row.pruned, row.compressed) == ('mae', '0.5', '0.9', '0.8')
  assert (row.change, row.better) == ('+0.3', False)
  assert rows['score_bn_reestimated'].label == 'mae, BN re-estimated'
  assert rows['figures/max_error'].label == 'largest error'
  assert rows['figures/max_error'].better is False
  assert read_report(paths['json'])['changes']['score'] == pytest.approx(0.3)
  text, page = format_table(report), paths['html'].read_text()
  assert 'accuracy' not in text + page
  assert 'mae +0.3' in text
  assert 'standard error of mae 0.01' in text
  assert re.search(r'<div class="label">Mae</div>\s*<div class="value bad">\+0.3</div>', page)


def test_a_method_is_named(report):
  report.update(learner='filter-pruned', method='hrank')
  validate_report(report)
  assert format_table(report).startswith('hrank (filter-pruned): resnet20 on cifar10')
  assert 'hrank (filter-pruned)' in render_html(report, [])


def test_the_headline_is_the_smallest_float_file(report):
  original = report['original']['tflite_bytes']
  report['compressed']['sparse'] = {
    'bytes': original // 4,
    'gzip_bytes': 10,
    'latency': report['original']['latency'],
  }
  validate_report(report)
  rows = comparison_rows(report['original'], None, report['compressed'])
  assert [row.label for row in rows[:2]] == ['file size (_sparse.tflite)', 'file size (.tflite)']
  by_key = {row.key: row for row in rows}
  assert by_key['sparse/bytes'].share == pytest.approx(0.25, abs=0.01)
  assert by_key['sparse/bytes'].better
  assert by_key['tflite_bytes'].share == pytest.approx(0.51, abs=0.01)
  assert by_key['sparse/latency/1/p50_ms'].share == pytest.approx(1.0)
  assert '0.25x file size (_sparse.tflite)' in format_table(report)
  assert '(_sparse.tflite)</span>' in render_html(report, [])
  report['compressed']['sparse']['bytes'] = original
  rows = comparison_rows(report['original'], None, report['compressed'])
  assert [row.label for row in rows[:2]] == ['file size (.tflite)', 'file size (_sparse.tflite)']


@pytest.mark.parametrize(
  ('value', 'text'),
  [
    (None, '-'), (0.00362, '0.0036 ms'), (0.0099, '0.0099 ms'), (0.00996, '0.010 ms'),
    (0.4229, '0.423 ms'), (12.34, '12.3 ms'),
  ],
)  # fmt: skip
def test_milliseconds_of_tiny_networks_are_told_apart(value, text):
  assert units.fmt_ms(value) == text


def test_the_headline_is_the_int8_file_where_that_was_searched_for(report):
  compressed = report['compressed']
  compressed['deployed'] = 'int8'
  compressed['int8']['gzip_bytes'] = 140_000
  validate_report(report)
  rows = {row.key: row for row in report_rows(report)}
  row = rows['deployed/bytes']
  assert row.label == 'file size, float to int8'
  assert row.share == compressed['int8']['bytes'] / report['original']['tflite_bytes']
  zipped = 140e3 / report['original']['tflite_gzip_bytes']
  assert rows['deployed/gzip_bytes'].share == zipped
  score = compressed['int8']['score']['value'] - report['original']['score']['value']
  assert rows['deployed/score'].delta == pytest.approx(score)
  line = format_table(report).splitlines()[1]
  assert line.startswith('0.15x file size (_int8.tflite), 0.19x latency, accuracy ')
  page = render_html(report, [])
  assert '<span>(_int8.tflite)</span>' in page
  tile = page.partition('Gzipped')[2].partition('MACs')[0]
  assert units.fmt_bytes(140e3) in tile
  assert deployed_file(compressed) == ('_int8.tflite', compressed['int8']['bytes'])
  assert deployed_block(compressed)['latency'] == compressed['int8']['latency']


def test_limits_and_what_was_reached_have_their_units(report):
  report['requested'] = {
    'max_drop': 0.01,
    'max_bytes': 2e5,
    'max_latency': 3.0,
    'max_ram': 'as little as possible',
    'time': 1800.0,
  }
  report['achieved'] |= {'max_drop': -0.002, 'max_bytes': 169176, 'max_latency': 0.081}
  report['achieved'] |= {'max_ram': 64e3, 'time': 75.0}
  validate_report(report)
  assert goals(report) == [
    ('drop of the score', 'at most 1.00 pt', '-0.20 pt'),
    ('file size', 'at most 200.0 kB', '169.2 kB'),
    ('latency, 1 sample', 'at most 3.00 ms', '0.081 ms'),
    ('peak activation memory', 'as little as possible', '64.0 kB'),
    ('time of search and training', 'at most 30 min 00 s', '1 min 15 s'),
  ]


# The user's metrics


def test_metrics_of_the_user_are_rows_without_a_verdict(report, log_dir):
  for name, value, int8 in (('original', 0.75, 0.74), ('compressed', 0.5, 0.48)):
    report[name]['metrics'] = {'confidence': value}
    report[name].setdefault('int8', {})['metrics'] = {'confidence': int8}
  report['links'] = []
  paths = write_report(report, log_dir)
  rows = comparison_rows(report['original'], report.get('pruned'), report['compressed'])
  row, of_int8 = (row for row in rows if 'confidence' in row.label)
  assert (row.key, row.original, row.compressed) == ('metrics/confidence', '0.75', '0.5')
  assert (row.change, row.delta, row.better) == ('-0.25', -0.25, None)
  assert (of_int8.key, of_int8.label) == ('int8/metrics/confidence', 'int8 confidence')
  assert of_int8.int8
  assert read_report(paths['json'])['changes']['metrics/confidence'] == -0.25
  assert 'int8 confidence' in paths['html'].read_text()


@pytest.mark.parametrize('metrics', [[0.5], {'confidence': 'high'}, {3: 0.5}])
def test_metrics_are_numbers_by_name(report, metrics):
  report['compressed']['metrics'] = metrics
  with pytest.raises(ValueError, match=r'compressed\.metrics'):
    validate_report(report)


def test_metrics_that_are_not_finite_are_left_out_with_a_note(report, log_dir):
  report['compressed']['metrics'] = {'ratio': float('nan')}
  read = read_report(write_report(report, log_dir)['json'])
  assert read['compressed']['metrics'] == {'ratio': None}
  assert 'compressed.metrics.ratio' in read['notes'][-1]


# Further figures


def test_further_figures_of_one_form_are_a_table(report):
  report['extra'] = {
    'layers': [{'name': 'a', 'error': 0.123456789}, {'name': 'b', 'error': None}],
    'comparison': {'magnitude': {'score': 0.5}, 'random': {'score': 0.25}},
    'kept': {'a': [1, 2], 'b': [3]},
    'nothing': {},
    'sensitivity': {'a': [[0.0, 0.1], [0.5, 0.2]]},
  }
  page = render_html(report, [])
  compact = re.sub(r'\s*\n\s*', '', page)
  assert '<th>name</th><th>error</th>' in compact
  assert '<td>a</td><td>0.123457</td>' in compact
  assert '<td>magnitude</td><td>0.5</td>' in compact
  assert '<td>a</td><td>1, 2</td>' in compact
  assert '[0.0, 0.1]' not in page  # drawn instead
  assert 'Sensitivity' in page


def test_flags_that_are_set_come_first(report):
  report['flags'] = {'trunk': None, 'ratio': 0.5, 'skip': None}
  assert 'Not set: trunk, skip.' in render_html(report, [])


def test_the_verdict_says_what_to_deploy(report):
  verdicts = []
  for value in (0.8805, 0.80):  # Within the noise of 88.16 %, and far below it.
    report['compressed']['score'] = score(value)
    verdicts.append(' '.join(format_table(report).split()))
  assert ': deploy model.tflite ' in verdicts[0]
  assert ': weigh the loss, train for longer, or remove less ' in verdicts[1]


def test_the_table_says_that_one_int8_file_alone_is_repaired(report):
  line = 'int8: original plain, compressed repaired (equalise)'
  for name in ('original', 'compressed'):
    report[name]['int8'] = {'bytes': 1000, 'gzip_bytes': 900}
  lines = format_table(report).splitlines()
  assert lines[lines.index(line) + 1].startswith('int8 file size')
  assert line in render_html(report, [])
  report['int8_repair'] = report['int8_repair'][:1]
  assert line not in format_table(report)


def test_nothing_is_advised_without_a_gain_or_without_a_known_noise():
  gain = Row('tflite_bytes', 'file size', '2', '-', '1', delta=0.5, share=0.5, better=True)
  none = Row('tflite_bytes', 'file size', '1', '-', '1', delta=1.0, share=1.0)
  slower = Row('latency/1/p50_ms', 'latency', '1', '-', '2', delta=2.0, share=2.0, better=False)
  equal = Row('score', 'accuracy', '1', '-', '1', delta=0.0)
  within = Row('score', 'accuracy', '1', '-', '0.9', delta=-0.1, within_noise=True)
  unknown = Row('score', 'accuracy', '1', '-', '0.9', delta=-0.1)
  given = [
    verdict([size, slower, one]) for size in (gain, none) for one in (equal, within, unknown)
  ]
  assert [text.endswith(': deploy model.tflite') for text in given] == [True, True, *[False] * 4]


def test_the_page_links_the_files(report):
  report['files'] = {'tflite': '../../models ws/model.tflite', 'plan': 'plan.json'}
  report['phases'][1]['title'] = 'train while weights <vanish>'
  page = render_html(validated(report), [])
  assert '<a href="../../models%20ws/model.tflite">model.tflite</a>' in page
  assert '<a href="plan.json">plan.json</a>' in page
  assert 'train while weights &lt;vanish&gt;' in page


def validated(report):
  validate_report(report)
  return report


def test_the_page_shows_how_the_int8_file_was_repaired(report):
  page = render_html(report, [])
  assert '<h2>Repair of the int8 file</h2>' in page
  assert '96 channels, by their activations' in page


def test_the_page_shows_what_layers_cost_in_8_bits(report):
  page = render_html(report, [])
  assert '<h2>Layers in 8 bits</h2>' in page
  assert '0.0213' in page
  assert 'All layers in 8 bits: 0.0262.' in page
  without = {key: value for key, value in report.items() if key != 'int8_layers'}
  assert 'Layers in 8 bits' not in render_html(without, [])


def test_memory_and_cycles_are_rows(report):
  npu = {
    'device': 'ethos-u55-128',
    'cycles': 200_000,
    'npu_cycles': 190_000,
    'ms': 0.4,
    'sram_bytes': 51_200,
    'flash_bytes': 79_000,
    'npu_operators': 40,
    'cpu_operators': 0,
    'on_cpu': [],
  }
  report['original']['ram_bytes'], report['compressed']['ram_bytes'] = 100_000, 100_000
  report['original']['int8'] = {'npu': npu, 'ram_bytes': 25_000}
  report['compressed']['int8'] = {'npu': {**npu, 'cycles': 100_000}, 'ram_bytes': 25_000}
  validate_report(report)
  rows = {row.key: row for row in report_rows(report)}
  assert rows['int8/npu/cycles'].change == '0.50x'
  assert rows['int8/npu/cycles'].label == 'int8 cycles, ethos-u55-128'
  assert rows['ram_bytes'].change == '1.00x'
  assert rows['int8/npu/cpu_operators'].compressed == '0'


def test_operators_and_partitions_are_rows(report):
  report['original'] |= {'operators': {'SPLIT': 2, 'CONV_2D': 3}, 'delegate_partitions': 1}
  report['compressed'] |= {'operators': {'SPLIT_V': 2, 'CONV_2D': 3}, 'delegate_partitions': 4}
  validate_report(report)
  rows = {row.key: row for row in report_rows(report)}
  assert (rows['operators'].original, rows['operators'].compressed) == ('5', '5')
  shown = rows['delegate_partitions']
  assert (shown.original, shown.pruned, shown.compressed) == ('1', units.NOTHING, '4')


def test_exported_files_are_one_table(report):
  row = {'file': 'm.onnx', 'format': 'onnx', 'bytes': 5000, 'gzip_bytes': None, 'score': 0.9}
  row['settled'] = False
  report['formats'] = [{**row, 'ms': 0.2}, {**row, 'ms': None, 'settled': None}]
  report['formats'].append({**row, 'score': None, 'ms': 0.1, 'settled': True})
  validate_report(report)
  page = render_html(report, [])
  assert '<h2>Exported files</h2>' in page
  assert page.count('m.onnx') == 3
  assert page.count('<td>90.00 %</td>') == 2
  assert page.count(', not settled') == 1
