"""Several outputs: sums of what each task gives."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from secateurs.utils.errors import UserError
from secateurs.utils.training.tasks.classification import Classification
from secateurs.utils.training.tasks.evaluation import evaluate
from secateurs.utils.training.tasks.regression import Regression
from secateurs.utils.training.tasks.several import SeveralOutputs
from secateurs.utils.training.tasks.sigmoids import Binary

NB, SHAPES = 17, {'age': (2,), 'mood': (3,), 'well': (1,)}


def tasks():
  return {'age': Regression((2,)), 'mood': Classification(3), 'well': Binary((1,))}


@pytest.fixture(scope='module')
def sample():
  rng = np.random.default_rng(0)
  inputs = rng.normal(size=(NB, 4)).astype(np.float32)
  targets = (
    rng.normal(size=(NB, 2)).astype(np.float32),
    rng.integers(0, 3, NB).astype(np.int32),
    rng.integers(0, 2, (NB, 1)).astype(np.float32),
  )
  return inputs, targets, rng.uniform(0, 2, NB).astype(np.float32)


@pytest.fixture(scope='module')
def model():
  keras.utils.set_random_seed(0)
  inputs = keras.Input((4,))
  heads = [keras.layers.Dense(shape[0], name=name)(inputs) for name, shape in SHAPES.items()]
  return keras.Model(inputs, heads)


@pytest.mark.parametrize('weighted', [False, True])
def test_losses_and_scores_are_those_of_the_outputs(sample, model, weighted):
  inputs, targets, weights = sample
  factors = {'age': 0.5, 'well': 2.0}
  task = SeveralOutputs(tasks(), factors, judge='well')
  parts = (inputs, targets, *([weights] if weighted else []))
  found = evaluate(model, tf.data.Dataset.from_tensor_slices(parts).batch(5), task)
  each = {}
  for place, (name, one) in enumerate(tasks().items()):
    part = keras.Model(model.input, model.outputs[place])
    data = (inputs, targets[place], *parts[2:])
    each[name] = evaluate(part, tf.data.Dataset.from_tensor_slices(data).batch(5), one)
  total = sum(factors.get(name, 1.0) * one.loss for name, one in each.items())
  assert found.loss == pytest.approx(total, rel=1e-5)
  assert found.score.name == 'well_accuracy'
  assert found.score.value == pytest.approx(each['well'].score.value)
  by_name = {one.name: one for one in found.figures}
  assert list(by_name) == ['age_mae', 'age_rmse', 'age_r2', 'mood_accuracy', 'well_auc']
  assert by_name['age_mae'].value == pytest.approx(each['age'].score.value)
  assert by_name['age_mae'].label == 'age MAE'
  outputs = model(inputs)
  loss = task.loss(targets, outputs, parts[2] if weighted else None)
  np.testing.assert_allclose(loss, total, rtol=1e-5)


def test_the_sum_of_losses_may_judge(sample, model):
  task = SeveralOutputs(tasks(), judge='loss')
  data = tf.data.Dataset.from_tensor_slices(sample[:2]).batch(5)
  found = evaluate(model, data, task)
  assert (found.score.name, found.score.higher_is_better) == ('loss', False)
  assert found.score.value == found.loss


def test_distillation_divergence_and_agreement_are_joined(sample, model):
  task, outputs = SeveralOutputs(tasks(), {'age': 3.0}), model(sample[0])
  other = [one[::-1] for one in outputs]
  expected = sum(
    factor * one.distillation(a, b, 2.0)
    for factor, one, a, b in zip((3, 1, 1), tasks().values(), outputs, other)
  )
  np.testing.assert_allclose(task.distillation(outputs, other, 2.0), expected, rtol=1e-5)
  arrays = [[x.numpy() for x in side] for side in (outputs, other)]
  assert task.divergence(*arrays).shape == (NB,)
  assert task.agreement(arrays[0], arrays[0]) == 1.0
  assert task.agreement(*arrays) < 1.0


def test_heads_start_from_each_regression(sample):
  task = SeveralOutputs(tasks())
  maps = np.random.default_rng(1).normal(size=(NB, 5, 5, 4)).astype(np.float32)
  head = task.make_head((None, 5, 5, 4), 'branch1', 0)
  before = task.loss(sample[1], head(maps))
  task.start_head(head, maps, sample[1])
  assert [tuple(one.shape[1:]) for one in head.outputs] == list(SHAPES.values())
  assert float(task.loss(sample[1], head(maps))) < float(before)


def test_files_give_dictionaries_where_models_did(model):
  keys = list(SHAPES)
  task = SeveralOutputs(tasks(), keys=keys)
  given = task.deployable(model)
  assert list(given.output) == sorted(keys)
  back = task.trained(given)
  x = np.ones((2, 4), np.float32)
  for one, wanted in zip(back(x), model(x), strict=True):
    np.testing.assert_allclose(one, wanted, atol=1e-6)


def test_what_is_of_no_output_is_refused(model):
  with pytest.raises(
    UserError, match="'size' is no output of the model: its outputs are age, mood"
  ):
    SeveralOutputs(tasks(), {'size': 1.0})
  task = SeveralOutputs(tasks())
  with pytest.raises(UserError, match='those of well were expected, too'):
    task.canonical({'age': 0, 'mood': 0})
  with pytest.raises(UserError, match='the targets are not for each of these'):
    task.canonical(tf.zeros((3, 2)))
  alone = keras.Model(model.input, model.outputs[:2])
  with pytest.raises(UserError, match='give a teacher of the same outputs'):
    task.require_teacher(alone, model)
  assert task.identity()['factors'] == 'age 1, mood 1, well 1'
