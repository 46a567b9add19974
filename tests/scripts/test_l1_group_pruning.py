"""The L1 norm over channel groups, which channel pruning learners are compared with."""

import json

import pytest
import tf_keras as keras
from alike import alike

from secateurs.nets.resnet import cifar_resnet

SCRIPT = 'scripts/l1_group_pruning.py'


@pytest.fixture(scope='module')
def weights(tmp_path_factory):
  """Random weights: what is cut does not depend on a training."""
  keras.utils.set_random_seed(0)
  path = tmp_path_factory.mktemp('weights') / 'resnet20.keras'
  cifar_resnet(20).save(path)
  return path


@pytest.mark.parametrize('trunk', ['couple', *alike('keep')])
def test_equal_fractions_of_every_group_are_removed(run_script, tmp_path, trunk, weights):
  flags = ['nets/resnet_at_digits_run.py', '--run_dir', str(tmp_path), '--l1_trunk', trunk]
  flags += ['--l1_macs_ratio', '0.6', '--warm_start_path', str(weights), '--nb_epochs_ft', '0']
  done = run_script(SCRIPT, *flags, '--bench_frames', '5', '--bench_threads', '1')
  assert not done.returncode, done.stderr
  report = json.loads((tmp_path / 'logs' / 'l1-groups' / 'report.json').read_text())
  assert 0.5 < report['achieved']['macs_ratio'] <= 0.6
  left = {row['name']: row['out_channels'] for row in report['layers']}
  before, after = left['stage2_block1_conv2']  # What it makes lies on the trunk.
  assert (after == before) == (trunk == 'keep')
  before, after = left['stage2_block1_conv1']
  assert after < before


def test_missing_arguments_are_reported(run_script):
  assert run_script(SCRIPT, 'nets/no_such_run.py').returncode == 1
  assert 'Usage' in run_script(SCRIPT, '--l1_macs_ratio', '0.5').stderr
