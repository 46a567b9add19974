import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from secateurs.utils.training.tasks.criteria import cross_entropy
from secateurs.utils.training.tasks.objectives import Classification, distillation_loss


def softmax(z):
  e = np.exp(z - z.max(-1, keepdims=True))
  return e / e.sum(-1, keepdims=True)


def test_cross_entropy_by_hand():
  logits = np.array([[2.0, 0.0, -1.0], [0.0, 0.0, 0.0]])
  expected = -np.mean([np.log(softmax(logits)[0, 0]), np.log(1 / 3)])
  found = cross_entropy(tf.constant([0, 2]), tf.constant(logits, tf.float32))
  np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_distillation_loss_by_hand():
  rng = np.random.RandomState(0)
  teacher, student, t = rng.randn(5, 4), rng.randn(5, 4), 4.0
  p, q = softmax(teacher / t), softmax(student / t)
  expected = t**2 * np.mean(np.sum(p * np.log(p / q), -1))
  found = distillation_loss(tf.constant(teacher), tf.constant(student), t)
  np.testing.assert_allclose(found, expected, rtol=1e-5)
  np.testing.assert_allclose(
    distillation_loss(tf.constant(teacher), tf.constant(teacher), t), 0, atol=1e-6
  )


def linear(scale):
  inputs = keras.Input((3,))
  layer = keras.layers.Dense(4, kernel_initializer=keras.initializers.Constant(scale))
  return keras.Model(inputs, layer(inputs))


def test_classification_adds_the_teacher():
  student, teacher = linear(0.1), linear(1.0)
  teacher.layers[-1].kernel.assign(np.arange(12.0).reshape(3, 4))
  batch = (tf.constant([[1.0, 2.0, 3.0]]), tf.constant([1]))
  plain, metrics = Classification(student)(batch)
  assert set(metrics) == {'accuracy'}
  both, metrics = Classification(student, teacher=teacher, weight=2.0, temperature=3.0)(batch)
  soft = distillation_loss(teacher(batch[0]), student(batch[0]), 3.0)
  np.testing.assert_allclose(both, plain + 2.0 * soft, rtol=1e-5)
  np.testing.assert_allclose(metrics['loss_dst'], soft, rtol=1e-5)
  assert set(metrics) == set(Classification(student, teacher=teacher).metric_names)


def test_a_teacher_that_was_asked_before_is_not_asked_again():
  student, teacher = linear(0.1), linear(1.0)
  teacher.layers[-1].kernel.assign(np.arange(12.0).reshape(3, 4))
  batch = (tf.constant([[1.0, 2.0, 3.0]]), tf.constant([1]))
  objective = Classification(student, teacher=teacher, weight=2.0)
  loss, _ = objective(batch)
  told = teacher(batch[0])
  teacher.layers[-1].kernel.assign(tf.zeros((3, 4)))
  again, _ = objective((*batch, told))
  np.testing.assert_allclose(again, loss, rtol=1e-6)
  assert float(objective(batch)[0]) != pytest.approx(float(loss))
