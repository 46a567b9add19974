"""Commands that are given again with other flags, or twice at once."""

import contextlib
import subprocess
import sys

import filelock
import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from sklearn.linear_model import Ridge

from secateurs.learners.run.preflight import identity, lock
from secateurs.learners.run.training import batch_norms
from secateurs.utils.errors import UserError
from secateurs.utils.training import distributed
from secateurs.utils.training.engine import loop
from secateurs.utils.training.tasks.scores import Score

SHORT = {'training': {'nb_epochs_ft': 0.5}}


def test_a_finished_run_is_exported_as_int8_without_training(make, baseline, monkeypatch):
  warm = {'warm_start_path': baseline}
  first = make('weight-sparse', run=warm, **SHORT).train()
  assert 'tflite_int8' not in first.files
  monkeypatch.setattr(loop.TrainStep, 'run', None)  # Any training would fail.
  second = make('weight-sparse', run={**warm, 'export_int8': True}, **SHORT).train()
  assert 'tflite_int8' in second.files
  for block in ('original', 'compressed'):
    assert second.report[block]['int8']['accuracy'] > 0.1
    assert second.report[block]['accuracy'] == first.report[block]['accuracy']


def test_other_flags_start_again_from_the_same_baseline(make, monkeypatch, capsys):
  make('weight-sparse', prune_ratio=0.5, **SHORT).train()
  with pytest.raises(UserError, match='--restart compression to compress again from the same'):
    make('weight-sparse', prune_ratio=0.8, **SHORT).train()
  restart = {'restart': 'compression'}
  again = make('weight-sparse', prune_ratio=0.8, run=restart, **SHORT)
  capsys.readouterr()
  result = again.train()
  printed = capsys.readouterr().out
  assert 'training the baseline first' not in printed
  kept = again.files.save_path.parent / 'before_restart_1'
  assert f'was moved to {kept}' in printed
  assert list(kept.glob('*.index'))
  assert result.report['compressed']['sparsity'] == pytest.approx(0.8, abs=0.01)
  # The same command once more does not start again.
  monkeypatch.setattr(loop.TrainStep, 'run', None)
  assert (
    make('weight-sparse', prune_ratio=0.8, run=restart, **SHORT).train().report == result.report
  )


def test_flags_of_a_later_version_may_have_their_defaults(make, monkeypatch):
  """A checkpoint does not know flags that came after it."""
  known = identity.identity

  def earlier(settings):
    return {key: value for key, value in known(settings).items() if key != '--ws_pattern'}

  with monkeypatch.context() as past:
    past.setattr(identity, 'identity', earlier)
    make('weight-sparse', **SHORT).train()
  monkeypatch.setattr(loop.TrainStep, 'run', None)  # Any training would fail.
  make('weight-sparse', **SHORT).train()
  with pytest.raises(UserError, match='--ws_pattern not given, now kernel'):
    make('weight-sparse', pattern='kernel', **SHORT).train()


def test_a_run_is_of_its_processes_and_batches_and_of_no_version(make, monkeypatch):
  settings = make('weight-sparse', training={'batch_size': 32}).settings
  then = identity.identity(settings)
  identity.require_same_run(then, settings, 'x')
  assert tf.__version__ not in str(then)
  other = make('weight-sparse', training={'batch_size': 16}).settings
  with pytest.raises(
    UserError, match=r'^x is a checkpoint of another run \(--batch_size 32, now 16\)'
  ):
    identity.require_same_run(then, other, 'x')
  monkeypatch.setattr(distributed, 'size', lambda: 2)
  with pytest.raises(UserError, match=r'of another run \(-n not given, now 2\)'):
    identity.require_same_run(then, settings, 'x')


def test_full_prec_takes_the_baseline_that_a_compression_trained(make, monkeypatch):
  make('weight-sparse', **SHORT).train()
  monkeypatch.setattr(loop.TrainStep, 'run', None)
  result = make('full-prec', **SHORT).train()
  assert result.report['compressed']['accuracy'] > 0.3


@contextlib.contextmanager
def another_command(folder):
  """A process that has taken a folder, and ends as a crash would."""
  hold = (
    'import sys, time, filelock\n'
    'lock = filelock.FileLock(sys.argv[1])\n'
    'lock.acquire()\n'
    'print("held", flush=True)\n'
    'time.sleep(600)\n'
  )
  other = subprocess.Popen(
    [sys.executable, '-c', hold, str(folder / '.lock')], stdout=subprocess.PIPE, text=True
  )
  try:
    assert other.stdout.readline() == 'held\n'
    yield
  finally:
    other.kill()
    other.wait()


def test_two_commands_in_one_folder(tmp_path):
  folders = {tmp_path: '--run_dir'}
  taken = (
    f'Another command is working in {tmp_path}: wait until it has ended, or give another --run'
  )
  with another_command(tmp_path), pytest.raises(UserError, match=taken):
    lock.acquire(folders)
  lock.acquire(folders)  # Nothing is left behind.
  lock.acquire(folders)  # The same process may.
  with lock.held(folders):
    pass
  assert is_taken(tmp_path)  # As before.
  lock.release(tmp_path)
  with lock.held(folders):
    assert is_taken(tmp_path)
  assert not is_taken(tmp_path)
  with lock.held({tmp_path / 'none': '--run_dir'}):
    assert not (tmp_path / 'none').exists()


def test_two_folders_are_taken_and_given_back_together(tmp_path):
  runs, logs = [tmp_path / name for name in ('one', 'two')], tmp_path / 'logs'
  for folder in (*runs, logs):
    folder.mkdir()
  one, two = ({run: '--run_dir', logs: '--log_dir'} for run in runs)
  with another_command(logs), pytest.raises(UserError, match=f'{logs}: .*another --log_dir'):
    lock.acquire(one)
  assert not is_taken(runs[0])
  lock.acquire(one)
  lock.acquire(two)  # A baseline of the same command, say.
  lock.release(runs[1])
  assert [is_taken(folder) for folder in (*runs, logs)] == [True, False, True]
  lock.release(runs[0])
  assert not is_taken(runs[0])
  assert not is_taken(logs)


def is_taken(folder):
  """Whether this process has a folder."""
  try:
    filelock.FileLock(folder / '.lock').acquire(blocking=False).lock.release()
  except filelock.Timeout:
    return True
  return False


def test_what_writes_waits_for_a_training_and_evaluation_only_reads(make, baseline):
  """A command of another process works in the run's folder."""
  run = {'warm_start_path': baseline}
  learner = make('full-prec', run=run, training={'nb_epochs_rat': 0.01})
  learner.train()
  folder = learner.files.save_path.parent
  before = {path: path.stat().st_mtime_ns for path in learner.files.exported().values()}
  again = make('full-prec', run=run, training={'nb_epochs_rat': 0.01})
  with another_command(folder):
    for work in (again.train, again.dry_run, again.export, again.benchmark, again.verify):
      with pytest.raises(UserError, match=f'Another command is working in {folder}: wait until'):
        work()
    assert before == {path: path.stat().st_mtime_ns for path in before}
    assert 'keras' in again.evaluate()
  assert 'tflite' in again.benchmark()
  assert not is_taken(folder)


def test_two_commands_that_share_the_folder_of_reports_alone(make, baseline, tmp_path):
  run = {'warm_start_path': baseline, 'log_dir': str(tmp_path / 'logs')}
  learner = make('full-prec', run=run, save_path=str(tmp_path / 'other' / 'model.ckpt'))
  (tmp_path / 'logs').mkdir()
  taken = (
    f'command is working in {tmp_path / "logs"}: wait until it has ended, or give another --log'
  )
  with another_command(tmp_path / 'logs'):
    for work in (learner.train, learner.dry_run, learner.export, learner.benchmark):
      with pytest.raises(UserError, match=taken):
        work()
  assert not is_taken(tmp_path / 'other')


def test_a_baseline_that_is_being_trained_is_waited_for(make, tmp_path):
  """Two learners of one run folder share it."""
  shared = tmp_path / 'run' / 'models'
  shared.mkdir(parents=True)
  with another_command(shared), pytest.raises(UserError, match=f'command is working in {shared}:'):
    make('weight-sparse', **SHORT).train()


@pytest.fixture
def normalised(helper):
  """A network on digits, batch norm and a linear layer fit by least squares, with right statistics."""
  images, labels = next(iter(helper.eval_batches('train', 1437)))
  flat = images.numpy().reshape(len(images), -1)
  inputs = keras.Input(images.shape[1:])
  norm = keras.layers.BatchNormalization(scale=False, center=False)
  dense = keras.layers.Dense(10)
  model = keras.Model(inputs, dense(norm(keras.layers.Flatten()(inputs))))
  norm.set_weights([flat.mean(0), flat.var(0)])
  features = keras.Model(inputs, norm.output)(images, training=False).numpy()
  fit = Ridge(100.0).fit(features, np.eye(10)[labels.numpy()])
  dense.set_weights([fit.coef_.T, fit.intercept_])
  return model


def test_statistics_of_a_network_that_is_no_more_are_replaced(make, normalised):
  settings, norm = make('weight-sparse').settings, normalised.layers[2]
  right = [weight.numpy() for weight in norm.weights]
  norm.set_weights([right[0] + 2.0, right[1] * 9.0])
  found = batch_norms.reestimate_where_better(settings, normalised, 64)
  assert found.taken
  assert found.after > 0.9 > found.before
  assert (found.nb_judged, found.held_out) == (1437, False)
  np.testing.assert_allclose(norm.moving_mean, right[0], atol=0.2)
  text = batch_norms.note(found, Score('accuracy', 0.0))
  assert f'taken: accuracy {100 * found.after:.2f} % in place of' in text


def test_statistics_that_are_no_better_are_taken_back(make, normalised, monkeypatch):
  settings, norm = make('weight-sparse').settings, normalised.layers[2]
  before = [weight.numpy() for weight in norm.weights]
  # What comes of bad batches.
  monkeypatch.setattr(
    batch_norms, 'reestimate', lambda *_: norm.set_weights([before[0] + 2.0, before[1] * 9.0])
  )
  assert not batch_norms.reestimate_where_better(settings, normalised, 64).taken
  for weight, value in zip(norm.weights, before, strict=True):
    np.testing.assert_array_equal(weight, value)


def test_frozen_statistics_stay(make, normalised):
  normalised.layers[2].trainable = False
  assert batch_norms.reestimate_where_better(make('weight-sparse').settings, normalised, 64) is None
