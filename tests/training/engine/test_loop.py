import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from secateurs.utils.training.engine import loop
from secateurs.utils.training.engine.hooks import WeightDecay
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


def sgd():
  return keras.optimizers.SGD(0.05, momentum=0.9)


def train(w, *, start=0, stop=20, optimizer=None, events=(), bad_step=None, **options):
  step = loop.TrainStep(LeastSquares(w), [w], optimizer or sgd(), **options)
  loop.run(step, batches(start, bad_step), start=start, stop=stop, phase='fit', events=events)
  return step


class Plain:
  """One compiled step without hooks for all tests that need no other."""

  def __init__(self):
    self.w = tf.Variable(np.ones(3, np.float32))
    self.step = loop.TrainStep(LeastSquares(self.w), [self.w], sgd())

  def __call__(self, *, start=0, stop=20, bad_step=None, **options):
    """Trains on from where the weights stand."""
    data = batches(start, bad_step)
    loop.run(self.step, data, start=start, stop=stop, phase='fit', **options)
    return self.w.numpy()

  def start_over(self):
    self.w.assign(np.ones(3))
    for variable in self.step.optimizer.variables:
      if 'learning_rate' not in variable.name:
        variable.assign(tf.zeros_like(variable))


@pytest.fixture(scope='module')
def compiled():
  return Plain()


@pytest.fixture
def plain(compiled):
  compiled.start_over()
  return compiled


def by_hand(nb_steps, decay=0.0):
  w, velocity = np.ones(3), np.zeros(3)
  for x, y in batches().take(nb_steps).as_numpy_iterator():
    gradient = 2 * x.T @ (x @ w - y) / len(y) + decay * w
    velocity = 0.9 * velocity - 0.05 * gradient
    w = w + velocity
  return w


def test_equals_momentum_sgd_by_hand(plain):
  np.testing.assert_allclose(plain(), by_hand(20), rtol=1e-4)


def test_weight_decay_is_the_gradient_of_the_l2_term():
  w = tf.Variable(np.ones(3, np.float32))
  train(w, penalties=[WeightDecay(0.1, [w])])
  np.testing.assert_allclose(w.numpy(), by_hand(20, decay=0.1), rtol=1e-4)
  untouched = tf.Variable(np.ones(3, np.float32))
  train(untouched, penalties=[WeightDecay(0.1, [w])])
  np.testing.assert_allclose(untouched.numpy(), by_hand(20), rtol=1e-4)


def test_masks_hold_in_every_step():
  w = tf.Variable(np.array([3.0, 2.0, 1.0], np.float32))
  masks = MaskSet([w])
  masks.update([0.67])
  seen = []
  note = loop.Event(lambda step, means: seen.append(w.numpy()), every=1)
  train(w, constraints=[masks], events=[note])
  assert len(seen) == 20
  for values in seen:
    assert values[0] != 3.0
    np.testing.assert_array_equal(values[1:], [0, 0])


def test_events_fire_where_due_and_see_means_since_the_last(plain):
  fired = []
  events = [
    loop.Event(lambda step, means: fired.append(('every', step, means)), every=8, at=[20]),
    loop.Event(lambda step, means: fired.append(('at', step, means)), at=[3, 8]),
  ]
  plain(events=events)
  assert [(kind, step) for kind, step, _ in fired] == [
    ('at', 3),
    ('every', 8),
    ('at', 8),
    ('every', 16),
    ('every', 20),
  ]
  # The mean loss over steps 17 to 20, step by step.
  plain.start_over()
  losses = []
  plain(events=[loop.Event(lambda step, means: losses.append(means['loss']), every=1)])
  np.testing.assert_allclose(fired[-1][2]['loss'], np.mean(losses[16:]), rtol=1e-4)
  np.testing.assert_allclose(fired[1][2]['loss'], np.mean(losses[:8]), rtol=1e-4)


def test_going_on_equals_going_through(plain):
  through = plain()
  parts, optimizer = tf.Variable(np.ones(3, np.float32)), sgd()
  train(parts, stop=7, optimizer=optimizer)
  train(parts, start=7, optimizer=optimizer)
  np.testing.assert_allclose(parts.numpy(), through, rtol=1e-6)


def test_a_loss_that_is_not_finite_stops_the_run(plain):
  fired = []
  event = loop.Event(lambda step, means: fired.append(step), every=1)
  with pytest.raises(loop.DivergenceError, match=r'phase fit at step 6 with learning rate 0\.05'):
    plain(bad_step=5, events=[event])
  assert fired == [1, 2, 3, 4, 5]


def test_progress_sees_the_last_step(plain):
  seen = []
  plain(progress=lambda done, means: seen.append(done))
  assert seen[-1] == 20
  assert seen == sorted(set(seen))
