import math

import numpy as np
import tensorflow as tf

from secateurs.utils.training.engine.schedules import Cosine, GradualWarmUp, PiecewiseConstant


def rates(schedule, nb_steps):
  return [float(schedule(tf.constant(step, tf.int64))) for step in range(nb_steps)]


def test_piecewise_constant():
  found = rates(PiecewiseConstant(0.1, [2, 4], 0.1), 6)
  np.testing.assert_allclose(found, [0.1, 0.1, 0.01, 0.01, 0.001, 0.001], rtol=1e-5)


def test_piecewise_without_boundaries():
  np.testing.assert_allclose(rates(PiecewiseConstant(0.1, []), 3), [0.1] * 3, rtol=1e-6)


def test_cosine():
  found = rates(Cosine(0.4, total=10), 12)
  expected = [0.4 * (1 + math.cos(math.pi * t / 10)) / 2 for t in range(10)] + [0.0, 0.0]
  np.testing.assert_allclose(found, expected, atol=1e-6)


def test_gradual_warm_up_starts_at_the_small_batchs_rate_and_keeps_the_schedules_decay():
  found = rates(GradualWarmUp(PiecewiseConstant(0.4, [6], 0.1), share=0.25, steps=3), 8)
  np.testing.assert_allclose(found, [0.1, 0.2, 0.3, 0.4, 0.4, 0.4, 0.04, 0.04], rtol=1e-5)


def test_configs_rebuild_them():
  for schedule in (
    PiecewiseConstant(0.1, [3], 0.5),
    Cosine(0.1, 9),
    GradualWarmUp(Cosine(0.1, 9), 0.5, 4),
  ):
    twin = type(schedule).from_config(schedule.get_config())
    assert rates(twin, 9) == rates(schedule, 9)
