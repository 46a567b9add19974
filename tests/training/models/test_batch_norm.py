import numpy as np
import pytest
import tf_keras as keras

from secateurs.utils.training.models.batch_norm import batches_for, reestimate

L = keras.layers


def network(side=8, width=4):
  x = inputs = L.Input((side, side, 3))
  x = L.BatchNormalization()(L.Conv2D(width, 3, use_bias=False)(x))
  return keras.Model(inputs, L.GlobalAveragePooling2D()(x))


def test_statistics_are_the_means_over_batches():
  model, images = network(), np.random.default_rng(0).normal(size=(3, 5, 8, 8, 3))
  reestimate(model, list(images))
  maps = [model.layers[1](batch).numpy() for batch in images]
  norm = model.layers[2]
  np.testing.assert_allclose(
    norm.moving_mean, np.mean([m.mean((0, 1, 2)) for m in maps], 0), atol=1e-6
  )
  np.testing.assert_allclose(
    norm.moving_variance, np.mean([m.var((0, 1, 2), ddof=1) for m in maps], 0), rtol=1e-4
  )
  assert norm.momentum == 0.99


@pytest.mark.parametrize(
  ('model', 'available', 'wanted'),
  [
    (network(), 10**6, (20, 64)),
    (network(), 300, (5, 64)),
    (network(224, 1000), 10**6, (375, 1)),  # 1.33 G MACs each.
    (network(1000, 2000), 10**6, (64, 1)),
    (network(1000, 2000), 10, (10, 1)),
  ],
)
def test_large_networks_and_small_data_take_fewer_samples(model, available, wanted):
  assert batches_for(model, available) == wanted
