"""Every kind of model and data through three learners: compressed, reloaded, checked."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from kinds import KINDS, NB_EVAL

from secateurs.learners import get_learner
from secateurs.learners.run.configs import RunConfig, TrainConfig
from secateurs.nets.model_helper import ModelHelper
from secateurs.utils import nested
from secateurs.utils.deploy.runtime.interpreter import TFLiteModel
from secateurs.utils.graph import count
from secateurs.utils.training.models.weights import assign_weights, named_weights
from secateurs.utils.training.tasks.evaluation import evaluate_function
from secateurs.utils.training.tasks.objectives import TaskObjective
from secateurs.utils.training.tasks.task import Batch

LEARNERS = {
  'weight-sparse': {},
  'filter-pruned': {},
  'chn-pruned': {'nb_batches': 1},
  'dis-chn-pruned': {
    'nb_stages': 1, 'nb_iters_block': 1, 'nb_iters_layer': 1, 'nb_smpls_layer': 16,
    'nb_batches_score': 2, 'batch_size': 8, 'chns_per_step': 4,
  },
}  # fmt: skip
# One run of each learner and of most tasks is quick enough for every day.
QUICK = {
  ('one_sigmoid', 'weight-sparse'),
  ('table_of_numbers', 'chn-pruned'),
  ('pixels_of_classes', 'filter-pruned'),
  ('two_inputs', 'filter-pruned'),
  ('outputs_in_a_dictionary', 'dis-chn-pruned'),
}
REFITTING = ('chn-pruned', 'dis-chn-pruned')  # Every other kind has the one, or the other.
BOTH = ('attention', 'lstm_head', 'gru_head')  # These have both.


def _marks(name, learner, of_the_suite):
  if (name, learner) in QUICK:
    return ()
  return (pytest.mark.slow,) if of_the_suite else (pytest.mark.slow, pytest.mark.exhaustive)


def _learners(name, number):
  refitting = [REFITTING[number % 2]] + [REFITTING[1 - number % 2]] * (name in BOTH)
  return ['weight-sparse', 'filter-pruned', *refitting]


# The suite compresses every third kind by one learner, the exhaustive one all of them by three or four.
CASES = [
  pytest.param(name, learner, marks=_marks(name, learner, number % 9 == 3 * place))
  for number, name in enumerate(KINDS)
  for place, learner in enumerate(_learners(name, number))
]


@pytest.mark.parametrize('name', KINDS)
def test_a_kind_is_understood(name):
  """Its task, its batches, the loss and its gradient, and the sums of its score."""
  given = KINDS[name]()
  helper = ModelHelper.from_model(given.model, given.train, given.test, **given.options)
  task = helper.task
  assert task.name == given.task
  model = helper.build_model(0)
  assign_weights(named_weights(model), helper.given_weights(), name)
  inputs = helper.calibration_images(3)
  expected = given.model(inputs, training=False)
  deployed = task.deployable(model)(inputs, training=False)
  kept = nested.parts(deployed)
  if len(kept) == len(nested.parts(expected)):
    for one, wanted in zip(kept, nested.parts(expected), strict=True):
      np.testing.assert_allclose(one, tf.cast(wanted, tf.float32), atol=2e-3)
  batch = Batch(*next(iter(helper.train_batches(8, 0))))
  with tf.GradientTape() as tape:
    loss, shown = TaskObjective(model, task)(batch)
  assert np.isfinite(loss)
  assert tuple(shown) == tuple(task.metric_names)
  gradients = tape.gradient(loss, model.trainable_variables)
  assert gradients
  assert all(gradient is not None for gradient in gradients)
  found = evaluate_function(model, helper.eval_batches('eval', 9), task)
  assert found.nb_samples == NB_EVAL


@pytest.mark.parametrize(('name', 'learner'), CASES)
def test_a_kind_is_compressed_reloaded_and_checked(name, learner, tmp_path):
  given = KINDS[name]()
  helper = ModelHelper.from_model(given.model, given.train, given.test, **given.options)
  assert helper.task.name == given.task
  cls = get_learner(learner)
  run = RunConfig(run_dir=str(tmp_path), bench_frames=1, bench_threads='1', nb_smpls_calib=8)
  training = TrainConfig(nb_epochs_ft=0.2, batch_size=16, bn_reestimate=False)
  result = cls(helper, cls.Config(**LEARNERS[learner]), run=run, training=training).train()
  report = result.report
  assert report['task'] == given.task
  if learner == 'weight-sparse':
    assert report['achieved']['sparsity'] > 0.3
  else:
    assert report['achieved']['macs_ratio'] < 1
    assert count(result.model).params < count(helper.build_model(0)).params
  if learner == 'dis-chn-pruned':  # Of samples, and not of outputs.
    assert report['extra']['samples'] == 16
  inputs = helper.calibration_images(5)
  expected = nested.parts(result.model(inputs, training=False))
  reloaded = keras.models.load_model(result.files['keras'], compile=False)
  lite = TFLiteModel(result.files['tflite'])
  for found in (reloaded(inputs, training=False), lite.predict(inputs)):
    for one, wanted in zip(nested.parts(found), expected, strict=True):
      np.testing.assert_allclose(
        one, wanted, atol=1e-3 * float(tf.reduce_max(tf.abs(wanted))) + 1e-5
      )


@pytest.mark.exhaustive
@pytest.mark.slow
def test_a_search_counts_the_samples_of_a_network_of_several_outputs(tmp_path):
  given = KINDS['outputs_in_a_dictionary']()
  helper = ModelHelper.from_model(given.model, given.train, given.test, **given.options)
  cls = get_learner('chn-pruned')
  config = cls.Config(
    prune_option='auto', preserve_ratio=0.6, nb_batches=1, nb_rlouts=2, nb_smpls_reward=9
  )
  run = RunConfig(run_dir=str(tmp_path), bench_frames=1, bench_threads='1')
  training = TrainConfig(nb_epochs_ft=0.0, batch_size=16, bn_reestimate=False)
  report = cls(helper, config, run=run, training=training).train().report
  assert report['extra']['search']['samples'] == 9
