"""Muon's step against the singular value decomposition, and what it does to other variables."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from secateurs.utils.training.engine.masks import Masks
from secateurs.utils.training.engine.muon import Muon, orthogonalised


@pytest.mark.parametrize('shape', [(27, 16), (16, 40), (12, 12), (5, 1)])
def test_singular_values_come_near_one(shape):
  matrix = np.random.default_rng(0).normal(size=shape).astype(np.float32)
  left, _, right = np.linalg.svd(matrix, full_matrices=False)

  found = orthogonalised(tf.constant(matrix)).numpy()

  values = np.linalg.svd(found, compute_uv=False)
  assert values.min() > 0.4
  assert values.max() < 1.3
  polar = left @ right
  assert np.sum(found * polar) > 0.95 * np.linalg.norm(found) * np.linalg.norm(polar)


def test_no_gradient_is_no_step():
  assert np.array_equal(orthogonalised(tf.zeros([8, 4])).numpy(), np.zeros([8, 4]))


def test_a_kernel_steps_by_a_share_of_its_length():
  rng = np.random.default_rng(1)
  before = rng.normal(size=(3, 3, 4, 6)).astype(np.float32)
  kernel = tf.Variable(before)
  optimizer = Muon(0.5, kernel_factor=0.04)
  optimizer.build([kernel])

  optimizer.apply_gradients(
    [(tf.constant(1e-6 * rng.normal(size=before.shape), tf.float32), kernel)]
  )

  moved = np.linalg.norm(kernel.numpy() - before) / np.linalg.norm(before)
  assert moved == pytest.approx(0.5 * 0.04, rel=1e-3)


def test_the_step_of_a_sparse_kernel_belongs_to_its_survivors():
  rng = np.random.default_rng(4)
  mask = (rng.random((3, 3, 6, 8)) < 0.1).astype(np.float32)
  before = (rng.normal(size=mask.shape) * mask).astype(np.float32)
  gradient = rng.normal(size=mask.shape).astype(np.float32)

  def stepped(of_pruned: float) -> np.ndarray:
    kernel = tf.Variable(before)
    optimizer = Muon(0.5, kernel_factor=0.04, masks=Masks([kernel], [mask]))
    optimizer.build([kernel])
    for _ in range(2):
      given = np.where(mask > 0, gradient, of_pruned)
      optimizer.apply_gradients([(tf.constant(given, tf.float32), kernel)])
    return kernel.numpy() - before

  moved = stepped(of_pruned=0.0)

  assert (moved[mask == 0] == 0).all()
  assert np.linalg.norm(moved) / np.linalg.norm(before) == pytest.approx(2 * 0.5 * 0.04, rel=0.02)
  assert np.array_equal(moved, stepped(of_pruned=100.0))


def test_masks_are_found_in_mixed_precision():
  layer = keras.layers.Conv2D(4, 3, dtype=keras.mixed_precision.Policy('mixed_bfloat16'))
  layer.build((None, 8, 8, 3))
  mask = np.zeros(layer.kernel.shape, np.float32)
  mask[0] = 1
  masks = Masks([layer.kernel], [mask])
  masks.apply()
  optimizer = Muon(0.5, kernel_factor=0.04, masks=masks)
  optimizer.build(layer.trainable_variables)

  gradients = [tf.ones(v.shape) for v in layer.trainable_variables]
  optimizer.apply_gradients(zip(gradients, layer.trainable_variables))

  assert (layer.kernel.numpy()[1:] == 0).all()


@pytest.mark.parametrize('shape', [(7,), (5, 3), (3, 3, 4, 1), (1, 1, 1, 8)])
def test_what_is_no_matrix_of_a_convolution_steps_as_sgd_does(shape):
  rng = np.random.default_rng(2)
  start = rng.normal(size=shape).astype(np.float32)
  mine, reference = tf.Variable(start), tf.Variable(start)
  muon = Muon(0.1, kernel_factor=3.0, momentum=0.8)
  sgd = keras.optimizers.SGD(0.1, momentum=0.8, nesterov=True, jit_compile=False)
  muon.build([mine])
  sgd.build([reference])

  for _ in range(3):
    gradient = tf.constant(rng.normal(size=shape), tf.float32)
    muon.apply_gradients([(gradient, mine)])
    sgd.apply_gradients([(gradient, reference)])

  assert np.array_equal(mine.numpy(), reference.numpy())


def test_an_ill_conditioned_problem_is_solved_in_fewer_steps():
  """Inputs whose variances differ a thousandfold: plain momentum crawls along the weak ones."""
  rng = np.random.default_rng(3)
  scales = np.geomspace(1.0, 0.03, 16)
  inputs = tf.constant(rng.normal(size=(256, 1, 1, 16)) * scales, tf.float32)
  truth = tf.constant(rng.normal(size=(1, 1, 16, 8)), tf.float32)
  targets = tf.nn.conv2d(inputs, truth, 1, 'SAME')

  def decay(peak: float) -> keras.optimizers.schedules.LearningRateSchedule:
    return keras.optimizers.schedules.CosineDecay(peak, 100)

  muon = Muon(decay(1.0), kernel_factor=0.1)
  plain = [
    keras.optimizers.SGD(decay(rate), momentum=0.9, jit_compile=False)
    for rate in (0.03, 0.1, 0.3, 1.0)
  ]
  kernels = {optimizer: tf.Variable(tf.zeros_like(truth) + 0.1) for optimizer in (muon, *plain)}
  for optimizer, kernel in kernels.items():
    optimizer.build([kernel])

  @tf.function
  def train() -> None:
    for _ in tf.range(100):
      for optimizer, kernel in kernels.items():
        with tf.GradientTape() as tape:
          loss = tf.reduce_mean((tf.nn.conv2d(inputs, kernel, 1, 'SAME') - targets) ** 2)
        optimizer.apply_gradients([(tape.gradient(loss, kernel), kernel)])

  train()
  distances = {
    optimizer: float(tf.norm(kernel - truth) / tf.norm(truth))
    for optimizer, kernel in kernels.items()
  }
  assert distances[muon] < 0.5 * min(distances[optimizer] for optimizer in plain)


def test_configuration_round_trip():
  optimizer = Muon(0.1, kernel_factor=0.3, momentum=0.7)
  again = Muon.from_config(optimizer.get_config())
  assert again.kernel_factor == 0.3
  assert again.momentum == 0.7
  assert again.nesterov
