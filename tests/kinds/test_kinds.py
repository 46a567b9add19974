"""Every kind of model and data through three learners: compressed, reloaded, checked."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from kinds import KINDS

from secateurs.learners import get_learner
from secateurs.learners.run.configs import RunConfig, TrainConfig
from secateurs.nets.model_helper import ModelHelper
from secateurs.utils import nested
from secateurs.utils.deploy.interpreter import TFLiteModel
from secateurs.utils.graph import count

LEARNERS = {
  'weight-sparse': {},
  'filter-pruned': {},
  'chn-pruned': {'nb_batches': 1},
  'dis-chn-pruned': {
    'nb_stages': 1, 'nb_iters_block': 1, 'nb_iters_layer': 1, 'nb_smpls_layer': 16,
    'nb_batches_score': 2, 'batch_size': 8, 'chns_per_step': 4,
  },
}  # fmt: skip
NAMES = list(KINDS)
CASES = [
  pytest.param(name, learner, marks=() if place % 4 == number else pytest.mark.slow)
  for place, name in enumerate(NAMES)
  for number, learner in enumerate(LEARNERS)
]


@pytest.mark.parametrize(('name', 'learner'), CASES)
def test_a_kind_is_compressed_reloaded_and_checked(name, learner, tmp_path):
  given = KINDS[name]()
  helper = ModelHelper.from_model(given.model, given.train, given.test, **given.options)
  assert helper.task.name == given.task
  cls = get_learner(learner)
  run = RunConfig(run_dir=str(tmp_path), bench_frames=1, bench_threads='1', nb_smpls_calib=8)
  training = TrainConfig(nb_epochs_ft=0.2, batch_size=16)
  result = cls(helper, cls.Config(**LEARNERS[learner]), run=run, training=training).train()
  report = result.report
  assert report['task'] == given.task
  if learner == 'weight-sparse':
    assert report['achieved']['sparsity'] > 0.3
  else:
    assert report['achieved']['macs_ratio'] < 1
    assert count(result.model).params < count(helper.build_model(0)).params
  inputs = helper.calibration_images(5)
  expected = nested.parts(result.model(inputs, training=False))
  reloaded = keras.models.load_model(result.files['keras'], compile=False)
  lite = TFLiteModel(result.files['tflite'])
  for found in (reloaded(inputs, training=False), lite.predict(inputs)):
    for one, wanted in zip(nested.parts(found), expected, strict=True):
      np.testing.assert_allclose(
        one, wanted, atol=1e-3 * float(tf.reduce_max(tf.abs(wanted))) + 1e-5
      )
