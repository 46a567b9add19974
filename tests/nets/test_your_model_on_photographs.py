"""A network of tf_keras.applications, saved by its user, on photographs in folders, end to end."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import tensorflow as tf
import tf_keras as keras

ROOT = Path(__file__).parents[2]
SHARDS = {'train': ('train-00000-*', 'train-00001-*'), 'val': ('validation-00000-*',)}
# ILSVRC-12 has one photograph of each of its 1,000 classes here: so three groups of its labels.
FIRST_LABELS = {'animal': 1, 'thing': 399, 'other': 700}
FLAGS = {
  'chn-pruned': ['--cp_nb_batches', '2', '--nocp_compare'],
  'dis-chn-pruned': [
    '--dcp_nb_stages', '1', '--dcp_nb_iters_block', '4', '--dcp_nb_iters_layer', '2',
    '--dcp_chns_per_step', '1000', '--dcp_nb_smpls_layer', '64', '--dcp_nb_batches_score', '1',
  ],
}  # fmt: skip


@pytest.fixture(scope='module')
def photographs(ilsvrc12_sample, tmp_path_factory):
  """DIR/train and DIR/val with three class folders each."""
  root = tmp_path_factory.mktemp('photographs')
  for split, patterns in SHARDS.items():
    shards = [str(path) for pattern in patterns for path in sorted(ilsvrc12_sample.glob(pattern))]
    for record in tf.data.TFRecordDataset(shards).as_numpy_iterator():
      features = tf.train.Example.FromString(record).features.feature
      label = features['image/class/label'].int64_list.value[0]
      group = max((first, name) for name, first in FIRST_LABELS.items() if first <= label)[1]
      folder = root / split / group
      folder.mkdir(parents=True, exist_ok=True)
      (folder / f'{label:04d}.jpg').write_bytes(features['image/encoded'].bytes_list.value[0])
  return root


# With residual additions; and with a third of the layers, which are trained one by one.
NETWORKS = {
  'chn-pruned': (keras.applications.MobileNetV2, 0.35),
  'dis-chn-pruned': (keras.applications.MobileNet, 0.25),
}


@pytest.fixture
def mobilenet(learner, tmp_path):
  """The .keras file of a network that nothing of this project has built."""
  path = tmp_path / 'mobilenet.keras'
  keras.utils.set_random_seed(0)
  network, alpha = NETWORKS[learner]
  network((96, 96, 3), alpha=alpha, weights=None, classes=3).save(path)
  return path


@pytest.mark.slow
@pytest.mark.parametrize('learner', sorted(FLAGS))
def test_a_network_of_applications_on_photographs(learner, mobilenet, photographs, tmp_path):
  done = subprocess.run(
    [
      sys.executable, 'nets/saved_model_run.py', '--model', str(mobilenet), '--preprocess=-1..1',
      '--data_dir_local', str(photographs), '--learner', learner, '--run_dir', str(tmp_path),
      '--nb_epochs_ft', '1', '--bench_frames', '5', '--bench_threads', '1', *FLAGS[learner],
    ],
    cwd=ROOT, capture_output=True, text=True, check=False,
  )  # fmt: skip
  assert done.returncode == 0, done.stdout + done.stderr
  report = json.loads((tmp_path / 'logs' / learner / 'report.json').read_text())
  assert report['achieved']['macs_ratio'] < 0.6
  assert report['achieved']['params_ratio'] < 0.6
  before, after = report['original'], report['compressed']
  assert after['tflite_bytes'] < 0.6 * before['tflite_bytes']
  assert after['tflite_gzip_bytes'] < 0.6 * before['tflite_gzip_bytes']
  parity = report['parity']
  for key in ('tflite_vs_keras', 'reloaded_vs_keras'):
    assert parity[key] < 1e-3
  assert parity['slim_vs_masked'] < 1e-4
  small = keras.models.load_model(next(tmp_path.glob('models_*_eval/model.keras')))
  assert small.count_params() == after['params']
  assert small.input_shape == (None, 96, 96, 3)
  (outputs,) = small(tf.zeros([1, 96, 96, 3])).numpy()
  assert outputs.sum() == pytest.approx(1, abs=1e-5)  # It came with a softmax.
