"""All learners compress a detector as they compress a classifier."""

import contextlib
import io
import json

import pytest
from alike import alike

from secateurs.learners import get_learner
from secateurs.learners.run.configs import RunConfig, TrainConfig
from secateurs.nets.datasets.digit_scenes import DigitScenesConfig
from secateurs.nets.detectors import DetectionConfig
from secateurs.nets.experiments import SSD_AT_DIGIT_SCENES
from secateurs.nets.ssd import SmallSsdConfig

pytestmark = pytest.mark.slow
LEARNERS = {
  'filter-pruned': {'preserve_ratio': 0.5},
  'prune-regrow': {'preserve_ratio': 0.5},
  'chn-pruned': {'nb_batches': 1, 'batch_size': 16, 'compare': False},
  'dis-chn-pruned': {
    'nb_iters_block': 1,
    'nb_iters_layer': 1,
    'chns_per_step': 8,
    'batch_size': 16,
    'nb_smpls_layer': 16,
    'nb_batches_score': 1,
  },
  'weight-sparse': {'prune_ratio': 0.5},
  'uniform-quant': {},
}


@pytest.fixture(scope='module')
def scenes():
  data = DigitScenesConfig(nb_smpls_train=48, nb_smpls_eval=20)
  return SSD_AT_DIGIT_SCENES.make(SmallSsdConfig(ssd_width_mult=0.25), data, DetectionConfig())


@pytest.fixture(scope='module')
def dense(tmp_path_factory, scenes):
  """Checkpoint of a detector that has been trained for a few steps."""
  folder = tmp_path_factory.mktemp('dense')
  learner = get_learner('full-prec')(
    scenes,
    run=RunConfig(run_dir=str(folder), bench_frames=3, bench_threads='1'),
    training=TrainConfig(nb_epochs_rat=0.2, batch_size=16),
  )
  with contextlib.redirect_stdout(io.StringIO()):
    learner.train()
  return str(folder / 'models' / 'model.ckpt')


def run(make, scenes, dense, name, further=None, **options):
  learner = make(
    name,
    helper=scenes,
    run={'warm_start_path': dense, 'nb_smpls_calib': 16, **(further or {})},
    training={'nb_epochs_rat': 0.1, 'nb_epochs_ft': 1, 'batch_size': 16},
    **options,
    **LEARNERS[name],
  )
  with contextlib.redirect_stdout(io.StringIO()):
    result = learner.train()
  return learner, result


def test_a_detector_is_pruned_exported_and_reported(make, scenes, dense):
  learner, result = run(make, scenes, dense, 'filter-pruned', {'export_int8': True})
  report = json.loads((learner.files.log_dir / 'report.json').read_text())
  assert report['compressed']['score']['name'] == 'mAP'
  names = [one['name'] for one in report['compressed']['figures']]
  assert {'mAP 50', 'mAP 75', 'AP 0', 'AP 9'} <= set(names)
  assert 0.4 < report['achieved']['macs_ratio'] <= 0.5
  assert report['parity']['tflite_vs_keras'] < 1e-3
  assert report['compressed']['int8']['score']['name'] == 'mAP'
  assert {'tflite', 'tflite_int8', 'tflite_nms'} <= set(result.files)
  page = (learner.files.log_dir / 'report.html').read_text()
  assert 'Samples: objects, detections' in page
  assert result.model.output_shape == (None, 850, 15)


OTHERS = [name for name in LEARNERS if name not in ('filter-pruned', 'weight-sparse')]


@pytest.mark.parametrize(
  'name',
  alike('weight-sparse', *OTHERS),
)
def test_every_learner_takes_a_detector(name, make, scenes, dense):
  learner, _ = run(make, scenes, dense, name)
  report = json.loads((learner.files.log_dir / 'report.json').read_text())
  assert report['compressed']['score']['name'] == 'mAP'
  assert report['achieved']['macs_ratio'] < 1 or name in ('weight-sparse', 'uniform-quant')


@pytest.mark.exhaustive
def test_training_in_8_bits_and_from_a_teacher(make, scenes, dense):
  learner, _ = run(
    make,
    scenes,
    dense,
    'filter-pruned',
    quantization={'enbl_qat': True, 'nb_epochs_qat': 1},
    distillation={'enbl_dst': True},
  )
  report = json.loads((learner.files.log_dir / 'report.json').read_text())
  assert report['compressed']['int8']['score']['value'] >= 0
