"""What penalties do to groups of weights, against loops over every weight."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from secateurs.learners.pressure import passes, shrinkage
from secateurs.learners.pressure.penalties import (
  GrowingPenalty,
  GrowingStep,
  Growth,
  LassoPenalty,
  LassoStep,
)
from secateurs.learners.pressure.rp_config import RpConfig
from secateurs.learners.pressure.rp_state import RpState
from secateurs.learners.pressure.weight_groups import Part, WeightGroups
from secateurs.utils.errors import UserError

L = keras.layers
KERNEL = np.arange(-12, 12).reshape(2, 1, 3, 4).astype(np.float32) / 6
SHIFT = np.array([0.5, -0.5, 0.0, 3.0], np.float32)
OWNERS = np.array([0, -1, 2, 0])


@pytest.fixture
def groups():
  """Three groups over the filters of a kernel and a shift; group 1 has none, filter 1 no group."""
  kernel, shift = tf.Variable(KERNEL), tf.Variable(SHIFT)
  parts = [Part(kernel, (3,), OWNERS), Part(shift, (0,), OWNERS)]
  return WeightGroups(parts, np.array([0, 1, 2])), kernel, shift


def slow_norms():
  found = np.zeros(3)
  for filter_, owner in enumerate(OWNERS):
    if owner >= 0:
      found[owner] += (KERNEL[..., filter_] ** 2).sum() + SHIFT[filter_] ** 2
  return np.sqrt(found)


def slow_shrunk(factors):
  kernel, shift = KERNEL.copy(), SHIFT.copy()
  for filter_, owner in enumerate(OWNERS):
    if owner >= 0:
      kernel[..., filter_] *= factors[owner]
      shift[filter_] *= factors[owner]
  return kernel, shift


def test_norms(groups):
  np.testing.assert_allclose(groups[0].norms(), slow_norms(), rtol=1e-6)


def test_the_proximal_step_shrinks_groups_to_exact_zeros(groups):
  weights, kernel, shift = groups
  norms, strengths = slow_norms(), np.array([1.0, 1.0, 1e3], np.float32)
  LassoStep(weights, tf.Variable(strengths)).apply(tf.constant(0.1))
  factors = [max(0.0, 1 - 0.1 * s / n) if n else 0.0 for s, n in zip(strengths, norms, strict=True)]
  expected = slow_shrunk(factors)
  np.testing.assert_allclose(kernel, expected[0], rtol=1e-6)
  np.testing.assert_allclose(shift, expected[1], rtol=1e-6)
  assert not kernel.numpy()[..., 2].any()
  assert not np.signbit(kernel.numpy()[..., 2]).any()  # No -0.0.
  np.testing.assert_array_equal(kernel.numpy()[..., 1], KERNEL[..., 1])


def test_the_proximal_step_does_not_hide_what_is_no_number(groups):
  weights, kernel, shift = groups
  shift.assign([np.nan, 0.0, 0.0, 0.0])  # In group 0, which has filters 0 and 3.
  LassoStep(weights, tf.Variable([1.0, 1.0, 1e3])).apply(tf.constant(0.1))
  assert np.isnan(kernel.numpy()[..., [0, 3]]).all()
  assert not kernel.numpy()[..., 2].any()


def test_groups_of_one_weight_are_l1():
  gamma = tf.Variable([0.3, -0.3, 0.05, 0.0])
  weights = WeightGroups([Part(gamma, (0,), np.arange(4))], np.arange(4))
  strengths = tf.Variable(tf.ones(4))
  (slope,) = LassoPenalty(weights, strengths)([gamma])
  np.testing.assert_allclose(slope, [1.0, -1.0, 1.0, 0.0], atol=1e-6)
  LassoStep(weights, strengths).apply(tf.constant(0.1))
  np.testing.assert_allclose(gamma, [0.2, -0.2, 0.0, 0.0], atol=1e-6)


def test_the_subgradient_is_that_of_the_sum_of_norms(groups):
  weights, kernel, shift = groups
  strengths = tf.constant([0.5, 1.0, 2.0])
  other = tf.Variable(1.0)
  terms = LassoPenalty(weights, tf.Variable(strengths))([shift, other, kernel])
  with tf.GradientTape() as tape:
    norms = tf.stack([weights.norms()[0], weights.norms()[2]])
    value = tf.reduce_sum(norms * tf.gather(strengths, [0, 2]))
  expected = tape.gradient(value, [shift, kernel])
  np.testing.assert_allclose(terms[0], expected[0], rtol=1e-5)
  np.testing.assert_allclose(terms[2], expected[1], rtol=1e-5)
  assert terms[1] is None


def test_a_growing_factor_rises_in_equal_steps_and_counts_training_steps(groups):
  assert [round(float(shrinkage.risen(tf.constant(t / 6), 3)), 4) for t in range(8)] == [
    0.3333,
    0.3333,
    0.6667,
    0.6667,
    1.0,
    1.0,
    1.0,
    1.0,
  ]
  weights, kernel, _ = groups
  growth = Growth(nb_steps=4, nb_rises=2)
  step = GrowingStep(weights, tf.Variable([1.0, 0.0, 0.0]), growth)
  for _ in range(4):
    step.apply(tf.constant(0.2))
  factor = (1 / 1.1) ** 2 * (1 / 1.2) ** 2  # Half of the strength twice, then all of it.
  np.testing.assert_allclose(kernel[..., 0], KERNEL[..., 0] * factor, rtol=1e-5)
  np.testing.assert_array_equal(kernel[..., 2], KERNEL[..., 2])
  assert float(growth.steps) == 4
  terms = GrowingPenalty(weights, tf.Variable([0.0, 0.0, 3.0]), growth)([kernel])
  np.testing.assert_allclose(terms[0][..., 2], 3 * KERNEL[..., 2], rtol=1e-6)
  assert not terms[0].numpy()[..., 0].any()


def test_a_growing_factor_reaches_its_highest_in_each_training(groups):
  growth = Growth(nb_steps=500, nb_rises=2)
  growth.rise_within(2)
  assert [float(growth.next()) for _ in range(3)] == [0.5, 1.0, 1.0]


def test_a_subgradient_is_refused_where_the_optimizer_divides_it():
  class Compiled:
    kind = 'Adam'

  class Rates:
    compiled_optimizer = Compiled()

    def fine_tune_steps(self):
      return 9

  passes.Course(RpConfig(), Rates()).require_sgd()
  with pytest.raises(UserError, match='which Adam, with which the model was compiled, divides'):
    passes.Course(RpConfig(update='subgradient'), Rates()).require_sgd()
  Compiled.kind = 'SGD'
  passes.Course(RpConfig(update='subgradient'), Rates()).require_sgd()


def test_a_layer_is_recorded_once():
  state = RpState()
  state.note_layers([{'name': 'a', 'kept': 5}, {'name': 'b', 'kept': 5}])
  state.note_layers([{'name': 'a', 'kept': 3}])
  assert state.layers == [{'name': 'b', 'kept': 5}, {'name': 'a', 'kept': 3}]


def test_a_strength_of_one_takes_a_group_of_average_norm_to_zero():
  norms, scales = np.array([1.0, 3.0, 10.0]), np.array([0, 0, 1])
  strengths = shrinkage.relative_strengths(norms, scales, 1.0, travelled=0.5)
  np.testing.assert_allclose(strengths, [4.0, 4.0, 20.0])
  gamma = tf.Variable([2.0], dtype=tf.float32)
  weights = WeightGroups([Part(gamma, (0,), np.arange(1))], np.arange(1))
  step = LassoStep(weights, tf.Variable(strengths[:1], dtype=tf.float32))
  for _ in range(50):  # Rates of 0.01: the sum of rates is 0.5.
    step.apply(tf.constant(0.01))
  np.testing.assert_allclose(gamma, [0.0], atol=1e-5)


@pytest.mark.parametrize(
  ('arguments', 'press', 'tune'),
  [
    ((100, 0.4, 1), [40], [60]),
    ((100, 0.5, 3), [16, 17, 17], [16, 17, 17]),
    ((10, 0.0, 2), [0, 0], [5, 5]),
    ((100, 0.4, 2, 500), [500, 40], [30, 30]),
    ((100, 0.4, 1, 500), [500], [100]),
  ],
)
def test_steps_of_passes_sum_up(arguments, press, tune):
  steps = passes.split(*arguments)
  assert (steps.press, steps.tune) == (press, tune)
