"""Binary and multi-label tasks against scikit-learn and NumPy."""

import numpy as np
import pytest
import tensorflow as tf
from sklearn import metrics

from secateurs.utils.errors import UserError
from secateurs.utils.training.tasks.criteria import Criteria
from secateurs.utils.training.tasks.evaluation import evaluate_function
from secateurs.utils.training.tasks.ranking import auc, average_precision, mean_average_precision
from secateurs.utils.training.tasks.scores import Evaluation, Score
from secateurs.utils.training.tasks.sigmoids import Binary, MultiLabel

NB = 41


def sample(labels, seed=0):
  rng = np.random.default_rng(seed)
  targets = rng.integers(0, 2, (NB, labels)).astype(np.float32)
  logits = (rng.normal(size=(NB, labels)) + targets).round(1).astype(np.float32)  # With ties.
  return logits, targets, rng.uniform(0, 2, NB).astype(np.float32)


def sigmoid(x):
  return 1 / (1 + np.exp(-x.astype(np.float64)))


def entropy(targets, logits):
  p = sigmoid(logits)
  return -(targets * np.log(p) + (1 - targets) * np.log(1 - p)).mean(axis=1)


def evaluated(task, logits, targets, weights=None, batch=7):
  parts = (logits, targets) if weights is None else (logits, targets, weights)
  batches = tf.data.Dataset.from_tensor_slices(parts).batch(batch)
  return evaluate_function(lambda outputs: outputs, batches, task)


@pytest.mark.parametrize('seed', range(4))
def test_ranking_is_that_of_scikit_learn(seed):
  logits, targets, _ = sample(3, seed)
  area, noise = auc(targets[:, 0], logits[:, 0])
  assert area == pytest.approx(metrics.roc_auc_score(targets[:, 0], logits[:, 0]), abs=1e-12)
  assert 0.02 < noise < 0.15
  expected = [metrics.average_precision_score(targets[:, i], logits[:, i]) for i in range(3)]
  found = [average_precision(targets[:, i], logits[:, i]) for i in range(3)]
  np.testing.assert_allclose(found, expected, atol=1e-12)
  value, error = mean_average_precision(targets, logits)
  assert value == pytest.approx(np.mean(expected))
  assert 0.01 < error < 0.2


def test_ranking_of_one_class_is_not_defined():
  assert auc(np.ones(4), np.arange(4)) is None
  assert average_precision(np.zeros(4), np.arange(4)) is None
  assert mean_average_precision(np.zeros((4, 2)), np.ones((4, 2))) is None


def test_the_noise_of_the_area_is_that_of_repeated_samples():
  rng = np.random.default_rng(0)

  def draw():
    wanted = np.arange(200) % 2
    return auc(wanted, rng.normal(size=200) + wanted)

  found = np.array([draw() for _ in range(200)])
  assert found[:, 1].mean() == pytest.approx(found[:, 0].std(), rel=0.2)


@pytest.mark.parametrize('batch', [1, 7, 100])
def test_binary_scores_by_hand(batch):
  logits, targets, weights = sample(1)
  found = evaluated(Binary((1,)), logits, targets, weights, batch)
  right = (logits > 0)[:, 0] == (targets > 0.5)[:, 0]
  assert found.score.name == 'accuracy'
  assert found.score.value == pytest.approx(np.average(right, weights=weights))
  assert found.loss == pytest.approx(
    np.average(entropy(targets, logits), weights=weights), rel=1e-5
  )
  (area,) = found.figures
  assert area.value == pytest.approx(metrics.roc_auc_score(targets[:, 0], logits[:, 0]))
  assert found.nb_samples == NB


def test_multi_label_scores_by_hand():
  logits, targets, _ = sample(3)
  found = evaluated(MultiLabel((3,)), logits, targets)
  right = (logits > 0) == (targets > 0.5)
  assert found.score.name == 'mean_average_precision'
  expected = metrics.average_precision_score(targets, logits, average='macro')
  assert found.score.value == pytest.approx(expected)
  labels, exact = found.figures
  assert labels.value == pytest.approx(right.mean())
  assert labels.noise == pytest.approx(right.mean(axis=1).std() / np.sqrt(NB))
  assert exact.value == pytest.approx(right.all(axis=1).mean())


@pytest.mark.parametrize('labels', [1, 3])
def test_losses_metrics_and_distillation_by_hand(labels):
  task = (Binary if labels == 1 else MultiLabel)((labels,))
  logits, targets, weights = sample(labels)
  other = logits[::-1].copy()
  np.testing.assert_allclose(task.loss(targets, logits), entropy(targets, logits).mean(), rtol=1e-5)
  right = ((logits > 0) == (targets > 0.5)).mean(axis=1)
  (value,) = task.metrics(targets, logits, weights).values()
  np.testing.assert_allclose(value, np.average(right, weights=weights), rtol=1e-5)
  p, q = sigmoid(logits / 2), sigmoid(other / 2)
  kl = p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))
  np.testing.assert_allclose(task.distillation(logits, other, 2.0), 4 * kl.mean(), rtol=1e-4)
  assert float(task.distillation(logits, logits, 2.0)) == pytest.approx(0, abs=1e-7)
  apart = task.divergence(logits, other)
  assert apart.shape == (NB,)
  assert (apart >= -1e-6).all()
  np.testing.assert_allclose(task.divergence(logits, logits), 0, atol=1e-7)


def test_targets_in_other_forms():
  one, several = Binary((1,)), MultiLabel((3,))
  assert one.canonical(tf.constant([0, 1])).numpy().tolist() == [[0.0], [1.0]]
  assert several.canonical(tf.constant([2, 0])).numpy().tolist() == [[0, 0, 1], [1, 0, 0]]
  with pytest.raises(UserError, match='go from 0 to 3, but task binary takes numbers from 0'):
    one.require_targets(np.array([[0.0], [3.0]]), 'training')
  with pytest.raises(UserError, match=r'shape \(2,\) for each sample, but \(3,\)'):
    several.canonical(tf.zeros((4, 2)))


def test_probabilities_of_files_become_logits():
  task = Binary((1,), ending='sigmoid')
  logits = np.array([[-3.0], [0.0], [2.0]], np.float32)
  np.testing.assert_allclose(task.trained_outputs(sigmoid(logits)), logits, rtol=1e-4, atol=1e-6)
  assert np.isfinite(task.trained_outputs(np.array([[0.0], [1.0]]))).all()
  assert task.agreement(sigmoid(logits), sigmoid(logits + 1)) == pytest.approx(2 / 3)
  assert Binary((1,)).agreement(logits, logits + 1) == pytest.approx(2 / 3)


def test_a_baseline_that_guesses():
  area = Score('auc', 0.52, unit='number', noise=0.05, label='AUC')
  guess = Evaluation(Score('accuracy', 0.5), 0.7, 100, (area,))
  assert 'AUC of 0.520 is that of chance' in Binary((1,)).guess_note(guess)
  sure = Evaluation(Score('accuracy', 0.9), 0.2, 100, (Score('auc', 0.9, noise=0.05),))
  assert Binary((1,)).guess_note(sure) is None


def test_own_functions_are_tried_on_targets_of_the_task():
  seen = []

  def own(targets, outputs):
    seen.append((targets.shape, outputs.shape))
    return tf.reduce_mean(tf.abs(outputs - targets), -1)

  Binary((1,), Criteria(own, {'again': own})).check()
  assert {tuple(map(tuple, shapes)) for shapes in seen} == {((3, 1), (3, 1))}
