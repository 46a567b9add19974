"""The interface of tasks, by one of two outputs whose score needs all samples at once."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from scipy import stats

from secateurs.learners.run.training.judging import Judge
from secateurs.utils.training.engine import loop
from secateurs.utils.training.tasks.evaluation import evaluate, evaluate_function
from secateurs.utils.training.tasks.objectives import TaskObjective
from secateurs.utils.training.tasks.scores import Evaluation, Score
from secateurs.utils.training.tasks.task import Batch, Task

NB, NB_CLASSES = 29, 3


class AgeAndMood(Task):
  """A number and one of three classes from each sample; how well ages are ranked judges."""

  name = 'age and mood'
  metric_names = ('absolute', 'accuracy')
  user_metrics = ('absolute',)
  collects = True

  def __init__(self):
    sums = dict.fromkeys(('weight', 'loss', 'right'), tf.float64)
    self.total_types = {'samples': tf.int64, **sums}

  def _each(self, targets, outputs):
    squares = (outputs['age'][:, 0] - targets['age']) ** 2
    entropies = tf.nn.sparse_softmax_cross_entropy_with_logits(targets['mood'], outputs['mood'])
    right = tf.argmax(outputs['mood'], -1, tf.int32) == targets['mood']
    return squares + entropies, tf.cast(right, tf.float32)

  def _mean(self, values, weights):
    if weights is None:
      return tf.reduce_mean(values)
    return tf.reduce_sum(values * weights) / tf.reduce_sum(weights)

  def loss(self, targets, outputs, weights=None):
    return self._mean(self._each(targets, outputs)[0], weights)

  def metrics(self, targets, outputs, weights=None):
    absolute = tf.abs(outputs['age'][:, 0] - targets['age'])
    right = self._each(targets, outputs)[1]
    return {'absolute': self._mean(absolute, weights), 'accuracy': self._mean(right, weights)}

  def distillation(self, taught, outputs, temperature):
    ages = tf.reduce_mean((taught['age'] - outputs['age']) ** 2)
    moods = tf.reduce_mean((taught['mood'] - outputs['mood']) ** 2)
    return ages + moods / temperature

  def totals(self, targets, outputs, weights=None):
    loss, right = self._each(targets, outputs)
    each = tf.ones_like(loss) if weights is None else weights
    sums = {'weight': each, 'loss': each * loss, 'right': each * right}
    found = {name: tf.reduce_sum(tf.cast(value, tf.float64)) for name, value in sums.items()}
    return {'samples': tf.shape(loss, tf.int64)[0], **found}

  def records(self, targets, outputs):
    return {'wanted': targets['age'], 'found': outputs['age'][:, 0]}

  def evaluation(self, totals, records):
    order = stats.spearmanr(records['wanted'], records['found']).statistic
    accuracy = Score('mood_accuracy', totals['right'] / totals['weight'])
    score = Score('rank_correlation', float(order), unit='number')
    return Evaluation(score, totals['loss'] / totals['weight'], int(totals['samples']), (accuracy,))

  def divergence(self, original, changed):
    return np.abs(original['age'] - changed['age'])[:, 0]


class Sample:
  """Inputs, targets and weights of all samples."""

  def __init__(self):
    rng = np.random.default_rng(0)
    self.inputs = rng.normal(size=(NB, 4)).astype(np.float32)
    self.age = (self.inputs[:, 0] + rng.normal(0, 0.5, NB)).astype(np.float32)
    self.mood = rng.integers(0, NB_CLASSES, NB).astype(np.int32)
    self.weights = rng.uniform(0, 2, NB).astype(np.float32)
    self.targets = {'age': self.age, 'mood': self.mood}

  def batches(self, size, *, weighted=True):
    parts = (self.inputs, self.targets, *([self.weights] if weighted else []))
    return tf.data.Dataset.from_tensor_slices(parts).batch(size)


@pytest.fixture(scope='module')
def sample():
  return Sample()


def network(seed):
  keras.utils.set_random_seed(seed)
  inputs = keras.Input((4,))
  heads = {
    'age': keras.layers.Dense(1, name='age')(inputs),
    'mood': keras.layers.Dense(NB_CLASSES, name='mood')(inputs),
  }
  return keras.Model(inputs, heads)


@pytest.fixture(scope='module')
def model():
  return network(0)


def by_hand(sample, outputs, weights):
  """Loss, accuracy and rank correlation over all samples, by NumPy."""
  age, logits = outputs['age'].numpy()[:, 0], outputs['mood'].numpy().astype(np.float64)
  log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
  losses = (age - sample.age) ** 2 - log_p[np.arange(NB), sample.mood]
  ranks = [np.argsort(np.argsort(values)) for values in (age, sample.age)]
  right = logits.argmax(-1) == sample.mood
  return (
    np.average(losses, weights=weights),
    np.average(right, weights=weights),
    np.corrcoef(*ranks)[0, 1],
  )


@pytest.mark.parametrize('weighted', [False, True])
@pytest.mark.parametrize('batch_size', [1, 8, 100])
def test_scores_of_all_samples_are_the_same_whatever_the_batches(
  sample, model, batch_size, weighted
):
  weights = sample.weights if weighted else np.ones(NB)
  loss, accuracy, correlation = by_hand(sample, model(sample.inputs), weights)
  batches = sample.batches(batch_size, weighted=weighted)
  for found in (
    evaluate(model, batches, AgeAndMood()),
    evaluate_function(model, batches, AgeAndMood()),
  ):
    assert found.score.value == pytest.approx(correlation, rel=1e-6)
    assert found.loss == pytest.approx(loss, rel=1e-5)
    assert found.figures[0].value == pytest.approx(accuracy, rel=1e-6)
    assert found.nb_samples == NB
    (figure,) = found.block()['figures']
    assert figure['value'] == found.figures[0].value


def test_batches_of_several_sizes_at_once(sample, model):
  """Ragged: 1, 9, 3 and 16 samples."""

  def ragged():
    start = 0
    for size in (1, 9, 3, 16):
      rows = slice(start, start + size)
      targets = {name: tf.constant(values[rows]) for name, values in sample.targets.items()}
      yield tf.constant(sample.inputs[rows]), targets, tf.constant(sample.weights[rows])
      start += size

  loss, accuracy, correlation = by_hand(sample, model(sample.inputs), sample.weights)
  found = evaluate_function(model, ragged(), AgeAndMood())
  assert (found.nb_samples, found.score.name) == (NB, 'rank_correlation')
  assert found.score.value == pytest.approx(correlation, rel=1e-6)
  assert found.loss == pytest.approx(loss, rel=1e-5)
  assert found.figures[0].value == pytest.approx(accuracy, rel=1e-6)


def test_objectives_take_outputs_and_targets_of_any_structure(sample, model):
  task, teacher = AgeAndMood(), network(1)
  batch = Batch(sample.inputs, sample.targets, sample.weights)
  loss, metrics = TaskObjective(model, task)(batch)
  expected, accuracy, _ = by_hand(sample, model(sample.inputs), sample.weights)
  np.testing.assert_allclose(loss, expected, rtol=1e-5)
  assert tuple(metrics) == task.metric_names
  np.testing.assert_allclose(metrics['accuracy'], accuracy, rtol=1e-5)
  taught = TaskObjective(model, task, teacher=teacher, weight=0.5, temperature=2.0)
  both, metrics = taught(batch)
  mine, theirs = model(sample.inputs), teacher(sample.inputs)
  soft = np.mean((mine['age'] - theirs['age']) ** 2)
  soft += np.mean((mine['mood'] - theirs['mood']) ** 2) / 2.0
  np.testing.assert_allclose(metrics['loss_dst'], soft, rtol=1e-5)
  np.testing.assert_allclose(both, expected + 0.5 * soft, rtol=1e-5)
  known, _ = taught(batch._replace(taught=theirs))
  np.testing.assert_allclose(known, both, rtol=1e-6)


def test_the_loop_trains_such_a_task(sample):
  model = network(2)
  before = evaluate(model, sample.batches(8), AgeAndMood())
  step = loop.TrainStep(
    TaskObjective(model, AgeAndMood()), model.trainable_variables, keras.optimizers.SGD(0.1)
  )
  shown = []
  note = loop.Event(lambda done, means: shown.append(means), at=[60])
  batches = sample.batches(NB).repeat()
  loop.run(step, batches, start=0, stop=60, phase='fit', events=[note])
  after = evaluate(model, sample.batches(8), AgeAndMood())
  assert after.loss < 0.7 * before.loss
  assert after.score.goodness > before.score.goodness
  assert set(shown[0]) == {'loss', 'absolute', 'accuracy'}


@pytest.mark.parametrize('batch', [5, 250])
def test_searches_judge_by_records(sample, model, monkeypatch, batch):
  """`Judge` holds targets in one array: both numbers side by side."""
  monkeypatch.setattr('secateurs.learners.run.training.judging._BATCH', batch)

  class SideBySide(AgeAndMood):
    def totals(self, targets, outputs, weights=None):
      return super().totals(self._apart(targets), outputs, weights)

    def records(self, targets, outputs):
      return super().records(self._apart(targets), outputs)

    def _apart(self, targets):
      return {'age': targets[:, 0], 'mood': tf.cast(targets[:, 1], tf.int32)}

  targets = np.stack([sample.age, sample.mood.astype(np.float32)], axis=1)
  judge = Judge(model, sample.inputs, targets, SideBySide())
  loss, _, correlation = by_hand(sample, model(sample.inputs), np.ones(NB))
  assert judge.goodness() == pytest.approx(correlation, rel=1e-6)
  assert judge.loss() == pytest.approx(loss, rel=1e-5)
  assert judge().nb_samples == NB


def test_what_a_task_need_not_give(model):
  task = AgeAndMood()
  assert task.deployable(model) is model
  assert task.trained(model) is model
  assert task.identity() == {}
  assert task.guess_note(Evaluation(Score('x', 0.0), 0.0, 1)) is None
  task.require_teacher(model, model)
  task.check()
  with pytest.raises(NotImplementedError, match='Task age and mood has no auxiliary heads'):
    task.make_head((None, 2, 2, 3), 'head', 0)
