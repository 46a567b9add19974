"""Every learner on a network for ILSVRC-12: depthwise layers, strides, records, 1000 classes."""

import pytest
from alike import few

from secateurs.learners import get_learner, learners
from secateurs.learners.run.configs import DistillConfig, RunConfig, TrainConfig
from secateurs.nets.datasets.ilsvrc12 import Ilsvrc12Config
from secateurs.nets.experiments import MOBILENET_AT_ILSVRC12
from secateurs.nets.mobilenet import MobileNetConfig

# What makes a learner's run short.
SHORT = {
  'chn-pruned': {'nb_batches': 2, 'batch_size': 32, 'compare': False},
  'dis-chn-pruned': {'nb_iters_block': 2, 'nb_iters_layer': 1, 'chns_per_step': 64},
  'joint-search': {'judge': 'half', 'max_drop': 0.5, 'nb_tries': 1},  # 20 images judge.
}


@pytest.fixture(scope='module')
def helper(tiny_ilsvrc12):
  net = MobileNetConfig(mobilenet_version=1, mobilenet_depth_mult=0.25)
  data = Ilsvrc12Config(data_dir_local=str(tiny_ilsvrc12), image_size=64)
  return MOBILENET_AT_ILSVRC12.make(net, data)


@pytest.fixture(scope='module')
def run_dir(tmp_path_factory):
  """One folder for all, so that the baseline is trained once."""
  return str(tmp_path_factory.mktemp('mobilenet'))


# The others have their tests on small networks.
NAMES = few(sorted(learners()), ('chn-pruned',))


@pytest.mark.parametrize('name', NAMES)
def test_every_learner_compresses_a_mobilenet(name, helper, run_dir):
  cls = get_learner(name)
  learner = cls(
    helper,
    cls.Config(**SHORT.get(name, {})),
    run=RunConfig(run_dir=run_dir, nb_smpls_calib=8, bench_frames=5, bench_threads='1'),
    training=TrainConfig(
      batch_size=16, nb_epochs_rat=0.01, nb_epochs_ft=None if name == 'full-prec' else 1.0
    ),
    distillation=DistillConfig(enbl_dst=name != 'full-prec'),
  )
  report = learner.train().report
  assert report['dataset'] == 'ilsvrc12'
  assert report['parity']['tflite_vs_keras'] < 1e-3
  assert 0 <= report['compressed']['accuracy'] <= report['compressed']['accuracy_top5'] <= 1
  if 'chn-pruned' in name:
    assert report['parity']['slim_vs_masked'] < 1e-4
    assert report['achieved']['macs_ratio'] < 0.75
  if name == 'weight-sparse':
    assert report['achieved']['sparsity'] == pytest.approx(0.75, abs=1e-3)
