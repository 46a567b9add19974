"""Scores, rankings and targets against hand-made tables and brute force."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from graph_helpers import check_slice, conv, randomize
from graph_networks import half_added

from secateurs.utils.errors import UserError
from secateurs.utils.graph import (
  ChannelGraph,
  activation_scores,
  channel_scores,
  choose_channels,
  count,
  slice_model,
)
from secateurs.utils.graph.choice.data_scores import entropy, histogram, nonzero_share, taylor

L = keras.layers


def net():
  x = keras.Input((8, 8, 3))
  y = L.BatchNormalization(name='stem_bn')(conv(6, 'stem')(x))
  z = L.BatchNormalization(name='b_bn')(conv(6, 'b')(L.ReLU()(conv(8, 'a')(L.ReLU()(y)))))
  y = L.ReLU()(L.Add()([y, z]))
  return randomize(keras.Model(x, L.Dense(3, name='head')(L.GlobalAveragePooling2D()(y))))


def test_joins():
  graph = ChannelGraph(net())
  given = {'stem': np.arange(6.0), 'b': 10.0 - np.arange(6), ('a', 'input'): np.full(6, 100.0)}
  given.update({'a': np.ones(8), 'head': np.ones(3)})
  assert channel_scores(graph, given, 'sum')[0].tolist() == [110.0] * 6
  assert channel_scores(graph, given, 'max')[0].tolist() == [100.0] * 6
  np.testing.assert_allclose(channel_scores(graph, given, 'mean')[0], 110 / 3)
  assert channel_scores(graph, given, follow=['b'])[0].tolist() == [10, 9, 8, 7, 6, 5]
  assert channel_scores(graph, given, follow=['b'])[1].tolist() == [1.0] * 8


def test_criteria():
  model = net()
  graph = ChannelGraph(model)
  kernels = [model.get_layer(name).kernel.numpy() for name in ('stem', 'b')]
  l1 = sum(np.abs(k).sum((0, 1, 2)) for k in kernels)
  np.testing.assert_allclose(channel_scores(graph)[0], l1, rtol=1e-6)
  l2 = sum(np.sqrt((k**2).sum((0, 1, 2))) for k in kernels)
  np.testing.assert_allclose(channel_scores(graph, 'l2')[0], l2, rtol=1e-6)
  with pytest.raises(UserError, match=r'group 1 \(a\) has a score'):
    channel_scores(graph, 'bn_gamma')
  gammas = {n: model.get_layer(f'{n}_bn').gamma.numpy() for n in ('stem', 'b')}

  def own(layer):
    return gammas.get(layer.name, np.ones(layer.filters) if layer.name == 'a' else None)

  np.testing.assert_allclose(channel_scores(graph, own)[0], gammas['stem'] + gammas['b'])
  assert channel_scores(graph, own)[2].tolist() == [0, 0, 0]  # the protected head
  with pytest.raises(UserError, match='not finite'):
    channel_scores(graph, {'stem': np.full(6, np.nan)})
  with pytest.raises(UserError, match='one number for each'):
    channel_scores(graph, {'stem': np.ones(5)})
  with pytest.raises(UserError, match='Unknown join'):
    channel_scores(graph, join='median')


def test_statistics_by_hand():
  maps = np.array([[[1.0, 0], [0, 0]], [[2, 0], [3, 1]]])  # [samples, positions, channels]
  assert nonzero_share(maps).tolist() == [0.75, 0.25]
  # Four samples in two bins, half and half: ln 2; all alike: 0.
  pooled = np.array([[0.0, 5], [0, 5], [1, 5], [1, 5]])
  counts = histogram(pooled, pooled.min(axis=0), pooled.max(axis=0), bins=2)
  assert counts.tolist() == [[2, 2], [4, 0]]
  np.testing.assert_allclose(entropy(counts), [np.log(2), 0])
  grads = np.array([[[1.0, 1], [1, 1]], [[-1, 2], [0, 2]]])
  assert taylor(maps, grads).tolist() == [1.5, 1.0]  # mean of |1|, |-2| and of |0|, |2|


@pytest.mark.parametrize('kind', ['nonzero_share', 'entropy', 'derivative'])
def test_scores_on_data(kind):
  model = net()
  graph = ChannelGraph(model)
  rng = np.random.default_rng(0)
  batches = [(rng.normal(size=(4, 8, 8, 3)).astype('f'), rng.integers(0, 3, 4)) for _ in range(2)]

  def loss(labels, logits):
    return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))

  scores = activation_scores(graph, kind, batches, loss, bins=4)
  assert set(scores) == {(n, 'input') for n in ('stem', 'a', 'b', 'head')}
  assert all(np.isfinite(one).all() and one.std() > 0 for one in scores.values())
  if kind == 'nonzero_share':  # one probe by hand
    probe = keras.Model(model.input, model.get_layer('b').input)
    share = np.mean([(probe(x).numpy() > 0).mean((0, 1, 2)) for x, _ in batches], axis=0)
    np.testing.assert_allclose(scores['b', 'input'], share)
  joined = channel_scores(graph, scores, 'mean')
  np.testing.assert_allclose(joined[1], scores['b', 'input'])
  with pytest.raises(UserError, match='no batches'):
    activation_scores(graph, kind, [], loss)


@pytest.mark.parametrize('kind', ['nonzero_share', 'entropy', 'derivative'])
def test_every_sample_counts_alike(kind):
  graph, rng = ChannelGraph(net()), np.random.default_rng(0)
  images, labels = rng.normal(size=(9, 8, 8, 3)).astype('f'), rng.integers(0, 3, 9)

  def loss(labels, logits):
    return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))

  uneven = [(images[:8], labels[:8]), (images[8:], labels[8:])]
  found = activation_scores(graph, kind, uneven, loss, bins=4)
  # Three samples in each batch, so that the size of the batches plays no part.
  even = [(images[i : i + 3], labels[i : i + 3]) for i in (0, 3, 6)]
  for key, expected in activation_scores(graph, kind, even, loss, bins=4).items():
    np.testing.assert_allclose(found[key], expected, rtol=1e-4, atol=1e-7)


def test_entropy_goes_over_the_batches_twice():
  with pytest.raises(UserError, match='reads the batches twice, got an iterator'):
    activation_scores(ChannelGraph(net()), 'entropy', iter([np.ones((2, 8, 8, 3), 'f')]))


def test_local_ratio_keeps_the_best():
  graph = ChannelGraph(net())
  scores = [np.array([3.0, 1, 2, 6, 5, 4]), np.arange(8.0), np.zeros(3)]
  keep = choose_channels(graph, scores, ratio=0.5)
  assert {k: v.tolist() for k, v in keep.items()} == {0: [3, 4, 5], 1: [4, 5, 6, 7]}
  keep = choose_channels(graph, scores, ratio=1.0, min_channels=2)
  assert {k: v.tolist() for k, v in keep.items()} == {0: [3, 4], 1: [6, 7]}
  keep = choose_channels(graph, scores, ratio=0.0)
  assert [len(v) for v in keep.values()] == [6, 8]
  keep = choose_channels(graph, scores, ratio=0.7, round_to=4)
  assert [len(v) for v in keep.values()] == [4, 4]
  assert set(choose_channels(graph, scores, ratio=0.5, skip=[0])) == {1}


def test_global_ratio_compares_groups():
  graph = ChannelGraph(net())
  scores = [np.full(6, 1.0), np.array([0.1] * 4 + [1.9] * 4), np.zeros(3)]
  keep = choose_channels(graph, scores, ratio=4 / 14, scope='global')
  assert {k: v.tolist() for k, v in keep.items()} == {0: list(range(6)), 1: [4, 5, 6, 7]}


@pytest.mark.parametrize('scope', ['local', 'global'])
@pytest.mark.parametrize('goal', ['macs', 'params'])
@pytest.mark.parametrize('share', [0.3, 0.62, 0.9])
def test_targets_are_met_within_one_channel(scope, goal, share):
  model = net()
  graph = ChannelGraph(model)
  scores = channel_scores(graph)
  keep = choose_channels(graph, scores, **{goal: share}, scope=scope)
  target = share * getattr(count(model), goal)
  assert getattr(count(slice_model(graph, keep)), goal) <= target
  # Some single channel, put back, breaks the target.
  least = []
  for index, kept in keep.items():
    gone = np.setdiff1d(np.arange(graph.groups[index].size), kept)
    if len(gone):
      more = {**keep, index: np.append(kept, gone[:1])}
      least.append(getattr(count(slice_model(graph, more)), goal))
  assert max(least) > target


def test_unreachable_and_unclear_goals():
  graph = ChannelGraph(net())
  scores = channel_scores(graph)
  for options, words in (
    ({}, 'exactly one'),
    ({'ratio': 0.5, 'macs': 0.5}, 'exactly one'),
    ({'ratio': 2}, r'\[0, 1\]'),
    ({'macs': 1}, 'out of reach'),
    ({'macs': -1}, 'macs must be a finite number above 0, got -1'),
    ({'macs': float('nan')}, 'got nan'),
    ({'params': float('nan')}, 'params must be a finite number above 0'),
    ({'params': float('inf')}, 'got inf'),
    ({'ratio': float('nan')}, r'\[0, 1\]'),
    ({'ratio': 0.5, 'round_to': 0}, 'round_to must be at least 1'),
    ({'ratio': 0.5, 'min_channels': -1}, 'min_channels at least 0'),
    ({'ratio': 0.5, 'scope': 'galactic'}, 'Unknown scope'),
  ):
    with pytest.raises(UserError, match=words):
      choose_channels(graph, scores, **options)


def test_channels_with_several_producers_do_not_outrank_the_others():
  both, other = np.arange(1.0, 33), np.arange(16.0, 0, -1)
  graph = ChannelGraph(half_added())
  given = {'both': both, 'other': other, 'reader': np.ones(16)}
  scores = channel_scores(graph, given)[0]
  expected = both / both.mean()
  expected[16:] = (expected[16:] + other / other.mean()) / 2
  np.testing.assert_allclose(channel_scores(graph, given, 'relative')[0], expected)
  added = channel_scores(graph, given, 'sum')[0]
  np.testing.assert_allclose(added[16:], both[16:] + other)
  # In units of the sum: small scores stay small beside those of other groups.
  np.testing.assert_allclose(scores, expected * added.mean())
  small = channel_scores(graph, {name: one * 1e-6 for name, one in given.items()})[0]
  np.testing.assert_allclose(small, scores * 1e-6)


@pytest.mark.parametrize('channels', [32, 8])
def test_layers_that_channels_pass_through_do_not_score_them(channels):
  tokens = keras.Input((16, 3))
  y = L.Permute((2, 1))(L.Dense(channels, name='embed')(tokens))
  y = L.Dense(24, activation='relu', name='mix1')(y)
  y = L.Permute((2, 1))(L.Dense(16, name='mix2')(y))
  model = randomize(keras.Model(tokens, L.Dense(4, name='head')(L.GlobalAveragePooling1D()(y))))
  graph = ChannelGraph(model)
  kernel = np.abs(model.get_layer('embed').kernel.numpy()).sum(0)
  np.testing.assert_allclose(channel_scores(graph)[0], kernel, rtol=1e-6)
  check_slice(model, choose_channels(graph, channel_scores(graph), ratio=0.5))
  with pytest.raises(UserError, match=r"'mix1' got scores of shape \(24,\)|one number for each"):
    channel_scores(graph, {'embed': kernel, 'mix1': np.ones(25)})


def test_an_output_that_mixes_channels_keeps_one_to_read():
  x = keras.Input((8, 8, 3))
  y = L.GlobalMaxPooling2D()(conv(4, 'stem')(x))
  model = randomize(keras.Model(x, L.Dense(3, 'softmax', name='head')(y)))
  graph = ChannelGraph(model)
  keep = choose_channels(graph, channel_scores(graph), ratio=1.0, min_channels=0)
  small = check_slice(model, keep, min_channels=0)
  assert small.get_layer('stem').filters == 1
