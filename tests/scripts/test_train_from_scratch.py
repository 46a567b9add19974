"""Training slim networks from scratch, for comparison with pruned weights."""

import json

import numpy as np
import tf_keras as keras

from secateurs.nets.datasets import digits
from secateurs.nets.datasets.source import DataConfig
from secateurs.utils.graph import count

SCRIPT = 'scripts/train_from_scratch.py'


def test_the_architecture_is_trained_with_equal_compute(run_script, tmp_path):
  slim, shape = tmp_path / 'slim.keras', digits.load(DataConfig()).image_shape
  narrow = keras.Sequential(
    [
      keras.layers.Conv2D(4, 3, padding='same', activation='relu', input_shape=shape),
      keras.layers.GlobalAveragePooling2D(),
      keras.layers.Dense(10, activation='softmax'),  # As some tasks export; none trains on it.
    ]
  )
  narrow.save(slim)
  common = ['nets/lenet_at_digits_run.py', '--scratch_model', str(slim), '--nb_epochs_rat', '0.02']
  common += ['--nb_epochs_ft', '1', '--bench_frames', '5', '--bench_threads', '1']
  reports, baseline = {}, []
  for budget in ('epochs', 'macs'):
    folder = tmp_path / budget
    done = run_script(
      SCRIPT, *common, *baseline, '--run_dir', str(folder), '--scratch_budget', budget
    )
    # The second run starts from the baseline of the first.
    baseline = ['--warm_start_path', str(folder / 'models' / 'model.ckpt')]
    assert not done.returncode, done.stderr
    reports[budget] = json.loads((folder / 'logs' / 'scratch' / 'report.json').read_text())
    trained = keras.models.load_model(folder / 'models_scratch_eval' / 'model.keras')
    assert trained.count_params() == narrow.count_params()
    outputs = trained(np.random.default_rng(0).normal(size=(3, *shape)).astype(np.float32))
    assert not np.allclose(np.sum(outputs, axis=1), 1, atol=1e-2)
    assert not np.allclose(trained.get_weights()[0], narrow.get_weights()[0], atol=1e-2)
  steps = {
    budget: {phase['name']: phase['iters'] for phase in report['phases']}['train']
    for budget, report in reports.items()
  }
  whole = reports['epochs']['original']
  assert whole['macs'] > count(narrow).macs
  assert steps['macs'] == round(steps['epochs'] * whole['macs'] / count(narrow).macs)


def test_missing_arguments_are_reported(run_script, tmp_path):
  done = run_script(SCRIPT, 'nets/no_such_run.py')
  assert done.returncode == 1
  assert 'nets/no_such_run.py is no entry script' in done.stderr
