import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from secateurs.utils.training.tasks.classification import Classification
from secateurs.utils.training.tasks.objectives import TaskObjective

TASK = Classification(4)


def linear(scale):
  inputs = keras.Input((3,))
  layer = keras.layers.Dense(4, kernel_initializer=keras.initializers.Constant(scale))
  return keras.Model(inputs, layer(inputs))


@pytest.fixture(scope='module')
def student():
  return linear(0.1)


@pytest.fixture
def teacher():
  model = linear(1.0)
  model.layers[-1].kernel.assign(np.arange(12.0).reshape(3, 4))
  return model


BATCH = (tf.constant([[1.0, 2.0, 3.0], [0.5, -1.0, 0.0]]), tf.constant([1, 3]))


def test_the_objective_adds_the_teacher(student, teacher):
  plain, metrics = TaskObjective(student, TASK)(BATCH)
  assert set(metrics) == {'accuracy'}
  np.testing.assert_allclose(plain, TASK.loss(BATCH[1], student(BATCH[0])), rtol=1e-6)
  taught = TaskObjective(student, TASK, teacher=teacher, weight=2.0, temperature=3.0)
  both, metrics = taught(BATCH)
  soft = TASK.distillation(teacher(BATCH[0]), student(BATCH[0]), 3.0)
  np.testing.assert_allclose(both, plain + 2.0 * soft, rtol=1e-5)
  np.testing.assert_allclose(metrics['loss_dst'], soft, rtol=1e-5)
  assert set(metrics) == set(taught.metric_names)
  alone = TaskObjective(student, TASK, teacher=teacher, weight=2.0, temperature=3.0, labelled=False)
  np.testing.assert_allclose(alone(BATCH)[0], 2.0 * soft, rtol=1e-5)


def test_a_teacher_that_was_asked_before_is_not_asked_again(student, teacher):
  objective = TaskObjective(student, TASK, teacher=teacher, weight=2.0)
  loss, _ = objective(BATCH)
  told = teacher(BATCH[0])
  teacher.layers[-1].kernel.assign(tf.zeros((3, 4)))
  again, _ = objective((*BATCH, None, told))
  np.testing.assert_allclose(again, loss, rtol=1e-6)
  assert float(objective(BATCH)[0]) != pytest.approx(float(loss))


def test_weights_of_samples_reach_loss_and_metrics(student):
  """A sample that counts nothing could as well be left out."""
  weights = tf.constant([0.0, 2.5])
  loss, metrics = TaskObjective(student, TASK)((*BATCH, weights))
  alone, of_one = TaskObjective(student, TASK)(tuple(part[1:] for part in BATCH))
  np.testing.assert_allclose(loss, alone, rtol=1e-6)
  np.testing.assert_allclose(metrics['accuracy'], of_one['accuracy'])


def test_outputs_that_are_known_are_not_computed_again(student):
  loss, metrics = TaskObjective(None, TASK).of(student(BATCH[0]), BATCH)
  expected, named = TaskObjective(student, TASK)(BATCH)
  np.testing.assert_array_equal(loss, expected)
  np.testing.assert_array_equal(metrics['accuracy'], named['accuracy'])
