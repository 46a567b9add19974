import numpy as np
import pytest
import tf_keras as keras

from secateurs.learners.search.trimming import trim

L = keras.layers


@pytest.fixture
def net():
  x = inputs = keras.Input((8, 8, 3))
  for name in 'ab':
    x = L.Conv2D(20, 3, padding='same', name=name)(x)
  return keras.Model(inputs, L.Dense(2, name='small')(L.GlobalAveragePooling2D()(x)))


def nonzeros(model):
  return {layer.name: np.count_nonzero(layer.kernel) for layer in model.layers[1:3]}


def test_a_file_that_has_grown_is_trimmed_to_its_limit_and_hardly_further(net):
  before, weights = nonzeros(net), net.get_layer('b').kernel.numpy()
  cost = lambda: 100.0 + sum(nonzeros(net).values())  # noqa: E731
  limit = 0.97 * cost()
  gone = trim(net, cost, limit)
  assert 0.99 * limit < cost() <= limit
  after = nonzeros(net)
  for name, number in before.items():
    assert after[name] == round((1 - gone) * number)
  kept = net.get_layer('b').kernel.numpy()
  assert np.abs(kept[kept != 0]).min() >= np.abs(weights[kept == 0]).max()
  assert np.all(kept[kept != 0] == weights[kept != 0])


def test_a_file_within_its_limit_stays_as_it_is(net):
  before = [one.copy() for one in net.get_weights()]
  assert trim(net, lambda: 5.0, 5.0) == 0
  assert all(map(np.array_equal, before, net.get_weights()))


def test_a_limit_out_of_reach_ends(net):
  assert 0 < trim(net, lambda: 5.3, 5.0) <= 1
