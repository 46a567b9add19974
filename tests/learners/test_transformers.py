"""Streams and heads of transformers: cut by learners, written to plans, applied to other weights."""

import json

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from alike import few
from networks import randomize

from secateurs.learners.run.results.plan_cuts import apply_plan, channel_cuts
from secateurs.learners.run.results.plans import CutPlan, read_plan, structure, write_plan
from secateurs.nets.model_helper import ModelHelper
from secateurs.utils.errors import UserError
from secateurs.utils.graph import ChannelGraph, count

L = keras.layers
DIM, TOKENS = 8, 4


def by_hand(x, heads=4, width=3):
  q, k, v = (
    tf.reshape(L.Dense(heads * width, name=name)(x), [-1, TOKENS, heads, width]) for name in 'qkv'
  )
  q, k, v = (tf.transpose(one, [0, 2, 1, 3]) for one in (q, k, v))
  y = tf.matmul(tf.nn.softmax(tf.matmul(q, k, transpose_b=True)), v)
  y = tf.reshape(tf.transpose(y, [0, 2, 1, 3]), [-1, TOKENS, heads * width])
  return L.Dense(DIM, name='joined_heads')(y)


def layer(x):
  return L.MultiHeadAttention(4, 3, name='mha')(x, x)


def vit(attention=by_hand, **options):
  image = L.Input((8, 8, 1))
  x = L.Reshape((TOKENS, DIM))(L.Conv2D(DIM, 4, 4, name='patches')(image))
  x = L.Add()([x, attention(L.LayerNormalization(name='norm1')(x), **options)])
  y = L.Dense(12, 'gelu', name='wide')(L.LayerNormalization(name='norm2')(x))
  x = L.Add()([x, L.Dense(DIM, name='narrow')(y)])
  x = L.GlobalAveragePooling1D()(L.LayerNormalization(name='norm3')(x))
  return keras.Model(image, L.Dense(3, 'softmax', name='classes')(x))


@pytest.fixture(scope='module')
def data():
  rng = np.random.default_rng(0)
  images = rng.normal(size=(96, 8, 8, 1)).astype(np.float32)
  return images, rng.integers(0, 3, 96)


def helper_of(model, data):
  model.compile('sgd', 'sparse_categorical_crossentropy')
  return ModelHelper.from_model(model, data, data)


CONFIGS = {
  'chn-pruned': {'nb_batches': 1, 'uniform_preserve_ratio': 0.5, 'compare': False},
  'filter-pruned': {'prune_ratio': 0.5},
  'dis-chn-pruned': {
    'nb_stages': 1, 'nb_iters_block': 1, 'nb_iters_layer': 1, 'nb_smpls_layer': 16,
    'nb_batches_score': 2, 'batch_size': 8, 'chns_per_step': 4,
  },
  'reg-pruned': {'prune_option': 'uniform', 'prune_ratio': 0.5},
  'prune-regrow': {'prune_option': 'uniform', 'prune_ratio': 0.5},
}  # fmt: skip
CUT = {'trunk': 'couple', 'norms': 'cut', 'heads': 'whole'}
CASES = {
  'chn-pruned': ('chn-pruned', by_hand),
  'chn-pruned of a layer': ('chn-pruned', layer),
  'filter-pruned': ('filter-pruned', layer),
  'filter-pruned by hand': ('filter-pruned', by_hand),
  'dis-chn-pruned': ('dis-chn-pruned', by_hand),
  'reg-pruned': ('reg-pruned', layer),
  'reg-pruned by hand': ('reg-pruned', by_hand),
  'prune-regrow': ('prune-regrow', layer),
}


def widths(model):
  return [model.get_layer(f'norm{number}').gamma.shape[0] for number in (1, 2, 3)]


@pytest.mark.slow
@pytest.mark.parametrize('case', few(CASES, ('chn-pruned',)))
def test_streams_and_heads_are_cut_planned_and_cut_again(case, data, make):
  name, attention = CASES[case]
  model = randomize(vit(attention))
  run = {'nb_smpls_calib': 8, 'bench_frames': 1}
  training = {'nb_epochs_ft': 0.2, 'batch_size': 16}
  learner = make(
    name, run=run, training=training, helper=helper_of(model, data), **CONFIGS[name], **CUT
  )
  result = learner.train()
  assert widths(result.model) == [DIM // 2] * 3
  report = result.report
  assert report['parity']['slim_vs_masked'] < 1e-4
  assert report['parity']['tflite_vs_keras'] < 1e-3
  assert report['compressed']['macs'] == count(result.model).macs < 0.6 * count(model).macs
  (note,) = (one for one in report['notes'] if 'Normalisations over channels were cut' in one)
  assert 'norm1, norm2, norm3 (3 in all)' in note
  plan = json.loads(result.plan.read_text())
  assert (plan['norms'], plan['heads']) == ('cut', 'whole')
  heads = [len(one['kept']) for one in plan['channels'] if one['size'] == 4]
  # Channels that no layer reads which can be refit are not chn-pruned's.
  assert heads == ([] if case == 'chn-pruned of a layer' else [2])
  again = apply_plan(randomize(vit(attention), 1), result.plan, [data[0]])
  assert [w.shape for w in again.weights] == [w.shape for w in result.model.weights]


@pytest.mark.exhaustive
@pytest.mark.slow
def test_a_plan_says_itself_how_norms_and_heads_are_cut(data, make, tmp_path):
  model, plan, path = randomize(vit()), plan_of(vit()), tmp_path / 'plan.json'
  write_plan(plan, path)
  run = {'nb_smpls_calib': 8, 'bench_frames': 1, 'plan': str(path)}
  config = {**CONFIGS['chn-pruned'], 'trunk': 'couple'}
  learner = make('chn-pruned', run=run, helper=helper_of(model, data), **config)
  result = learner.train()
  assert widths(result.model) == [3] * 3
  again = json.loads(result.plan.read_text())
  assert (again['norms'], again['heads']) == ('cut', 'whole')
  assert read_plan(result.plan).channels == plan.channels


def plan_of(model):
  """Three channels of the stream, two heads and five hidden channels stay."""
  graph = ChannelGraph(model, norms='cut', heads='whole')
  chosen = {'patches': [0, 3, 7], 'q': [1, 2], 'wide': [0, 1, 2, 5, 6]}
  cuts = channel_cuts(graph, {graph.group(name).index: kept for name, kept in chosen.items()})
  return CutPlan('x', None, 'vit', structure(model), cuts, norms='cut', heads='whole')


def test_plans_hold_heads_and_cut_norms(data, tmp_path):
  plan = plan_of(vit())
  write_plan(plan, tmp_path / 'plan.json')
  assert read_plan(tmp_path / 'plan.json') == plan
  model = randomize(vit(), 1)
  plain, fitted = apply_plan(model, plan), apply_plan(model, plan, [data[0]])
  assert widths(plain) == widths(fitted) == [3] * 3
  assert plain.get_layer('q').units == 2 * 3
  before, after = plain.get_layer('norm2').gamma.numpy(), fitted.get_layer('norm2').gamma.numpy()
  assert np.abs(before - after).max() > 1e-3
  # The weights have the same shapes, but there are as many heads as channels of one.
  with pytest.raises(UserError, match=r'has 4 channels of layer . .* where this network has 6'):
    apply_plan(vit(heads=6, width=2), plan)
  # Channels inside of a layer can be named by their part.
  model = vit(layer)
  graph = ChannelGraph(model, heads='whole')
  cuts = channel_cuts(graph, {('mha', 'heads'): [0, 2, 3]})
  plan = CutPlan('x', None, 'vit', structure(model), cuts, heads='whole')
  assert apply_plan(model, plan).get_layer('mha').get_config()['num_heads'] == 3


def test_norms_and_heads_stay_whole_unless_asked(data, make):
  learner = make('filter-pruned', helper=helper_of(vit(layer), data), trunk='couple')
  graph = learner.graph(vit(layer))
  names = [unit.name for unit in learner.units(graph).units]
  assert names == ['mha.key', 'mha.value', 'wide']
  assert isinstance(graph, ChannelGraph)
