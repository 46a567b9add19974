"""The command line as a user meets it: whole processes, exit codes, what is printed."""

import errno
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from absl import flags

from secateurs.learners import cli, get_learner, learners
from secateurs.learners.run.configs import RunConfig
from secateurs.learners.run.switch_words import with_words
from secateurs.nets.experiments import LENET_AT_DIGITS
from secateurs.utils.flag_values import define_flags, read_config

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / 'nets' / 'lenet_at_digits_run.py'
SHORT = [
  '--nb_epochs_rat',
  '0.05',
  '--bench_frames',
  '5',
  '--bench_threads',
  '1',
  '--summ_step',
  '10',
]


def call(*args, cwd, script=SCRIPT, **environment):
  return subprocess.run(
    [sys.executable, str(script), *args],
    cwd=cwd,
    capture_output=True,
    text=True,
    timeout=1200,
    env=os.environ | environment,
    check=False,
  )


def one_sentence(text):
  lines = text.strip().splitlines()
  assert len(lines) == 1, text
  assert lines[0].startswith('Error: ')
  assert 'Traceback' not in text
  return lines[0]


LONG = [
  '--learner=weight-sparse',
  '--nb_epochs_rat=0.05',
  '--nb_epochs_ft=20',
  '--summ_step=20',
  '--save_step=20',
  '--bench_frames=5',
  '--bench_threads=1',
]


@pytest.fixture(scope='module')
def whole_run(tmp_path_factory):
  """A folder in which the command `LONG` ran undisturbed, and its process."""
  folder = tmp_path_factory.mktemp('whole')
  return folder, call(*LONG, cwd=folder)


def report_in(folder):
  path = folder / 'runs' / 'lenet_at_digits' / 'logs' / 'weight-sparse' / 'report.json'
  return json.loads(path.read_text())


@pytest.mark.slow
def test_a_whole_run_is_quiet_but_for_ours(whole_run):
  folder, done = whole_run
  assert done.returncode == 0, done.stderr
  assert done.stderr == ''
  assert (folder / 'runs' / 'lenet_at_digits' / 'models_ws_eval' / 'model.tflite').is_file()
  assert report_in(folder)['schema'] == 2
  assert 'training the baseline first' in done.stdout
  assert 'gzipped' in done.stdout


@pytest.mark.parametrize(
  ('args', 'code', 'text'),
  [
    (['--ws_prune_ration', '0.5'], 2, 'ws_prune_ratio'),
    (['--batch_size', 'many'], 2, 'batch_size'),
    (['0.5'], 2, 'is not a flag'),
    (['--learner', 'weight-sparce'], 1, 'Did you mean weight-sparse?'),
    (
      ['--learner', 'weight-sparse', '--ws_prune_ratio', '2'],
      1,
      '--ws_prune_ratio takes a value in',
    ),
    (['--warm_start_path', 'none.npz'], 1, 'none.npz does not exist'),
    (['--exec_mode', 'eval'], 1, '--exec_mode train first'),
    (['--bench_threads', '1;2'], 1, '--bench_threads takes'),
    (
      ['--ws_prune_ratio', '0.5'],
      1,
      'a flag of learner weight-sparse and has no effect on full-prec',
    ),
    (
      ['--learner', 'chn-pruned', '--cp_prune_option', 'list', '--cp_preserve_ratio', '0.3'],
      1,
      '--cp_preserve_ratio 0.3 has an effect only with --cp_prune_option uniform',
    ),
    (['--learner', 'weight-sparse', '--nb_epochs_ft', '0'], 1, 'set --nb_epochs_ft above 0'),
    (['--batch_size', '5000'], 1, '--batch_size 5000 times 1 process(es) is more than the'),
  ],
)
def test_mistakes_are_one_sentence(tmp_path, args, code, text, monkeypatch, capsys):
  monkeypatch.chdir(tmp_path)
  assert cli.exit_code(lambda: LENET_AT_DIGITS, [str(SCRIPT), *args]) == code
  assert text in one_sentence(capsys.readouterr().err)


@pytest.mark.parametrize(
  ('args', 'code', 'text'),
  [(['0.5'], 2, 'is not a flag'), (['--exec_mode', 'eval'], 1, '--exec_mode train first')],
)
def test_a_mistake_ends_the_process(tmp_path, args, code, text):
  done = call(*args, cwd=tmp_path)
  assert text in one_sentence(done.stderr)
  assert done.returncode == code


def test_log_dir_that_cannot_be_written(tmp_path):
  (tmp_path / 'file').write_text('kept')
  done = call('--log_dir', 'file/logs', *SHORT, cwd=tmp_path)
  assert 'Cannot write to the folder file/logs' in one_sentence(done.stderr)
  assert done.returncode == 1
  assert (tmp_path / 'file').read_text() == 'kept'


def test_a_full_disk_is_one_sentence_wherever_it_is_noticed(capsys):
  def full():
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), '/runs/x')

  assert cli.exit_code(full, [str(SCRIPT)]) == 1
  text = one_sentence(capsys.readouterr().err)
  assert '/runs/x could not be read or written (No space left on device): make room' in text


def test_debug_shows_the_traceback(tmp_path):
  done = call('--warm_start_path', 'none.npz', '--debug', cwd=tmp_path)
  assert 'Traceback' in done.stderr
  assert done.returncode == 1


def test_a_dry_run_prints_the_phases_and_trains_nothing(tmp_path):
  done = call('--learner', 'weight-sparse', '--dry_run', *SHORT, cwd=tmp_path)
  assert done.returncode == 0, done.stderr
  assert done.stdout.startswith('Loading TensorFlow ...\n')
  assert '--nb_epochs_rat 0.05' in done.stdout
  assert re.search(r'Phase 1 of 4, baseline: .+, \d+ training steps\n', done.stdout)
  assert re.search(r'Phase 3 of 4, sparsify: .+, \d+ training steps\n', done.stdout)
  assert re.search(r'A training step takes \d+ ms here .+ for the \d+ training steps', done.stdout)
  assert re.search(
    r'image takes \d[\d.e+-]* ms: about .+ for [\d,]+ images that evaluate', done.stdout
  )
  assert re.search(r'^Together about .+\. Left out: loading, ', done.stdout, re.MULTILINE)
  assert not list(tmp_path.rglob('*.index'))
  assert not list(tmp_path.rglob('*.tflite'))


def test_help(tmp_path):
  done = call('--help', cwd=tmp_path)
  assert done.returncode == 0
  for flag in ('--learner', '--ws_prune_ratio', '--enbl_dst', '--nb_smpls_val', '--debug'):
    assert flag in done.stdout


def test_a_file_of_flags(tmp_path, monkeypatch, capsys):
  monkeypatch.chdir(tmp_path)
  Path('my.flags').write_text('--learner=weight-sparse\n--ws_prune_ratio=3\n')
  assert cli.exit_code(lambda: LENET_AT_DIGITS, [str(SCRIPT), '--flagfile', 'my.flags']) == 1
  assert '--ws_prune_ratio takes' in one_sentence(capsys.readouterr().err)


def start(args, cwd):
  return subprocess.Popen(
    [sys.executable, str(SCRIPT), *args],
    cwd=cwd,
    stdout=subprocess.PIPE,
    text=True,
    stderr=subprocess.PIPE,
    # Where the tests run in a shell script's background, Ctrl-C is ignored and children inherit that.
    preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
  )


def wait_for(process, text):
  for line in process.stdout:
    if text in line:
      return
  raise AssertionError(f'{text!r} never came: {process.stderr.read()}')


@pytest.mark.slow
def test_stopped_runs_go_on_with_the_same_command(whole_run, tmp_path):
  for step, how in ((40, signal.SIGINT), (120, signal.SIGKILL), (300, signal.SIGKILL)):
    process = start(LONG, tmp_path)
    wait_for(process, f'sparsify  step {step}/')
    process.send_signal(how)
    _, err = process.communicate(timeout=60)
    if how == signal.SIGINT:
      assert process.returncode == 130
      assert (
        err.strip().splitlines()[-1].startswith('Error: Interrupted: run the same command again')
      )
      assert 'Traceback' not in err
    else:
      assert process.returncode == -signal.SIGKILL
  done = call(*LONG, cwd=tmp_path)
  assert done.returncode == 0, done.stderr
  assert 'Resuming from' in done.stdout
  whole, stopped = (report_in(folder)['compressed'] for folder in (whole_run[0], tmp_path))
  for key in ('accuracy', 'sparsity', 'loss', 'tflite_gzip_bytes'):
    assert whole[key] == pytest.approx(stopped[key], rel=1e-4)


@pytest.mark.slow
@pytest.mark.exhaustive
def test_the_quick_start_reaches_its_accuracy(tmp_path):
  script = ROOT / 'nets' / 'resnet_at_digits_run.py'
  done = call('--learner', 'weight-sparse', cwd=tmp_path, script=script)
  assert done.returncode == 0, done.stderr
  path = tmp_path / 'runs' / 'resnet20_at_digits' / 'logs' / 'weight-sparse' / 'report.json'
  report = json.loads(path.read_text())
  assert report['original']['accuracy'] >= 0.98
  assert report['compressed']['accuracy'] >= 0.98
  assert report['achieved']['sparsity'] == pytest.approx(0.75, abs=1e-4)


@pytest.mark.slow
def test_cifar10_from_trained_weights(tmp_path, cifar10_folder, trained_weights):
  script = ROOT / 'nets' / 'resnet_at_cifar10_run.py'
  (tmp_path / 'path.conf').write_text(f'data_dir_local_cifar10 = {cifar10_folder}\n')
  args = ['--learner', 'weight-sparse', '--ws_prune_ratio', '0.5', '--nb_epochs_ft', '2']
  args += ['--warm_start_path', str(trained_weights / 'resnet20_cifar10.npz'), '--export_int8']
  args += ['--nb_smpls_train', '640', '--nb_smpls_eval', '500', '--lrn_rate_ft', '0.01']
  args += ['--bench_frames', '5', '--bench_threads', '1']
  done = call(*args, cwd=tmp_path, script=script)
  assert done.returncode == 0, done.stderr
  path = tmp_path / 'runs' / 'resnet20_at_cifar10' / 'logs' / 'weight-sparse' / 'report.json'
  report = json.loads(path.read_text())
  assert report['original']['accuracy'] > 0.85
  assert report['original']['macs'] == 40_813_184
  assert report['compressed']['accuracy'] > 0.75
  assert report['compressed']['int8']['accuracy'] > 0.75


@pytest.mark.parametrize('given', [True, False])
def test_a_path_that_is_given_is_taken_even_if_it_is_the_default(helper, tmp_path, given):
  """Only where nobody gave it does it lie in the run's folder."""
  kind, values = get_learner('weight-sparse'), flags.FlagValues()
  for config_class in (RunConfig, kind.Config):
    define_flags(config_class, values)
  args = ['--ws_save_path=./models_ws/model.ckpt', '--log_dir', './logs/<learner>'] if given else []
  values(['x', f'--run_dir={tmp_path}', *args])
  config, run = (read_config(one, values) for one in (kind.Config, RunConfig))
  learner = kind(helper, config, run=run)
  folder = Path() if given else tmp_path
  assert learner.files.save_path == folder / 'models_ws' / 'model.ckpt'
  assert learner.files.save_path_eval == tmp_path / 'models_ws_eval' / 'model'
  assert learner.files.log_dir == folder / 'logs' / 'weight-sparse'


def test_the_order_of_learners_does_not_depend_on_imports():
  code = (
    'import sys, importlib; importlib.import_module("secateurs.learners." + sys.argv[1]);'
    'from secateurs.learners import learners; print(*learners())'
  )
  command = [sys.executable, '-c', code, 'channel_pruned']
  names = subprocess.run(command, capture_output=True, text=True).stdout.splitlines()[-1].split()
  assert names == list(learners())  # Here other modules came first.
  assert 'chn-pruned' in names


@pytest.mark.parametrize(
  ('given', 'meant'),
  [
    (['--export_int8', 'auto'], ['--export_int8', '--int8_repair', 'auto']),
    (['--export_int8=auto', '--seed=1'], ['--export_int8', '--int8_repair', 'auto', '--seed=1']),
    (['--export_int8', '--seed', '1'], ['--export_int8', '--seed', '1']),
    (['--noexport_int8'], ['--noexport_int8']),
    (['--enbl_bf16', 'force'], ['--enbl_bf16', '--force_bf16']),
    (['--net', 'auto'], ['--net', 'auto']),
  ],
)
def test_words_after_switches_set_a_second_flag(given, meant):
  assert with_words(['run.py', *given]) == ['run.py', *meant]
