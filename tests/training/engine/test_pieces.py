"""Batches that are run piece by piece: the same loss and gradients as of the whole batch."""

import numpy as np
import pytest
import tensorflow as tf

from secateurs.utils.training.engine.loop import TrainStep
from secateurs.utils.training.engine.pieces import value_and_gradients


class Regression:
  metric_names = ('error', 'largest')

  def __init__(self, kernel):
    self.kernel = kernel

  def __call__(self, batch):
    x, y = batch
    error = tf.linalg.matvec(x, self.kernel) - y
    loss = tf.reduce_mean(tf.square(error))
    return loss, {'error': tf.reduce_mean(error), 'largest': tf.reduce_mean(tf.abs(error))}


def problem(nb_samples):
  rng = np.random.default_rng(0)
  x, y = rng.normal(size=(nb_samples, 5)), rng.normal(size=nb_samples)
  return tf.constant(x, tf.float32), tf.constant(y, tf.float32)


@pytest.mark.parametrize(('nb_samples', 'nb_pieces'), [(12, 3), (13, 4), (7, 7)])
def test_pieces_give_what_the_whole_batch_gives(nb_samples, nb_pieces):
  kernel, unread = tf.Variable(tf.ones([5])), tf.Variable(1.0)
  objective, batch = Regression(kernel), problem(nb_samples)
  run = tf.function(lambda: value_and_gradients(objective, [kernel], batch, nb_pieces))
  whole = value_and_gradients(objective, [kernel], batch)
  parts = run()
  tf.nest.map_structure(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5), whole, parts)
  found = tf.function(lambda: value_and_gradients(objective, [unread, kernel], batch, nb_pieces)[2])
  # None stays None, which optimizers and penalties must see.
  concrete = found.get_concrete_function()
  assert concrete.structured_outputs[0] is None
  assert concrete.structured_outputs[1] is not None


def test_a_batch_with_fewer_samples_than_pieces_is_refused():
  kernel = tf.Variable(tf.ones([5]))
  run = tf.function(lambda: value_and_gradients(Regression(kernel), [kernel], problem(3), 4))
  with pytest.raises(tf.errors.InvalidArgumentError, match='no sample'):
    run()


def test_training_in_pieces_makes_the_same_steps():
  import tf_keras as keras

  batches = tf.data.Dataset.from_tensors(problem(10)).repeat()
  kernels = []
  for nb_pieces in (1, 3):
    kernel = tf.Variable(tf.zeros([5]))
    sgd = keras.optimizers.SGD(0.05, momentum=0.9, jit_compile=False)
    step = TrainStep(Regression(kernel), [kernel], sgd, nb_pieces=nb_pieces)
    done, means = step.run(iter(batches), 6)
    assert done == 6
    assert set(means) == {'loss', 'error', 'largest'}
    kernels.append(kernel.numpy())
  np.testing.assert_allclose(*kernels, rtol=1e-5)
