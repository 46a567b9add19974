"""Normalisation over channels that are cut: sliced equals masked inside, and the correction helps."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from graph_helpers import check_slice, difference, outputs, random_inputs, randomize

from secateurs.utils.errors import UserError
from secateurs.utils.graph import (
  ChannelGraph,
  apply_plan,
  channel_scores,
  choose_channels,
  correct_norms,
  plan_slice,
)

L = keras.layers


def normed(norm):
  given = keras.Input((6, 5))
  x = L.Dense(8, name='first')(given)
  x = norm(x + L.Dense(8, name='second')(tf.nn.gelu(x)))
  x = L.Dense(6, activation='relu', name='last')(x)
  return randomize(keras.Model(given, L.Dense(3, name='head')(L.GlobalAveragePooling1D()(x))))


NORMS = {
  'layer': lambda: L.LayerNormalization(name='norm'),
  'layer without gamma': lambda: L.LayerNormalization(scale=False, name='norm'),
  'layer over steps and channels': lambda: L.LayerNormalization(axis=[1, 2], name='norm'),
  'unit': lambda: L.UnitNormalization(name='norm'),
  'l2': lambda: lambda x: tf.math.l2_normalize(x, -1),
}


@pytest.mark.parametrize('kind', NORMS)
def test_norms_are_cut_only_when_asked(kind):
  model = normed(NORMS[kind]())
  group = ChannelGraph(model).group('first')
  assert not group.prunable
  assert 'normalises over the channels' in group.reasons[0]
  graph = ChannelGraph(model, norms='cut')
  assert graph.group('first').prunable
  small = check_slice(model, {'first': [0, 2, 3, 7]}, graph=graph)
  assert small.get_layer('first').units == 4
  # The statistics are others: masking only what 'last' reads gives other outputs.
  kernel = model.get_layer('last').kernel
  kept = np.isin(np.arange(8), [0, 2, 3, 7])
  images = random_inputs(model)
  kernel.assign(kernel * kept[:, None])
  assert difference(outputs(model, images), outputs(small, images)) > 1e-3


def test_unknown_choice():
  with pytest.raises(UserError, match="'keep' or 'cut'"):
    ChannelGraph(normed(L.LayerNormalization()), norms='drop')


def test_the_correction_brings_outputs_nearer():
  model = normed(L.LayerNormalization(name='norm'))
  # Channels with a mean of their own: without two of them the statistics differ much.
  model.get_layer('first').bias.assign([0, 0, 4.0, 0, 0, 0, -3.0, 0])
  model.get_layer('last').kernel.assign(
    model.get_layer('last').kernel * np.array([1, 1, 0, 1, 1, 1, 0, 1.0])[:, None]
  )
  graph = ChannelGraph(model, norms='cut')
  plan = plan_slice(graph, {'first': [0, 1, 3, 4, 5, 7]})
  small = apply_plan(plan)
  batches = [np.random.default_rng(n).normal(size=(64, 6, 5)).astype('f') for n in range(4)]
  fresh = [np.random.default_rng(9).normal(size=(64, 6, 5)).astype('f')]
  expected = outputs(model, fresh)
  before = difference(expected, outputs(small, fresh))
  assert correct_norms(plan, small, batches) == ['norm']
  assert difference(expected, outputs(small, fresh)) < 0.3 * before
  # The closed form is what least squares gives.
  taps = [keras.Model(m.inputs, m.get_layer('norm').output) for m in (model, small)]
  y, x = (np.concatenate([tap(b).numpy().reshape(-1, n) for b in batches])
          for tap, n in zip(taps, (8, 6)))  # fmt: skip
  slope, offset = np.polyfit(x[:, 0], y[:, 0], 1)
  np.testing.assert_allclose([slope, offset], [1, 0], atol=1e-3)
  with pytest.raises(UserError, match='no batches'):
    correct_norms(plan, small, [])
  with pytest.raises(UserError, match='several times'):
    correct_norms(plan, small, iter(batches))


def test_a_narrow_stream_is_chosen():
  model = normed(L.LayerNormalization(name='norm'))
  graph = ChannelGraph(model, norms='cut')
  check_slice(model, choose_channels(graph, channel_scores(graph), macs=0.5), graph=graph)
