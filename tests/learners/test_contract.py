"""What every registered learner keeps to."""

import contextlib
import copy
import dataclasses
import functools
import io
import json
import os
import shutil

import numpy as np
import pytest
import tf_keras as keras
from alike import alike, few
from killing import Killed, killed

from secateurs.learners import get_learner, learners, register
from secateurs.learners.run import phase_times
from secateurs.learners.run.phases import Phase
from secateurs.learners.run.results import reporting
from secateurs.learners.run.results.plans import read_plan, structure
from secateurs.nets.datasets.image_folder import ImageFolderConfig
from secateurs.utils.deploy.reports.rows import report_rows
from secateurs.utils.errors import UserError
from secateurs.utils.hits import unpacked
from secateurs.utils.training.engine import loop
from secateurs.utils.training.engine.averages import Averages
from secateurs.utils.training.engine.loop import DivergenceError
from secateurs.utils.training.engine.muon import Muon
from secateurs.utils.training.models.weights import named_weights

NAMES = sorted(learners())
COMPRESSING = [name for name in NAMES if name != 'full-prec']
# Of the runs that many tests look at, the fast lane makes a few; the joint search is the last.
QUICK = ('filter-pruned', 'full-prec', 'weight-sparse')
RUNS = [
  pytest.param(name, marks=[] if name in QUICK else [pytest.mark.slow])
  for name in sorted(NAMES, key=lambda name: name == 'joint-search')
]


def weights(path):
  return keras.models.load_model(path, compile=False).get_weights()


def equal(one, other):
  return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.fixture
def warm(baseline):
  return {'warm_start_path': baseline}


def killed_at(monkeypatch, learner, moment):
  """Runs a learner until its n-th training call returns, and stops it there like a kill."""
  with killed(monkeypatch, lambda steps: len(steps) > moment):
    learner.train()


@dataclasses.dataclass
class Finished:
  """A finished run: its folder, what makes another learner in it, its result and what it printed."""

  make: object
  learner: object
  result: object
  printed: str


@pytest.fixture(scope='module', params=RUNS)
def finished(request, make_in, baseline, tmp_path_factory):
  """A run of each learner with an int8 file, shared by the tests that only look at it."""
  folder, name = tmp_path_factory.mktemp(request.param), request.param

  def make(**run):
    return make_in(folder, name, run={'warm_start_path': baseline, 'save_step': 7, **run})

  learner = make(export_int8=True, export_formats='pb,tflite_fp16')
  with pytest.raises(UserError, match=r'run the same command with --exec_mode train first'):
    learner.benchmark()
  with contextlib.redirect_stdout(io.StringIO()) as printed:
    result = learner.train()
  return Finished(make, learner, result, printed.getvalue())


def test_a_run_ends_in_files_and_a_report(finished):
  result, learner = finished.result, finished.learner
  kinds = {'keras', 'pb', 'tflite', 'tflite_fp16', 'tflite_int8'}
  assert kinds <= set(result.files)
  report = json.loads((learner.files.log_dir / 'report.json').read_text())
  assert report['schema'] == 2
  rows = {row['format']: row for row in report['formats']}
  assert kinds <= set(rows)
  assert all(rows[kind]['score'] is not None for kind in kinds - {'pb'})
  assert all(rows[kind]['ms'] > 0 for kind in kinds - {'pb', 'keras'})
  assert report['compressed']['int8']['ram_bytes'] < report['compressed']['ram_bytes']
  assert (report['learner'], report['method']) == (learner.name, None)
  assert (report['task'], report['nb_smpls_eval']) == ('classification', 360)
  assert report['original']['accuracy'] == report['original']['score']['value'] > 0.9
  for block in (report['original'], report['compressed'], report['compressed']['int8']):
    right = unpacked(block['score']['hits'])
    assert (len(right), right.mean()) == (360, pytest.approx(block['score']['value']))
  assert report['compressed']['int8']['score']['value'] > 0.3
  assert report['parity']['tflite_vs_keras'] < 1e-3
  assert [p['name'] for p in report['phases']] == [*(p.name for p in learner.phases()), 'other']
  assert report['seconds_total'] == pytest.approx(sum(p['seconds'] for p in report['phases']))
  assert (learner.files.log_dir / 'report.html').stat().st_size > 10_000
  assert 'accuracy' in finished.printed
  assert equal(weights(result.files['keras']), result.model.get_weights())


def test_a_run_writes_a_plan_of_its_network(finished):
  plan = read_plan(finished.result.plan)
  assert plan.learner == finished.learner.name
  assert plan.layers == structure(finished.learner.helper.build_model(0))


def test_a_finished_run_is_not_run_again(finished, monkeypatch):
  monkeypatch.setattr(loop.TrainStep, 'run', None)  # Any training would fail.
  again = finished.make(export_int8=True).train()
  assert again.report == finished.result.report


def test_other_flags_are_another_run(finished):
  with pytest.raises(UserError, match=r'of another run \(--seed 0, now 1\)'):
    finished.make(seed=1).train()


def test_a_deleted_file_is_exported_again(finished, monkeypatch):
  monkeypatch.setattr(loop.TrainStep, 'run', None)
  path = finished.result.files['tflite']
  content = path.read_bytes()
  path.unlink()
  assert finished.make(export_int8=True).train().files['tflite'].read_bytes() == content


def test_evaluate_export_benchmark(finished, capsys):
  report = finished.result.report
  found = finished.make().evaluate()
  assert found['keras'].score.value == pytest.approx(report['compressed']['accuracy'])
  assert found['keras'].nb_samples == 360
  assert found['tflite'].score.value == pytest.approx(found['keras'].score.value, abs=0.01)
  files = finished.make(export_int8=True).export()
  model = finished.learner.settings.in_float32(finished.learner.model)
  assert equal(weights(files['keras']), model.get_weights())
  timed = finished.make().benchmark()
  assert {'tflite', 'tflite_int8'} <= set(timed)
  assert all(entry['p50_ms'] > 0 for entries in timed.values() for entry in entries)
  shown = capsys.readouterr().out
  assert 'frames/s' in shown
  assert 'CONV_2D' in shown
  assert json.loads((finished.learner.files.log_dir / 'node_data_ms.json').read_text())['results']
  verified = finished.make().verify()
  assert max(one.share for one in verified.layers['tflite']) < 1e-3
  assert max(verified.integers.values()) <= 1
  assert 'largest difference' in capsys.readouterr().out


# What a killed search ends in is a test of its own.
@pytest.mark.parametrize('finished', RUNS[:-1], indirect=True)
@pytest.mark.parametrize('moment', [4, *alike(1)])
def test_a_killed_run_goes_on_to_the_same_end(
  moment, finished, baseline, make_in, tmp_path, monkeypatch
):
  def make():
    return make_in(
      tmp_path, finished.learner.name, run={'warm_start_path': baseline, 'save_step': 7}
    )

  killed_at(monkeypatch, make(), moment)
  resumed = make().train()
  assert equal(finished.result.model.get_weights(), resumed.model.get_weights())
  accuracy = finished.result.report['compressed']['accuracy']
  assert accuracy == resumed.report['compressed']['accuracy']


def test_a_run_that_was_stopped_is_evaluated_by_its_last_checkpoint(
  make, warm, monkeypatch, capsys
):
  stopped = make('weight-sparse', run=warm)
  killed_at(monkeypatch, stopped, 2)
  found = make('weight-sparse', run=warm).evaluate()
  assert list(found) == ['checkpoint']
  told = capsys.readouterr().out
  assert 'There is no model.keras: evaluating the last checkpoint (baseline' in told
  model = stopped.helper.build_model(0)
  values = stopped.session.store.latest().values('model')
  for name, weight in named_weights(model).items():
    weight.assign(values[name])
  correct = total = 0
  for images, labels, *_ in stopped.helper.eval_batches('eval', 60):
    correct += int((model(images).numpy().argmax(-1) == labels.numpy()).sum())
    total += len(labels)
  assert total == found['checkpoint'].nb_samples
  assert found['checkpoint'].score.value == pytest.approx(correct / total)


def test_latency_of_pinned_cores_and_throughput_are_told_apart(make, warm):
  run = {**warm, 'bench_cores': 1, 'bench_streams': 3}
  result = make('full-prec', run=run).train()
  block = result.report['compressed']
  assert block['latency'][0]['cores'] == 1
  assert (block['throughput'][0]['streams'], block['throughput'][0]['cores']) == (3, 1)
  rows = {row.key: row.label for row in report_rows(result.report)}
  assert rows['latency/1/p50_ms'].startswith('latency median, 1 thread on 1 core')
  assert rows['throughput/3'] == 'throughput, frames/s of 3 streams on 1 core'


@pytest.mark.parametrize('name', few(NAMES, ('full-prec', 'gate-pruned', 'weight-sparse')))
def test_a_diverging_run_keeps_its_last_good_checkpoint(name, make, warm, monkeypatch):
  learner = make(name, run={**warm, 'save_step': 5})
  run, calls = loop.TrainStep.run, []

  def diverge(self, batches, nb_steps):
    calls.append(nb_steps)
    nb_done, means = run(self, batches, nb_steps)
    return (nb_done - 1, means) if sum(calls) > 12 else (nb_done, means)

  with monkeypatch.context() as patch:
    patch.setattr(loop.TrainStep, 'run', diverge)
    with pytest.raises(DivergenceError, match=r'phase \w+ at step \d+ with learning rate'):
      learner.train()
  saved = learner.session.store.latest()
  assert saved.state['step'] >= 5
  assert all(np.isfinite(v).all() for v in saved.values('model').values())


@pytest.mark.parametrize('name', few(COMPRESSING, ('chn-pruned', 'gate-pruned', 'uniform-quant')))
def test_bfloat16_training_exports_float32(name, make, warm):
  if os.environ.get('ONEDNN_MAX_CPU_ISA'):
    pytest.skip('ONEDNN_MAX_CPU_ISA may leave no kernels for bfloat16')
  learner = make(name, run={**warm, 'enbl_bf16': True, 'force_bf16': True})
  result = learner.train()
  assert learner.model.layers[1].compute_dtype == 'bfloat16'
  assert result.model.layers[1].compute_dtype == 'float32'
  assert result.report['parity']['tflite_vs_keras'] < 1e-3


@pytest.mark.parametrize('name', few(COMPRESSING, ('filter-pruned', 'prune-regrow')))
def test_without_weights_the_baseline_is_trained_first_and_said_so(name, make, capsys):
  make(name).train()
  assert 'training the baseline first' in capsys.readouterr().out
  make(name, run={'log_dir': 'x'}).phases()
  with pytest.raises(UserError, match='--enbl_warm_start needs trained weights'):
    make(name, 'empty', run={'enbl_warm_start': True}).train()


@pytest.fixture(scope='module')
def folder_of_a_baseline(make_in, tmp_path_factory):
  """A folder in which a longer baseline has been trained: copied by those that go on in it."""
  folder = tmp_path_factory.mktemp('trained')
  make_in(folder, 'full-prec', training={'nb_epochs_rat': 0.1}).train()
  return folder


@pytest.mark.parametrize('name', few(COMPRESSING, ('chn-pruned', 'weight-sparse')))
def test_a_finished_baseline_is_taken_whatever_its_schedule_was(
  name, make, folder_of_a_baseline, tmp_path, capsys
):
  shutil.copytree(folder_of_a_baseline, tmp_path / 'run')
  make(name, training={'nb_epochs_rat': 0.05}).train()
  assert 'training the baseline first' not in capsys.readouterr().out


@pytest.mark.parametrize('name', few(COMPRESSING, ('dis-chn-pruned', 'gate-pruned', 'reg-pruned')))
def test_distillation(name, make, warm, capsys):
  learner = make(name, run=warm, distillation={'enbl_dst': True})
  learner.train()
  assert capsys.readouterr().out.count(f'Teacher: {learner.files.original_keras}') == 1
  lines = [
    json.loads(s) for s in (learner.files.log_dir / 'metrics.jsonl').read_text().splitlines()
  ]
  assert all('loss_dst' in line for line in lines)


def test_distillation_from_a_checkpoint(make, baseline, capsys):
  make('full-prec', distillation={'enbl_dst': True, 'save_path_dst': baseline}).train()
  assert f'Teacher: {baseline}' in capsys.readouterr().out
  with pytest.raises(UserError, match='--enbl_dst needs a teacher'):
    make('full-prec', 'other', distillation={'enbl_dst': True}).train()
  named = {'enbl_dst': True, 'save_path_dst': 'nowhere/model.ckpt'}
  with pytest.raises(UserError, match=r'nowhere/model\.ckpt'):
    make('weight-sparse', 'third', run={'warm_start_path': baseline}, distillation=named).train()


def test_given_weights_are_evaluated_without_training(make, warm):
  found = make('full-prec', run=warm).evaluate()
  assert list(found) == ['weights']
  assert found['weights'].score.value > 0.9


def test_no_epochs_measure_what_was_given(make, warm):
  report = make('full-prec', run=warm, training={'nb_epochs_rat': 0.0}).train().report
  assert report['compressed']['accuracy'] > 0.9
  with pytest.raises(UserError, match='give zero training steps'):
    make('weight-sparse', run=warm, training={'nb_epochs_rat': 0.0}).train()


def test_a_baseline_of_another_network_is_refused_and_kept(make, helper):
  first = make('full-prec')
  first.train()
  other = make(
    'weight-sparse', helper=type(helper)('lenet2', helper._build, helper.dataset, helper.recipe)
  )
  with pytest.raises(UserError, match='holds a lenet trained on digits, but a lenet2 on digits'):
    other.train()
  assert first.session.store.latest() is not None


def test_a_baseline_with_other_pixels_is_refused(make, helper):
  large, small = copy.copy(helper), copy.copy(helper)
  large.configs = (ImageFolderConfig(image_size=16, nb_smpls_val=3),)
  small.configs = (ImageFolderConfig(image_size=8),)
  make('full-prec', helper=large).train()
  other = make('weight-sparse', helper=small)
  with pytest.raises(UserError, match=r'trained with --image_size 16, but now it is 8'):
    other.train()


@pytest.mark.parametrize('name', few(COMPRESSING, ('filter-pruned', 'non-uniform-quant')))
def test_muon_trains_what_is_left(name, make, warm, monkeypatch):
  used = []
  monkeypatch.setattr(Muon, 'update_step', lambda self, *_: used.append(self.kernel_factor))
  training = {'optimizer_ft': 'muon', 'lrn_rate_ft': 0.01, 'lrn_rate_muon': 0.02}
  make(name, run=warm, training=training).train()
  assert used
  assert set(used) == {2.0}


AVERAGED = [
  name for name in COMPRESSING if name != 'joint-search'
]  # Its last training may not come.


@pytest.mark.parametrize('name', few(AVERAGED, ('weight-sparse',)))
def test_a_run_that_ends_in_averages_goes_on_to_the_same_end(name, make, warm, monkeypatch):
  options = {'run': {**warm, 'save_step': 4}, 'training': {'average_ft': 'ema', 'ema_decay': 0.9}}
  whole = make(name, 'whole', **options).train()
  learner = make(name, 'killed', **options)
  with monkeypatch.context() as patch:
    patch.setattr(Averages, 'take', _die)
    with pytest.raises(Killed):
      learner.train()
  saved = learner.session.store.latest()
  assert saved.state['step']
  averages, last = saved.values('averages'), saved.values('model')
  assert not equal(averages.values(), [last.get(one, 0.0) for one in averages])
  resumed = make(name, 'killed', **options).train()
  assert equal(whole.model.get_weights(), resumed.model.get_weights())
  asked, found = (whole.report[block].get('sparsity') for block in ('requested', 'achieved'))
  assert asked is None or found == pytest.approx(asked, abs=0.01)


def _die(averages):
  raise Killed


@pytest.mark.parametrize(
  ('name', 'training', 'config'),
  [
    ('full-prec', {}, {}),
    ('chn-pruned', {'nb_epochs_ft': 0.0}, {}),
    ('weight-sparse', {}, {'prune_ratio': 0.0}),
  ],
)
def test_averages_of_no_training_are_refused(name, training, config, make, warm):
  learner = make(name, run=warm, training={'average_ft': 'ema', **training}, **config)
  with pytest.raises(UserError, match=f'--average_ft ema averages .* but {name} has none'):
    learner.train()


def test_the_training_of_a_baseline_does_not_hang_on_how_compression_trains(make, monkeypatch):
  training = {'optimizer_ft': 'muon', 'augment_ft': 'none', 'average_ft': 'ema', 'ema_decay': 0.9}
  learner = make('weight-sparse', training=training)
  killed_at(monkeypatch, learner, 1)
  make('weight-sparse').train()


def test_a_rate_that_is_far_too_great_is_told(make, warm):
  learner = make('full-prec', run=warm, training={'lrn_rate_init': 1e9, 'nb_epochs_rat': 0.5})
  with pytest.raises(DivergenceError, match=r'phase train at step \d+ with learning rate 1e\+09'):
    learner.train()


def test_weights_of_another_network(make, tmp_path):
  np.savez(tmp_path / 'w.npz', **{'conv1/kernel': np.zeros((3, 3, 3, 6))})
  with pytest.raises(
    UserError, match=r'conv1/kernel: expected \(5, 5, 3, 6\), found \(3, 3, 3, 6\)'
  ):
    make('weight-sparse', run={'warm_start_path': str(tmp_path / 'w.npz')}).train()


def test_seconds_of_a_killed_phase_are_kept_and_none_counts_twice(make, monkeypatch):
  now = [0.0]
  monkeypatch.setattr(phase_times.time, 'perf_counter', lambda: now[0])

  def work(learner, nb_parts):
    for number in range(nb_parts):
      now[0] += 10
      with learner.session.times.running('part'):
        now[0] += 5
        learner.save('work', 0)
      if number:
        now[0] += 100
        raise Killed

  learners = [make('full-prec') for _ in range(2)]
  for learner, nb_parts in zip(learners, (2, 1), strict=True):
    phase = Phase('work', functools.partial(work, learner, nb_parts))
    monkeypatch.setattr(learner, 'phases', lambda phase=phase: [phase])
  with pytest.raises(Killed):
    learners[0].run_phases()
  learners[1].run_phases()
  found = reporting.times(learners[1].session.state.times, [Phase('work', None)])
  assert {p['name']: p['seconds'] for p in found['phases']} == {
    'work': 45.0,
    'part': 15.0,
    'other': 0.0,
  }
  assert found['seconds_total'] == 45.0


def test_momentum_is_the_recipes_unless_given(make, helper):
  other = type(helper)('lenet', helper._build, helper.dataset, helper.recipe)
  other.recipe = dataclasses.replace(helper.recipe, momentum=0.95)
  for training, expected in (({}, 0.95), ({'momentum': 0.5}, 0.5)):
    for optimizer in ('sgd', 'muon'):
      options = {'training': {**training, 'optimizer_ft': optimizer}, 'helper': other}
      rates = make('weight-sparse', **options).rates
      assert rates.sgd(0.1).momentum == expected
      assert rates.fine_tune_optimizer(10).momentum == expected


def test_names_are_unique_and_mistakes_are_told():
  class Twin(get_learner('full-prec')):
    name = 'full-prec'

  with pytest.raises(ValueError, match='Two learners have the name full-prec'):
    register(Twin)
  with pytest.raises(UserError, match=r'Did you mean weight-sparse\?'):
    get_learner('weight-spars')


@pytest.mark.parametrize('name', NAMES)
def test_nothing_runs_in_constructors(name, make, tmp_path):
  make(name)
  assert list(tmp_path.iterdir()) == []
