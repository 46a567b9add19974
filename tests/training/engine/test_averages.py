"""Averages of weights against slow NumPy oracles, over the weights that were seen after each step."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from secateurs.utils.training.engine import loop
from secateurs.utils.training.engine.averages import Averages, decay_of
from secateurs.utils.training.engine.masks import Masks
from secateurs.utils.training.engine.shadow import ShadowWeights
from secateurs.utils.training.models.weights import named_weights

L = keras.layers
NB_STEPS = 12


class HalfSteps:
  """A projection to multiples of a half."""

  def __init__(self, shape):
    self.shadow = tf.Variable(tf.zeros(shape), trainable=False)

  def start(self, kernel, mask):
    del mask
    self.shadow.assign(kernel)

  def project(self):
    return tf.round(2 * self.shadow) / 2

  def move(self, change):
    self.shadow.assign_add(change)

  def variables(self):
    return {'shadow': self.shadow}


class Objective:
  """Cross-entropy of a network in training mode."""

  metric_names = ()

  def __init__(self, network):
    self._network = network

  def __call__(self, batch):
    images, labels = batch
    losses = keras.losses.sparse_categorical_crossentropy(
      labels, self._network(images, training=True), from_logits=True
    )
    return tf.reduce_mean(losses), {}


def network():
  keras.utils.set_random_seed(0)
  norm = L.BatchNormalization(momentum=0.5, name='norm')
  layers = [L.Dense(5, name='first'), norm, L.ReLU(), L.Dense(3, name='last')]
  return keras.Sequential([L.Input((4,)), *layers])


def trained(net, averages, constraints=(), seen=None, events=(), start=0):
  """Trains, and appends the weights after each step, by name, to `seen`."""
  rng = np.random.default_rng(1)
  images = rng.normal(size=(NB_STEPS, 8, 4)).astype(np.float32)
  labels = rng.integers(0, 3, (NB_STEPS, 8))
  step = loop.TrainStep(
    Objective(net),
    net.trainable_variables,
    keras.optimizers.SGD(0.5, jit_compile=False),
    constraints=constraints,
    averages=averages,
  )
  values = [] if seen is None else seen
  note = loop.Event(
    lambda done, means: values.append({n: w.numpy() for n, w in named_weights(net).items()}),
    every=1,
  )
  batches = tf.data.Dataset.from_tensor_slices((images[start:], labels[start:]))
  loop.run(step, batches, start=start, stop=NB_STEPS, phase='fit', events=[*events, note])


def by_hand(values, first, kind, most, ratio):
  """The average of some arrays, float64, as a sum with a weight for each of them.

  Args:
    values: after each step.
    first: before them.
    kind, most, ratio: see `decay_of`.
  """
  if kind == 'swa':
    return np.mean(values[-max(round(ratio * len(values)), 1) :], axis=0, dtype=np.float64)
  decays = [min(most, (1 + t) / (10 + t)) for t in range(len(values))]
  total = np.prod(decays) * first.astype(np.float64)
  for t, value in enumerate(values):
    total = total + (1 - decays[t]) * np.prod(decays[t + 1 :]) * value.astype(np.float64)
  return total


@pytest.mark.parametrize(
  ('kind', 'most', 'ratio'),
  [('ema', 0.999, 0.25), ('ema', 0.3, 0.25), ('swa', 0.9, 0.4), ('swa', 0.9, 0.01)],
)
def test_a_network_ends_in_the_averages_of_all_its_weights(kind, most, ratio):
  net, seen = network(), []
  begun = {name: weight.numpy() for name, weight in named_weights(net).items()}
  decay = decay_of(kind, NB_STEPS, most=most, ratio=ratio)
  averages = Averages(named_weights(net), [], decay)
  trained(net, averages, seen=seen)
  averages.take()
  found = named_weights(net)
  assert {'norm/moving_mean', 'norm/moving_variance', 'first/kernel'} <= set(found)
  for name, weight in found.items():
    expected = by_hand([one[name] for one in seen], begun[name], kind, most, ratio)
    np.testing.assert_allclose(weight.numpy(), expected, rtol=1e-5, atol=1e-6, err_msg=name)
    is_last = np.array_equal(weight.numpy(), seen[-1][name])
    assert is_last == (round(ratio * NB_STEPS) == 0), name


def test_weights_whose_masks_changed_while_training_are_zero_in_the_end():
  net = network()
  kernel = net.get_layer('first').kernel
  masks = Masks([kernel])
  halves = np.arange(20).reshape(4, 5) % 2
  change = loop.Event(lambda done, means: masks.masks[0].assign(np.float32(halves)), at=[9])
  averages = Averages(named_weights(net), [masks], decay_of('swa', NB_STEPS, most=0.9, ratio=1.0))
  trained(net, averages, [masks], events=[change])
  assert np.all(averages.variables['first/kernel'].numpy() != 0)  # They remember the first steps.
  averages.take()
  np.testing.assert_array_equal(kernel.numpy() != 0, halves == 1)


def test_of_rounded_weights_the_exact_ones_are_averaged_and_rounded_again():
  net, exact = network(), []
  kernel = net.get_layer('last').kernel
  projection = HalfSteps(kernel.shape)
  shadows = ShadowWeights({'last/kernel': kernel}, {'last/kernel': projection})
  shadows.start()
  averages = Averages(named_weights(net), [shadows], decay_of('swa', NB_STEPS, most=0.9, ratio=0.5))
  assert 'last/kernel' not in averages.variables
  note = loop.Event(lambda done, means: exact.append(projection.shadow.numpy()), every=1)
  trained(net, averages, [shadows], events=[note])
  averages.take()
  mean = np.mean(exact[-NB_STEPS // 2 :], axis=0)
  np.testing.assert_allclose(projection.shadow.numpy(), mean, rtol=1e-5)
  np.testing.assert_array_equal(kernel.numpy(), np.round(2 * mean) / 2)
