"""Multiply-adds of products of tensors: closed forms, TensorFlow's profiler, and cut networks."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from graph_helpers import check_slice, random_keep, randomize
from test_graph_counts import profiled_flops

from secateurs.utils.errors import UserError
from secateurs.utils.graph import ChannelGraph, count

L = keras.layers
STEPS, CHANNELS, HEADS, WIDTH = 6, 12, 3, 5
# Three projections and the output's, all queries with all keys, the scores with all values.
OF_ATTENTION = 4 * STEPS * CHANNELS * HEADS * WIDTH + 2 * HEADS * STEPS * STEPS * WIDTH


def by_matmul(x):
  q, k, v = (
    tf.transpose(tf.reshape(L.Dense(HEADS * WIDTH)(x), [-1, STEPS, HEADS, WIDTH]), [0, 2, 1, 3])
    for _ in range(3)
  )
  y = tf.transpose(tf.nn.softmax(q @ tf.transpose(k, [0, 1, 3, 2])) @ v, [0, 2, 1, 3])
  return L.Dense(CHANNELS)(tf.reshape(y, [-1, STEPS, HEADS * WIDTH]))


def by_einsum(x):
  q, k, v = (L.EinsumDense('abc,cde->abde', (None, HEADS, WIDTH))(x) for _ in range(3))
  scores = tf.nn.softmax(tf.einsum('aecd,abcd->acbe', k, q))
  y = tf.einsum('acbe,aecd->abcd', scores, v)
  return L.EinsumDense('abcd,cde->abe', (None, CHANNELS))(y)


def by_joined(x):
  """One projection for all three, taken apart along a new first axis."""
  y = tf.reshape(L.Dense(3 * HEADS * WIDTH)(x), [-1, STEPS, 3, HEADS, WIDTH])
  q, k, v = tf.unstack(tf.transpose(y, [0, 2, 3, 1, 4]), axis=1)
  y = tf.matmul(tf.nn.softmax(tf.matmul(q, k, transpose_b=True)), v)
  return L.Dense(CHANNELS)(tf.reshape(tf.transpose(y, [0, 2, 1, 3]), [-1, STEPS, HEADS * WIDTH]))


ATTENTIONS = {
  'layer': lambda x: L.MultiHeadAttention(HEADS, WIDTH)(x, x),
  'matmul': by_matmul,
  'einsum': by_einsum,
  'joined': by_joined,
}


@pytest.mark.parametrize('name', ATTENTIONS)
def test_an_attention_counts_the_same_however_it_is_written(name):
  given = keras.Input((STEPS, CHANNELS))
  model = randomize(keras.Model(given, L.Dense(2)(L.Flatten()(ATTENTIONS[name](given)))))
  counted = count(model)
  assert counted.macs == OF_ATTENTION + STEPS * CHANNELS * 2
  if name in ('matmul', 'joined'):
    assert profiled_flops(model) == 2 * counted.macs
    assert sum(row.macs for row in counted.layers if not row.params) == (
      2 * HEADS * STEPS * STEPS * WIDTH
    )
  for heads in ('width', 'whole'):
    graph = ChannelGraph(model, heads=heads)
    small = check_slice(model, random_keep(graph, 0.5), graph=graph)  # Counts what is left, too.
    assert count(small).macs < counted.macs


A, B = (STEPS, CHANNELS), (4, CHANNELS)
PRODUCTS = {
  'Attention': (lambda a, b: L.Attention()([a, b]), (A, B), 2 * 6 * 4 * 12),
  'Attention, key': (lambda a, b: L.Attention()([a, b[..., :5], b]), (A, B), 6 * 4 * (12 + 5)),
  'Attention of sums': (lambda a, b: L.Attention(score_mode='concat')([a, b]), (A, B), 6 * 4 * 12),
  'AdditiveAttention': (lambda a, b: L.AdditiveAttention()([a, b]), (A, B), 2 * 6 * 4 * 12),
  'sums alone': (lambda a, b: L.AdditiveAttention(False)([a, b]), (A, B), 6 * 4 * 12),
  'masked': (lambda a, b: L.Attention()([a, b], mask=[a[..., 0] > 0, b[..., 0] > 0]), (A, B), 576),
  'Dot': (lambda a, b: L.Dot(2)([a, b]), (A, B), 6 * 4 * 12),
  'Dot of rows': (lambda a, b: L.Dot(1)([a, b]), ((12,), (12,)), 12),
  'constant': (lambda a, b: tf.matmul(a, np.ones((12, 7), 'f')), (A, B), 6 * 12 * 7),
  'constant first': (lambda a, b: tf.einsum('pq,bqc->bpc', np.ones((3, 6), 'f'), a), (A, B), 216),
  'ellipsis': (lambda a, b: tf.einsum('...qc,...kc->...qk', a, b), (A, B), 6 * 4 * 12),
  'no sum': (lambda a, b: tf.einsum('bqc,bkc->bqkc', a, b), (A, B), 0),
  'sum of one first': (lambda a, b: tf.einsum('bqc,bkc->bq', a, b), (A, B), 6 * 12),
  'steps that meet': (lambda a, b: tf.matmul(a, b, transpose_a=True), (A, (6, 3)), 12 * 6 * 3),
}


@pytest.mark.parametrize('name', PRODUCTS)
def test_products_by_hand(name):
  function, shapes, expected = PRODUCTS[name]
  inputs = [keras.Input(shape) for shape in shapes]
  found = count(keras.Model(inputs, function(*inputs)))
  assert found.macs == expected
  assert found.params == sum(row.params for row in found.layers)


def test_windows_in_the_batch_count_once_for_each():
  image = keras.Input((8, 8, 3))
  x = tf.reshape(L.Conv2D(8, 2, 2)(image), [-1, 2, 2, 2, 2, 8])
  x = tf.reshape(tf.transpose(x, [0, 1, 3, 2, 4, 5]), [-1, 4, 8])  # 4 windows of 4 tokens
  x = L.Dense(6)(tf.matmul(x, x, transpose_b=True))
  x = tf.reshape(x, [-1, 4, 4, 6])
  model = keras.Model(image, L.Dense(2)(L.Flatten()(x)))
  assert count(model).macs == 16 * 8 * 12 + 4 * (4 * 4 * 8 + 4 * 4 * 6) + 4 * 4 * 6 * 2
  assert profiled_flops(model) == 2 * count(model).macs


def test_products_of_open_sizes_need_a_shape():
  given = keras.Input((None, 4))
  model = keras.Model(given, tf.matmul(given, given, transpose_b=True))
  with pytest.raises(UserError, match='pass input_shape'):
    count(model)
  assert count(model, (5, 4)).macs == 5 * 5 * 4
