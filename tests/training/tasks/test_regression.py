"""Regression against scikit-learn."""

import numpy as np
import pytest
import tensorflow as tf
from sklearn import metrics

from secateurs.utils.errors import UserError
from secateurs.utils.training.tasks.criteria import Criteria
from secateurs.utils.training.tasks.evaluation import evaluate_function
from secateurs.utils.training.tasks.regression import Regression
from secateurs.utils.training.tasks.scores import Evaluation, Score

NB = 37


def sample(*shape, seed=0):
  rng = np.random.default_rng(seed)
  targets = rng.normal(3, 2, (NB, *shape)).astype(np.float32)
  found = (targets + rng.normal(size=targets.shape)).astype(np.float32)
  return found, targets, rng.uniform(0, 2, NB).astype(np.float32)


def evaluated(task, *parts, batch=8):
  batches = tf.data.Dataset.from_tensor_slices(parts).batch(batch)
  return evaluate_function(lambda outputs: outputs, batches, task)


@pytest.mark.parametrize('batch', [1, 8, 100])
def test_scores_are_those_of_scikit_learn(batch):
  found, targets, weights = sample(3)
  result = evaluated(Regression((3,)), found, targets, weights, batch=batch)
  options = {'sample_weight': weights}
  assert result.score.name == 'mae'
  assert not result.score.higher_is_better
  assert result.score.value == pytest.approx(
    metrics.mean_absolute_error(targets, found, **options), rel=1e-6
  )
  rmse, r2 = result.figures
  squared = metrics.mean_squared_error(targets, found, **options)
  assert rmse.value == pytest.approx(np.sqrt(squared), rel=1e-6)
  assert r2.value == pytest.approx(metrics.r2_score(targets, found, **options), rel=1e-5)
  assert result.loss == pytest.approx(squared, rel=1e-5)


def test_the_noise_is_the_standard_error_of_the_mean():
  found, targets, _ = sample(4, 4, 2)
  result = evaluated(Regression((4, 4, 2)), found, targets)
  errors = np.abs(found - targets).mean(axis=(1, 2, 3))
  assert result.score.value == pytest.approx(errors.mean(), rel=1e-6)
  assert result.score.noise == pytest.approx(errors.std() / np.sqrt(NB), rel=1e-5)


def test_targets_that_do_not_vary_have_no_r2():
  found, targets, _ = sample(1)
  assert [f.name for f in evaluated(Regression((1,)), found, np.ones_like(targets)).figures] == [
    'rmse'
  ]


def test_losses_and_distances_by_hand():
  task = Regression((3,))
  found, targets, weights = sample(3)
  squared = ((found - targets) ** 2).mean(axis=1)
  np.testing.assert_allclose(
    task.loss(targets, found, weights), np.average(squared, weights=weights), rtol=1e-5
  )
  np.testing.assert_allclose(task.distillation(targets, found, 4.0), squared.mean(), rtol=1e-5)
  np.testing.assert_allclose(task.divergence(targets, found), squared, rtol=1e-5)
  assert task.agreement(found, targets) is None


def test_own_losses_take_the_place_of_the_squared_error():
  def absolute(targets, outputs):
    return tf.reduce_mean(tf.abs(targets - outputs), -1)

  task = Regression((3,), Criteria(absolute))
  task.check()
  found, targets, _ = sample(3)
  np.testing.assert_allclose(task.loss(targets, found), np.abs(found - targets).mean(), rtol=1e-5)
  assert task.identity() == {'task': 'regression', 'loss': 'absolute'}


def test_shapes_and_values_of_targets():
  task = Regression((1,))
  assert task.canonical(tf.constant([1, 2])).shape == (2, 1)
  assert Regression((3,)).canonical(tf.zeros((2, 3, 1))).shape == (2, 3)
  with pytest.raises(
    UserError, match='targets of 1 samples are not finite, the first one is sample 1'
  ):
    task.require_targets(np.array([[1.0], [np.nan]]), 'training')


def test_a_baseline_no_better_than_the_mean():
  figures = (Score('rmse', 1.0), Score('r2', -0.1, unit='number'))
  guess = Evaluation(Score('mae', 1.0, False, 'number'), 1.0, 50, figures)
  assert 'R2 is -0.100' in Regression((1,)).guess_note(guess)
