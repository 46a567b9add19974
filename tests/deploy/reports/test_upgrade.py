"""Reports of schema 1 stay readable."""

import copy
import json
import math
from pathlib import Path

import pytest
from sample_report import sample_report

from secateurs.utils.deploy.compare import entries, find_reports, format_comparison, main
from secateurs.utils.deploy.pages.history import history_path, read_history
from secateurs.utils.deploy.pages.report import read_report, with_changes, write_report
from secateurs.utils.deploy.reports.schema import validate_report
from secateurs.utils.deploy.reports.table import format_table
from secateurs.utils.deploy.reports.upgrade import upgrade_report

OLD = Path(__file__).with_name('report_schema1.json')


@pytest.fixture
def old():
  return json.loads(OLD.read_text())


def test_an_old_report_becomes_schema_2(old):
  before = copy.deepcopy(old)
  report = upgrade_report(old)
  assert old == before
  validate_report(report)
  assert (report['schema'], report['method'], report['task']) == (2, None, 'classification')
  assert report['nb_smpls_eval'] == 10_000
  noise = math.sqrt(0.8789 * 0.1211 / 10_000)
  score = {'name': 'accuracy', 'value': 0.8789, 'higher_is_better': True, 'unit': 'percent'}
  assert report['compressed']['score'] == {**score, 'noise': pytest.approx(noise)}
  assert report['compressed']['accuracy'] == 0.8789
  (figure,) = report['compressed']['figures']
  assert (figure['name'], figure['value']) == ('accuracy_top5', 0.9928)
  assert report['compressed']['int8']['score']['value'] == 0.8771
  assert report['compressed']['int8']['post_training_score'] == 0.8702
  assert report['pruned']['score_bn_reestimated'] == 0.8011
  first, last = report['links']
  assert first['original']['score']['value'] == 0.8911
  assert first['pruned']['score_bn_reestimated'] == 0.8203
  assert 'figures' not in first['pruned']  # accuracy_top5 is null there
  assert last['compressed'] == report['compressed']


def test_the_numbers_of_the_tables_stay(old):
  report = upgrade_report(old)
  again = with_changes(report)
  assert again['changes'] == pytest.approx(report['changes'])
  for was, now in zip(report['links'], again['links'], strict=True):
    assert now['changes'] == pytest.approx(was['changes'])


@pytest.mark.parametrize(
  ('dataset', 'flag', 'expected'),
  [('digits', None, 360), ('digits', 100, 100), ('my_photos', None, None), ('my_photos', 50, 50)],
)
def test_the_number_of_samples_is_that_of_the_flag_or_the_data_set(old, dataset, flag, expected):
  old.update(dataset=dataset)
  old['flags']['nb_smpls_eval'] = flag
  report = upgrade_report(old)
  validate_report(report)
  assert report['nb_smpls_eval'] == expected
  assert (report['compressed']['score']['noise'] is None) == (expected is None)
  assert ('evaluated on' in format_table(report)) == (expected is not None)


def test_a_report_of_schema_2_stays():
  report = sample_report()
  assert upgrade_report(report) == report


@pytest.mark.parametrize('schema', [3, None, '1', True])
def test_unknown_schemas_are_refused_in_a_sentence(tmp_path, schema):
  (tmp_path / 'report.json').write_text(json.dumps({**sample_report(), 'schema': schema}))
  with pytest.raises(ValueError, match=r'^report: schema must be 1 or 2, got [^\n]*$'):
    read_report(tmp_path / 'report.json')


@pytest.mark.parametrize(
  'content', [[], {}, {'schema': 1}, {'schema': 1, 'original': 3, 'links': [1]}]
)
def test_what_is_no_report_is_refused(tmp_path, content):
  (tmp_path / 'report.json').write_text(json.dumps(content))
  with pytest.raises(ValueError, match=r'^report: '):
    read_report(tmp_path / 'report.json')


def test_an_old_report_is_read_compared_and_continued(tmp_path, capsys):
  old = tmp_path / 'old'
  old.mkdir()
  (old / 'report.json').write_text(OLD.read_text())
  assert read_report(old / 'report.json')['schema'] == 2
  write_report({**sample_report(), 'learner': 'dis-chn-pruned'}, tmp_path / 'new')
  found = entries(find_reports([tmp_path]))
  assert {entry.name for entry in found if not entry.original} == {
    'chn-pruned + weight-sparse',
    'dis-chn-pruned',
  }
  assert len({entry.kind for entry in found}) == 1
  assert format_comparison(found).count('resnet20 on cifar10') == 1
  assert main([str(tmp_path), '--out', str(tmp_path)]) == 0
  capsys.readouterr()
  history_path(tmp_path / 'model').write_text(OLD.read_text())
  links = read_history(tmp_path / 'model.keras')
  assert [link['learner'] for link in links] == ['chn-pruned', 'weight-sparse']
  validate_report({**sample_report(), 'links': links})
