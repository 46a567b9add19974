"""Channels in another order: the network computes the same."""

import numpy as np
import pytest
import tf_keras as keras

from secateurs.nets.mobilenet import MobileNetConfig
from secateurs.nets.mobilenet import cifar_network as mobilenet
from secateurs.nets.resnet import ResNetConfig
from secateurs.nets.resnet import cifar_network as resnet
from secateurs.utils.errors import UserError
from secateurs.utils.graph import ChannelGraph
from secateurs.utils.graph.slicing.classifier import refuse_other_probabilities
from secateurs.utils.graph.slicing.rearranging import by_norm, movable, rearrange

L = keras.layers


def chain():
  inputs = L.Input((6, 6, 3))
  x = L.Conv2D(4, 3, name='one')(inputs)
  x = L.BatchNormalization(name='norm', beta_initializer='random_normal')(x)
  x = L.DepthwiseConv2D(3, depth_multiplier=2, name='deep')(L.ReLU()(x))
  x = L.Flatten()(x)
  return keras.Model(inputs, L.Dense(3, name='head')(x))


def test_a_chain_by_hand():
  model = chain()
  one, head = (model.get_layer(n).kernel.numpy() for n in ('one', 'head'))
  order = np.array([2, 0, 3, 1])
  rearrange(ChannelGraph(model), {0: order})
  np.testing.assert_array_equal(model.get_layer('one').kernel.numpy(), one[..., order])
  # Rows of the dense layer: position, channel, multiple.
  expected = head.reshape(4, 4, 2, 3)[:, order].reshape(-1, 3)
  np.testing.assert_array_equal(model.get_layer('head').kernel.numpy(), expected)


@pytest.mark.parametrize('kind', ['float32', 'int32'])
def test_networks_that_read_tokens(kind):
  inputs = L.Input((8,), dtype=kind)
  x = L.Conv1D(4, 3, activation='relu')(L.Embedding(5, 4)(inputs))
  model = keras.Model(inputs, L.Dense(3)(L.GlobalMaxPooling1D()(x)))
  graph = ChannelGraph(model)
  rearrange(graph, by_norm(graph))
  refuse_other_probabilities(model)


def test_norms_fall_and_the_outputs_stay_through_residual_groups():
  network = resnet(ResNetConfig())
  model = network.build((16, 16, 3), 5)
  x = np.random.default_rng(1).standard_normal((3, 16, 16, 3)).astype(np.float32)
  before = model(x, training=False).numpy()
  graph = ChannelGraph(model)
  orders = by_norm(graph)
  assert len(orders) == len([group for group in graph.groups if group.free.all()])
  weights = model.get_weights()
  rearrange(graph, orders)
  np.testing.assert_allclose(model(x, training=False).numpy(), before, atol=1e-4)
  assert any((a != b).any() for a, b in zip(weights, model.get_weights(), strict=True))
  for order in by_norm(ChannelGraph(model)).values():
    np.testing.assert_array_equal(order, np.arange(len(order)))


def test_depthwise_networks_keep_their_outputs():
  model = mobilenet(MobileNetConfig()).build((32, 32, 3), 5)
  x = np.random.default_rng(1).standard_normal((2, 32, 32, 3)).astype(np.float32)
  before = model(x, training=False).numpy()
  rearrange(graph := ChannelGraph(model), orders := by_norm(graph))
  assert len(orders) > 5
  np.testing.assert_allclose(model(x, training=False).numpy(), before, atol=1e-4)


def test_groups_that_are_divided_stay_as_they_are():
  inputs = L.Input((6, 6, 3))
  x = L.Conv2D(8, 3)(inputs)
  y = L.Conv2D(8, 3, groups=2)(x)
  free = L.Conv2D(4, 1, name='free')(y)
  graph = ChannelGraph(keras.Model(inputs, L.Dense(2)(L.GlobalAveragePooling2D()(free))))
  assert [group.name for group in movable(graph)] == ['free']


def test_a_wrong_permutation_is_refused_and_taken_back():
  model = chain()
  weights = model.get_weights()
  graph = ChannelGraph(model)
  del graph.first_traces['norm']  # As if the normalisation were not known.
  with pytest.raises(UserError, match='since its outputs change'):
    rearrange(graph, {0: np.array([2, 0, 3, 1])})
  for one, other in zip(weights, model.get_weights(), strict=True):
    np.testing.assert_array_equal(one, other)
