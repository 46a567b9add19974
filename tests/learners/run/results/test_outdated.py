"""A finished run is measured again where files are missing or flags ask for other figures."""

from types import SimpleNamespace

import pytest

from secateurs.learners.run.configs import RunConfig
from secateurs.learners.run.files import with_ending
from secateurs.learners.run.measured import MeasuredLearner
from secateurs.learners.run.results import outdated
from secateurs.utils.errors import UserError


def settings_of(qat=False, **options):
  run = RunConfig(**options)
  return SimpleNamespace(
    run=run,
    wants_int8=run.wants_int8 or qat,
    quantization=SimpleNamespace(enbl_qat=qat),
    default_flags=RunConfig.default_flags,
  )


@pytest.fixture
def files(tmp_path):
  prefix = tmp_path / 'original'
  for ending in ('.keras', '.tflite'):
    with_ending(prefix, ending).touch()
  there = dict.fromkeys(('keras', 'tflite', 'tflite_int8'), tmp_path)
  return SimpleNamespace(
    exported=lambda: there, original_prefix=prefix, original_keras=with_ending(prefix, '.keras')
  )


def reasons(files, before, now):
  flags = RunConfig(**before).as_flags()
  report = {'flags': flags, 'compressed': {'int8': {}} if 'export_int8' in before else {}}
  return outdated.reasons(settings_of(**now), files, report, sparse=False)


INT8 = {'export_int8': True}
REPAIR = {**INT8, 'int8_repair': 'auto'}


@pytest.mark.parametrize(
  ('before', 'now', 'named'),
  [
    ({}, {}, None),
    ({}, {'bench_threads': '1'}, '--bench_threads was 1,2 and is 1 now'),
    ({}, {'bench_cores': 1}, '--bench_cores was not given and is 1 now'),
    ({}, {'bench_streams': 2}, '--bench_streams was not given and is 2 now'),
    ({'bench_streams': 2}, {}, None),
    ({}, {'nb_smpls_calib': 9}, None),
    ({}, {'bench_device': 'ethos-u55-128'}, None),
    (INT8, {**INT8, 'nb_smpls_calib': 9}, '--nb_smpls_calib was 200 and is 9 now'),
    (INT8, {**INT8, 'bench_device': 'ethos-u55-128'}, '--bench_device was not given and is ethos'),
    (INT8, {**INT8, 'max_drop': 0.1}, None),
    (REPAIR, {**REPAIR, 'max_drop': 0.1}, '--max_drop was 0.005 and is 0.1 now'),
    (REPAIR, INT8, '--int8_repair was auto and is none now'),
    (REPAIR, {**INT8, 'qat': True}, None),
  ],
)
def test_flags_that_figures_depend_on(before, now, named, files):
  found = reasons(files, before, now)
  assert len(found) == (named is not None)
  assert named is None or named in found[0]


def test_missing_files_are_named(files):
  files.original_keras.unlink()
  wanted = {**INT8, 'export_formats': 'keras,tflite,pb'}
  assert reasons(files, {}, wanted) == ['there is no original.keras, pb, tflite_int8 yet']


def test_the_originals_figures_follow(files):
  block = {'tflite_bytes': 1, 'int8': {'npu': {'device': 'ethos-u55-128'}}}
  report = {'flags': RunConfig(**INT8).as_flags(), 'compressed': {}}

  def lacks(**options):
    return outdated.original_lacks(settings_of(**INT8, **options), files, block, report)

  assert not lacks()
  assert not lacks(bench_device='ethos-u55-128')
  assert lacks(bench_device='ethos-u55-256')
  assert lacks(nb_smpls_calib=9)


def test_an_unknown_device_is_refused_before_a_finished_run_is_touched():
  learner = SimpleNamespace(settings=settings_of(**INT8, bench_device='no-such-npu'))
  with pytest.raises(UserError, match=r'--bench_device|pip install'):
    MeasuredLearner.outdated_phases(learner)
