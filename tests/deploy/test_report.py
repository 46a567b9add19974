"""report.json, report.html and the terminal table."""

import copy
import json
import re

import numpy as np
import pytest
from sample_report import sample_metrics, sample_report

from secateurs.utils.deploy import plots
from secateurs.utils.deploy.metrics import parse_metrics, phase_offsets, read_metrics
from secateurs.utils.deploy.report import read_report, render_html, with_changes, write_report
from secateurs.utils.deploy.rows import comparison_rows, report_rows
from secateurs.utils.deploy.schema import validate_report
from secateurs.utils.deploy.table import format_table
from secateurs.utils.errors import UserError


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
    (['learner'], 'the report lacks learner'),
    (['original'], 'the report lacks original'),
    (['layers', 2, 'macs'], r'layers\[2\] lacks macs'),
    (['compressed', 'latency', 0, 'p50_ms'], r'compressed\.latency\[0\] lacks p50_ms'),
  ],
)
def test_missing_keys_are_named(report, path, named):
  with pytest.raises(ValueError, match=named):
    validate_report(_without(report, path))


@pytest.mark.parametrize(
  ('path', 'value', 'named'),
  [
    (['lerner'], 'x', 'the report has the unknown lerner; known keys are schema, learner'),
    (['compressed', 'flops'], 1, 'compressed has the unknown flops'),
    (['original', 'int8', 'speed'], 1, r'original\.int8 has the unknown speed'),
    (['schema'], 2, 'schema must be 1, got 2'),
    (['original', 'accuracy'], '88 %', r"original\.accuracy must be a finite number.*'88 %'"),
    (['original', 'loss'], float('nan'), r'original\.loss must be a finite number'),
    (['flags', 'lrn_rate'], float('inf'), r'flags\.lrn_rate must be a finite number'),
    (['layers', 0, 'macs'], [1, 2, 3], r'layers\[0\]\.macs must be a list of 2'),
    (['phases'], {}, 'phases must be a list'),
    (['seed'], True, 'seed must be a whole number'),
  ],
)
def test_wrong_values_are_named(report, path, value, named):
  with pytest.raises(ValueError, match=named):
    validate_report(_with(report, path, value))


# report.json


def test_report_json_holds_every_number(report, log_dir):
  paths = write_report(report, log_dir)
  assert paths['json'] == log_dir / 'report.json'
  written = read_report(paths['json'])
  changes = written.pop('changes')
  assert written == report
  assert changes['tflite_bytes'] == 561044 / 1093520
  assert changes['accuracy'] == pytest.approx(-0.0031)
  assert changes['int8/latency/1/p50_ms'] == pytest.approx(0.19 / 0.29)
  assert sorted(path.name for path in log_dir.iterdir()) == [
    'metrics.jsonl',
    'report.html',
    'report.json',
  ]


def test_every_change_in_the_table_is_in_the_json(report, tmp_path):
  report['links'] = [{'learner': 'uniform', 'compressed': {'accuracy': 0.8700, 'macs': 100}}]
  written = read_report(write_report(report, tmp_path)['json'])
  deltas = [*written['changes'].values(), *written['links'][0]['changes'].values()]
  printed = {f'{delta:.2f}x' for delta in deltas} | {f'{100 * delta:+.2f} pt' for delta in deltas}
  cells = re.findall(r'\S+x$|\S+ pt$', format_table(report), re.MULTILINE)
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
  with pytest.raises(ValueError, match='lacks learner'):
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
  assert all(reference.startswith('#') for reference in references)
  assert page.count('<svg') == 4


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


def test_html_without_metrics_layers_or_measures(report):
  report['original'], report['compressed'], report['layers'] = {}, {}, []
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
  assert set(plots.phase_kinds(phases).values()) == {'select', 'fine-tune'}
  assert plots.phase_kinds(['block-1', 'block-2']) == {'block-1': 'block-1', 'block-2': 'block-2'}


def test_curves_survive_values_that_are_not_finite():
  records = parse_metrics(
    f'{{"phase": "a", "step": {step}, "loss": {"NaN" if step == 2 else step}}}' for step in range(5)
  )
  assert [title for title, _ in plots.curves(records)] == ['Loss']


def test_thinning_keeps_short_curves_and_averages_long_ones():
  assert plots.thin([1, 2, 3], [4, 5, 6]) == ([1, 2, 3], [4, 5, 6])
  xs, ys = plots.thin(list(range(1000)), [1.0, 3.0] * 500)
  assert len(xs) <= plots.MAX_POINTS
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
  assert 'removed part: requested 0.75, achieved 0.75' in text


def test_table_without_a_pruned_block_has_no_such_column(report):
  report['pruned'] = None
  assert 'pruned' not in format_table(report).splitlines()[1]


def test_table_gives_each_link_its_rows(report):
  report['links'] = [
    {'learner': 'chn-pruned', 'compressed': {'accuracy': 0.8800}},
    {'learner': 'weight-sparse', 'compressed': {'accuracy': 0.8789}},
    {'learner': 'uniform', 'original': {'accuracy': 0.5}, 'compressed': {'accuracy': 0.6}},
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
    return {'accuracy': accuracy, 'tflite_bytes': size, 'latency': [timed]}

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
  assert rows['accuracy'].delta == pytest.approx(-0.03)
  for key in ('p50_ms', 'p90_ms'):
    assert rows[f'latency/1/{key}'].share == pytest.approx(2 / 4 * 3 / 4)
  assert rows['latency/1/fps'].share == pytest.approx(4 / 2 * 4 / 3)
  assert with_changes(report)['changes']['tflite_bytes'] == pytest.approx(100 / 800)
  text = format_table(report)
  assert '0.12x' in text[text.index('the whole chain') :]


def test_rows_call_nothing_better_within_the_noise():
  def better(before, after, **common):
    return comparison_rows({**common, **before}, None, {**common, **after})[0].better

  assert better({'accuracy': 0.880}, {'accuracy': 0.878}) is None
  assert better({'accuracy': 0.880}, {'accuracy': 0.870}) is False
  assert better({'macs': 100}, {'macs': 50}) is True
  assert better({'loss': 0.5}, {'loss': 0.4}) is True
  assert better({'loss': -0.5}, {'loss': -0.8}) is None
  slow = [{'threads': 1, 'p50_ms': 1.00, 'p90_ms': 1.0, 'fps': 1.0}]
  same = [{'threads': 1, 'p50_ms': 0.97, 'p90_ms': 1.0, 'fps': 1.0}]
  assert better({'latency': slow}, {'latency': same}) is None


def test_the_sparse_file_is_compared_with_the_plain_original(report):
  report['compressed']['sparse'] = {
    'bytes': report['original']['tflite_bytes'] // 4,
    'gzip_bytes': 10,
    'latency': report['original']['latency'],
  }
  validate_report(report)
  rows = {r.key: r for r in comparison_rows(report['original'], None, report['compressed'])}
  assert rows['sparse/bytes'].share == pytest.approx(0.25, abs=0.01)
  assert rows['sparse/bytes'].better
  assert rows['sparse/latency/1/p50_ms'].share == pytest.approx(1.0)
  assert 'sparse file size' in format_table(report)


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
