"""Attention and recurrent cells: what a layer keeps inside is cut, by width or by whole heads."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from graph_helpers import check_slice, difference, outputs, random_inputs, random_keep, randomize

from secateurs.utils.errors import UserError
from secateurs.utils.graph import (
  ChannelGraph,
  channel_scores,
  choose_channels,
  count,
  load_model,
  save_model,
  slice_model,
)

L = keras.layers


def tokens(function):
  given = keras.Input((5, 6))
  found = tf.nest.flatten(function(L.Dense(8, name='first')(given)))
  found = [L.Flatten()(one) for one in found]
  y = found[0] if len(found) == 1 else L.Concatenate()(found)
  return keras.Model(given, L.Dense(3, name='head')(y))


def heads(call, **options):
  return lambda: tokens(lambda x: call(L.MultiHeadAttention(4, 6, name='mha', **options), x))


def by_hand():
  given = keras.Input((6, 5))
  x = L.Dense(12)(given)
  q, k, v = (
    tf.transpose(tf.reshape(L.Dense(24, name=name)(x), [-1, 6, 4, 6]), [0, 2, 1, 3])
    for name in 'qkv'
  )
  scores = tf.nn.softmax(tf.matmul(q, k, transpose_b=True) / 6**0.5)
  y = tf.reshape(tf.transpose(tf.matmul(scores, v), [0, 2, 1, 3]), [-1, 6, 24])
  return keras.Model(given, L.Dense(3)(L.Flatten()(L.Dense(12)(y) + x)))


def of_einsums():
  given = keras.Input((6, 5))
  x = L.Dense(12)(given)
  q, k, v = (
    L.EinsumDense('abc,cde->abde', (None, 4, 4), bias_axes='de', name=name)(x) for name in 'qkv'
  )
  scores = tf.nn.softmax(tf.einsum('aecd,abcd->acbe', k, q * 0.5))
  y = tf.einsum('acbe,aecd->abcd', scores, v)
  y = L.EinsumDense('abcd,cde->abe', (None, 16), bias_axes='e')(y)
  return keras.Model(given, L.Dense(3)(L.Flatten()(y)))


def other(x, width, name):
  return L.Dense(width, name=name)(x[:, :3])


HEADS = {
  'self': heads(lambda layer, x: layer(x, x)),
  'cross': heads(lambda layer, x: layer(x, other(x, 10, 'v'))),
  'three': heads(lambda layer, x: layer(x, other(x, 10, 'v'), other(x, 7, 'k'))),
  'scores': heads(lambda layer, x: list(layer(x, x, return_attention_scores=True))),
  'twice': heads(lambda layer, x: layer(layer(x, x), x)),
  'mask': heads(lambda layer, x: layer(x, x, attention_mask=L.Dense(5)(x) > 0)),
  'widths': heads(lambda layer, x: layer(x, x), value_dim=5, use_bias=False, output_shape=9),
  'by hand': by_hand,
  'of einsums': of_einsums,
}
INSIDE = {
  'Attention': lambda: tokens(
    lambda x: L.Attention(use_scale=True)([x, other(x, 8, 'v'), other(x, 8, 'k')])
  ),
  'Attention of sums': lambda: tokens(lambda x: L.Attention(score_mode='concat')([x, x])),
  'AdditiveAttention': lambda: tokens(
    lambda x: L.AdditiveAttention()([x, other(x, 8, 'v'), other(x, 8, 'k')])
  ),
  'Dot': lambda: tokens(lambda x: L.Dot(2)([x, L.Dense(8)(x)])),
  'Dot along steps': lambda: tokens(lambda x: L.Dot(1)([L.Dense(1)(x), x])),
  'cells': lambda: tokens(
    L.RNN([L.LSTMCell(6), L.GRUCell(5), L.SimpleRNNCell(4, use_bias=False)], name='rnn')
  ),
  'states of cells': lambda: tokens(L.RNN([L.LSTMCell(6), L.GRUCell(5)], return_state=True)),
  'ConvLSTM': lambda: tokens(
    lambda x: L.ConvLSTM1D(6, 2, return_sequences=True)(L.Reshape((5, 2, 4))(x))
  ),
}


def check_all(model, **options):
  """Random and chosen cuts; the smaller model is saved, reloaded and cut again."""
  randomize(model)
  graph = ChannelGraph(model, **options)
  check_slice(model, random_keep(graph, 0.6), graph=graph)
  keep = choose_channels(graph, channel_scores(graph), ratio=0.5)
  small = check_slice(model, keep, graph=graph)
  return graph, small


def check_file(small, path, **options):
  again = load_model(save_model(small, path))
  images = random_inputs(small)
  assert difference(outputs(small, images), outputs(again, images)) < 1e-5
  graph = ChannelGraph(again, **options)
  check_slice(again, random_keep(graph, 0.3), graph=graph)


@pytest.mark.parametrize('how', ['width', 'whole'])
@pytest.mark.parametrize('name', HEADS)
def test_attention_is_cut_inside(name, how, tmp_path):
  graph, small = check_all(HEADS[name](), heads=how)
  inside = [group for group in graph.groups if group.prunable and group.size in (4, 5, 6)]
  assert len(inside) >= (1 if how == 'whole' else 2)
  if name in ('three', 'widths', 'of einsums'):
    check_file(small, tmp_path / 'small.keras', heads=how)


@pytest.mark.parametrize('name', INSIDE)
def test_products_and_cells_are_cut(name, tmp_path):
  graph, small = check_all(INSIDE[name]())
  assert graph.group('first').prunable
  if name in ('AdditiveAttention', 'cells'):
    check_file(small, tmp_path / 'small.h5')


@pytest.mark.parametrize(
  'layer',
  [
    lambda: L.LSTM(6, name='inner'),
    lambda: L.GRU(5, name='inner'),
    lambda: L.Bidirectional(L.GRU(4), name='inner'),
    lambda: L.RNN([L.LSTMCell(6), L.LSTMCell(4)], name='inner'),
    lambda: L.TimeDistributed(L.Dense(4), name='inner'),
  ],
)
def test_a_mask_that_is_given_is_no_state(layer):
  rows, numbers = keras.Input((5, 6)), keras.Input((5,), dtype='int32')
  x = layer()(L.Dense(8, name='first')(rows), mask=numbers > 1)
  model = keras.Model([rows, numbers], L.Dense(3, name='head')(L.Flatten()(x)))
  graph, small = check_all(model)
  assert graph.group('first').prunable
  assert graph.group('inner').prunable
  assert small.get_layer('head').kernel.shape[0] < model.get_layer('head').kernel.shape[0]


def test_heads_by_name():
  model = randomize(HEADS['self']())
  graph = ChannelGraph(model, heads='whole')
  small = check_slice(model, {('mha', 'heads'): [0, 3]}, graph=graph)
  assert small.get_layer('mha').get_config()['num_heads'] == 2
  small = check_slice(model, {('mha', 'key'): [1, 2, 5], ('mha', 'value'): [0]})
  config = small.get_layer('mha').get_config()
  assert (config['key_dim'], config['value_dim'], config['num_heads']) == (3, 1, 4)
  # The scale of the scores is still that of six channels.
  query = model.get_layer('mha').get_weights()[0][..., [1, 2, 5]]
  np.testing.assert_allclose(small.get_layer('mha').get_weights()[0], query * 0.5**0.5, rtol=1e-6)
  with pytest.raises(UserError, match="no 'heads' to cut, expected 'input' or 'output' or 'key'"):
    slice_model(model, {('mha', 'heads'): [0]})
  with pytest.raises(UserError, match="0 of the 4 channels of its 'heads'"):
    slice_model(graph, {('mha', 'heads'): []}, min_channels=0)
  with pytest.raises(UserError, match="'width' or 'whole'"):
    ChannelGraph(model, heads='all')


def test_macs_of_cells_and_convolutional_cells():
  cells = INSIDE['cells']()
  first, second, third = 4 * 6 * (8 + 6), 3 * 5 * (6 + 5), 4 * (5 + 4)
  assert count(cells).layer('rnn').macs == 5 * (first + second + third)
  given = keras.Input((5, 7, 4))
  model = keras.Model(given, L.ConvLSTM1D(6, 2, name='conv')(given))
  # Five steps, six positions of a window of two.
  assert count(model).layer('conv').macs == 5 * 6 * 2 * 24 * (4 + 6)


def test_macs_of_an_attention():
  query, value = keras.Input((7, 8)), keras.Input((5, 9))
  given = L.MultiHeadAttention(3, 4, 6, output_shape=10, name='mha')(query, value=value)
  projected = 7 * 8 * 12 + 5 * 9 * (12 + 18) + 7 * 18 * 10
  assert count(keras.Model([query, value], given)).layer('mha').macs == projected + 3 * 35 * (4 + 6)


@pytest.mark.parametrize(('groups', 'size'), [(1, 8), (2, 4)])
def test_groups_are_cut_inside_where_norms_are_cut(groups, size):
  image = keras.Input((6, 6, 3))
  x = L.GroupNormalization(groups, name='norm')(L.Conv2D(8, 3, name='first')(image))
  model = keras.Model(image, L.Dense(3)(L.Flatten()(x)))
  assert not ChannelGraph(model).group('first').prunable or groups > 1
  graph, small = check_all(model, norms='cut')
  assert graph.group('first').size == size
  assert small.get_layer('norm').groups == groups
