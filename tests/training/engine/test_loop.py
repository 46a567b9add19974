import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from secateurs.utils.training.engine import loop
from secateurs.utils.training.engine.masks import MaskSet


class LeastSquares:
  """||x w - y||^2 / n, and w's first entry as a metric."""

  metric_names = ('first',)

  def __init__(self, w):
    self.w = w

  def __call__(self, batch):
    x, y = batch
    error = tf.linalg.matvec(x, self.w) - y
    return tf.reduce_mean(error**2), {'first': self.w[0]}


def batches(start=0, bad_step=None):
  rng = np.random.RandomState(0)
  x = rng.randn(64, 4, 3).astype(np.float32)
  y = rng.randn(64, 4).astype(np.float32)
  if bad_step is not None:
    y[bad_step] = np.inf
  return tf.data.Dataset.from_tensor_slices((x[start:], y[start:]))


def train(w, *, start=0, stop=20, optimizer=None, events=(), bad_step=None, **options):
  optimizer = optimizer or keras.optimizers.SGD(0.05, momentum=0.9)
  step = loop.TrainStep(LeastSquares(w), [w], optimizer, **options)
  loop.run(step, batches(start, bad_step), start=start, stop=stop, phase='fit', events=events)
  return step


def by_hand(nb_steps, decay=0.0):
  w, velocity = np.ones(3), np.zeros(3)
  for x, y in batches().take(nb_steps).as_numpy_iterator():
    gradient = 2 * x.T @ (x @ w - y) / len(y) + decay * w
    velocity = 0.9 * velocity - 0.05 * gradient
    w = w + velocity
  return w


def test_equals_momentum_sgd_by_hand():
  w = tf.Variable(np.ones(3, np.float32))
  train(w)
  np.testing.assert_allclose(w.numpy(), by_hand(20), rtol=1e-4)


def test_weight_decay_is_the_gradient_of_the_l2_term():
  w = tf.Variable(np.ones(3, np.float32))
  train(w, weight_decay=0.1, decayed=[w])
  np.testing.assert_allclose(w.numpy(), by_hand(20, decay=0.1), rtol=1e-4)
  untouched = tf.Variable(np.ones(3, np.float32))
  train(untouched, weight_decay=0.1, decayed=[])
  np.testing.assert_allclose(untouched.numpy(), by_hand(20), rtol=1e-4)


def test_masks_hold_in_every_step():
  w = tf.Variable(np.array([3.0, 2.0, 1.0], np.float32))
  masks = MaskSet([w])
  masks.update([0.67])
  train(w, masks=masks)
  assert w.numpy()[0] != 3.0
  np.testing.assert_array_equal(w.numpy()[1:], [0, 0])


def test_events_fire_where_due_and_see_means_since_the_last():
  fired = []
  w = tf.Variable(np.ones(3, np.float32))
  events = [
    loop.Event(lambda step, means: fired.append(('every', step, means)), every=8, at=[20]),
    loop.Event(lambda step, means: fired.append(('at', step, means)), at=[3, 8]),
  ]
  train(w, events=events)
  assert [(kind, step) for kind, step, _ in fired] == [
    ('at', 3),
    ('every', 8),
    ('at', 8),
    ('every', 16),
    ('every', 20),
  ]
  # The mean loss over steps 17 to 20, step by step.
  twin = tf.Variable(np.ones(3, np.float32))
  losses = []
  train(twin, events=[loop.Event(lambda step, means: losses.append(means['loss']), every=1)])
  np.testing.assert_allclose(fired[-1][2]['loss'], np.mean(losses[16:]), rtol=1e-4)
  np.testing.assert_allclose(fired[1][2]['loss'], np.mean(losses[:8]), rtol=1e-4)


def test_going_on_equals_going_through():
  through = tf.Variable(np.ones(3, np.float32))
  train(through)
  parts, optimizer = tf.Variable(np.ones(3, np.float32)), keras.optimizers.SGD(0.05, momentum=0.9)
  train(parts, stop=7, optimizer=optimizer)
  train(parts, start=7, optimizer=optimizer)
  np.testing.assert_allclose(parts.numpy(), through.numpy(), rtol=1e-6)


def test_a_loss_that_is_not_finite_stops_the_run():
  fired = []
  w = tf.Variable(np.ones(3, np.float32))
  event = loop.Event(lambda step, means: fired.append(step), every=1)
  with pytest.raises(loop.DivergenceError, match=r'phase fit at step 6 with learning rate 0\.05'):
    train(w, bad_step=5, events=[event])
  assert fired == [1, 2, 3, 4, 5]


def test_progress_sees_the_last_step():
  seen = []
  w = tf.Variable(np.ones(3, np.float32))
  step = loop.TrainStep(LeastSquares(w), [w], keras.optimizers.SGD(0.05))
  loop.run(
    step,
    batches(),
    start=0,
    stop=20,
    phase='fit',
    progress=lambda done, means: seen.append(done),
  )
  assert seen[-1] == 20
  assert seen == sorted(set(seen))
