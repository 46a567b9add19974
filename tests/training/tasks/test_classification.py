"""Loss, metrics and scores of classification against NumPy, with weights of samples and without."""

import math

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from secateurs.utils.errors import UserError
from secateurs.utils.training.tasks.classification import Classification
from secateurs.utils.training.tasks.criteria import Criteria, cross_entropy
from secateurs.utils.training.tasks.evaluation import evaluate_function
from secateurs.utils.training.tasks.scores import Evaluation, Score

NB, NB_CLASSES = 23, 30


def margin(labels, logits):
  """Per sample: how far the label's logit lies above the mean."""
  return tf.gather(logits, labels, batch_dims=1) - tf.reduce_mean(logits, -1)


def softmax(z):
  e = np.exp(z - z.max(-1, keepdims=True))
  return e / e.sum(-1, keepdims=True)


class Sample:
  """Logits, labels and weights, and what NumPy makes of each sample."""

  def __init__(self, nb=NB, nb_classes=NB_CLASSES, seed=0):
    rng = np.random.default_rng(seed)
    self.labels = rng.integers(0, nb_classes, nb).astype(np.int32)
    logits = rng.normal(0, 1, (nb, nb_classes))
    logits[np.arange(nb), self.labels] += 1.5
    self.logits = logits.astype(np.float32)
    self.weights = rng.uniform(0.1, 3, nb).astype(np.float32)
    self.weights[:3] = 0
    own = logits[np.arange(nb), self.labels]
    ranks = (logits > own[:, None]).sum(-1)
    self.right, self.top5 = ranks == 0, ranks < 5
    self.loss = -np.log(softmax(logits)[np.arange(nb), self.labels])
    self.margin = own - logits.mean(-1)


@pytest.fixture(scope='module')
def sample():
  return Sample()


@pytest.fixture(scope='module')
def task():
  return Classification(NB_CLASSES, Criteria(None, {'margin': margin}))


def test_cross_entropy_by_hand():
  logits = np.array([[2.0, 0.0, -1.0], [0.0, 0.0, 0.0]])
  expected = [-np.log(softmax(logits)[0, 0]), -np.log(1 / 3)]
  found = cross_entropy(tf.constant([0, 2]), tf.constant(logits, tf.float32))
  np.testing.assert_allclose(found, expected, rtol=1e-5)
  mean = Classification(3).loss(tf.constant([0, 2]), tf.constant(logits, tf.float32))
  np.testing.assert_allclose(mean, np.mean(expected), rtol=1e-5)


def test_distillation_by_hand():
  rng = np.random.RandomState(0)
  teacher, student, t = rng.randn(5, 4), rng.randn(5, 4), 4.0
  p, q = softmax(teacher / t), softmax(student / t)
  expected = t**2 * np.mean(np.sum(p * np.log(p / q), -1))
  task = Classification(4)
  found = task.distillation(tf.constant(teacher), tf.constant(student), t)
  np.testing.assert_allclose(found, expected, rtol=1e-5)
  same = task.distillation(tf.constant(teacher), tf.constant(teacher), t)
  np.testing.assert_allclose(same, 0, atol=1e-6)


def test_divergence_is_that_of_the_probabilities():
  rng = np.random.default_rng(0)
  original, changed = rng.normal(size=(2, 5, 4)).astype(np.float32)
  p, q = softmax(original), softmax(changed)
  found = Classification(4).divergence(original, changed)
  np.testing.assert_allclose(found, np.sum(p * np.log(p / q), -1), rtol=1e-4)
  np.testing.assert_allclose(Classification(4).divergence(original, original + 3), 0, atol=1e-6)


@pytest.mark.parametrize('weighted', [False, True])
def test_loss_and_metrics_are_weighted_means(sample, task, weighted):
  given = tf.constant(sample.weights) if weighted else None
  weights = sample.weights if weighted else np.ones(NB)
  loss = task.loss(sample.labels, sample.logits, given)
  np.testing.assert_allclose(loss, np.average(sample.loss, weights=weights), rtol=1e-5)
  metrics = task.metrics(sample.labels, sample.logits, given)
  assert tuple(metrics) == task.metric_names == ('accuracy', 'margin')
  assert task.user_metrics == ('margin',)
  expected = np.average(sample.right, weights=weights)
  np.testing.assert_allclose(metrics['accuracy'], expected, rtol=1e-5)
  expected = np.average(sample.margin, weights=weights)
  np.testing.assert_allclose(metrics['margin'], expected, rtol=1e-4)


def test_samples_without_any_weight_are_no_division_by_zero(sample, task):
  nothing = tf.zeros(NB)
  assert float(task.loss(sample.labels, sample.logits, nothing)) == 0
  assert set(map(float, task.metrics(sample.labels, sample.logits, nothing).values())) == {0.0}
  totals = task.totals(sample.labels, sample.logits, nothing)
  assert int(totals.pop('samples')) == NB
  assert set(map(float, totals.values())) == {0.0}


@pytest.mark.parametrize('weighted', [False, True])
def test_totals_are_weighted_sums(sample, task, weighted):
  weights = sample.weights.astype(np.float64) if weighted else np.ones(NB)
  totals = task.totals(
    sample.labels, sample.logits, tf.constant(sample.weights) if weighted else None
  )
  assert {name: value.dtype for name, value in totals.items()} == task.total_types
  assert int(totals['samples']) == NB
  expected = {
    'weight': weights.sum(),
    'correct': (weights * sample.right).sum(),
    'correct_top5': (weights * sample.top5).sum(),
    'loss': (weights * sample.loss).sum(),
    'metrics/margin': (weights * sample.margin).sum(),
  }
  for name, value in expected.items():
    np.testing.assert_allclose(totals[name], value, rtol=1e-5, err_msg=name)


@pytest.mark.parametrize('weighted', [False, True])
@pytest.mark.parametrize('batch_size', [1, 7, 100])
def test_evaluation_is_that_of_all_samples_whatever_the_batches(sample, task, batch_size, weighted):
  arrays = [sample.logits, sample.labels, *([sample.weights] if weighted else [])]
  weights = sample.weights if weighted else np.ones(NB)
  batches = tf.data.Dataset.from_tensor_slices(tuple(arrays)).batch(batch_size)
  found = evaluate_function(lambda inputs: inputs, batches, task)
  accuracy, top5, loss, mean = (
    np.average(values, weights=weights)
    for values in (sample.right, sample.top5, sample.loss, sample.margin)
  )
  assert found.nb_samples == NB
  assert found.score.value == pytest.approx(accuracy, rel=1e-6)
  assert found.score.noise == pytest.approx(math.sqrt(accuracy * (1 - accuracy) / NB), rel=1e-6)
  assert [figure.value for figure in found.figures] == pytest.approx([top5], rel=1e-6)
  assert found.loss == pytest.approx(loss, rel=1e-5)
  assert found.metrics == pytest.approx({'margin': mean}, rel=1e-4)


def test_top5_is_told_from_twenty_classes_on():
  for nb_classes, names in ((19, []), (20, ['accuracy_top5'])):
    few = Sample(5, nb_classes)
    totals = Classification(nb_classes).totals(few.labels, few.logits)
    found = Classification(nb_classes).evaluation({n: float(v) for n, v in totals.items()}, {})
    assert [figure.name for figure in found.figures] == names


@pytest.mark.parametrize(
  ('accuracy', 'guesses'), [(0.10, True), (0.189, True), (0.191, False), (0.9, False)]
)
def test_an_accuracy_within_three_standard_errors_of_chance_is_a_guess(accuracy, guesses):
  """Chance among 10 classes: 0.1, with a standard error of 0.03 over 100 samples."""
  note = Classification(10).guess_note(Evaluation(Score('accuracy', accuracy), 1.0, 100))
  assert (note is not None) == guesses
  if guesses:
    assert f'{100 * accuracy:.2f} % is that of chance among 10 classes' in note


def linear(nb_classes, activation=None):
  inputs = keras.Input((3,))
  return keras.Model(inputs, keras.layers.Dense(nb_classes, activation=activation)(inputs))


def test_a_teacher_gives_as_many_classes_as_the_student():
  Classification(4).require_teacher(linear(4), linear(4))
  with pytest.raises(UserError, match=r'--enbl_dst gives 5 classes, but the network gives 4'):
    Classification(4).require_teacher(linear(5), linear(4))


def test_what_is_deployed_and_back():
  """Where files give probabilities, their logarithms are the logits but for a constant."""
  images = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
  model = linear(4)
  logits = model(images).numpy()
  plain, soft = Classification(4), Classification(4, probabilities=True)
  assert plain.deployable(model) is model
  np.testing.assert_array_equal(plain.trained_outputs(logits), logits)
  given = soft.deployable(model)(images).numpy()
  np.testing.assert_allclose(given, softmax(logits), rtol=1e-5)
  constant = soft.trained_outputs(given) - logits
  np.testing.assert_allclose(constant, np.broadcast_to(constant[:, :1], (6, 4)), atol=1e-5)
  assert np.isfinite(soft.trained_outputs(np.array([[0.0, 1.0]]))).all()
  back = soft.trained(soft.deployable(model))(images)
  np.testing.assert_allclose(back, logits, rtol=1e-5, atol=1e-6)


def test_identity_tells_the_users_loss():
  assert Classification(4).identity() == {}
  assert Classification(4, Criteria(margin)).identity() == {'loss': 'margin'}
