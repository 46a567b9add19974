"""Units of channels that layers make, and criteria on them."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from networks import (
  bottleneck_net,
  branched_net,
  depthwise_net,
  randomize,
  residual_net,
  split_net,
)

from secateurs.learners.channels.criteria.data_criteria import Samples
from secateurs.learners.channels.criteria.judged import (
  batches_of_all,
  makers,
  rank_stability,
  require_answer,
  unit_keys,
)
from secateurs.learners.channels.criteria.ranking import best
from secateurs.learners.channels.criteria.registry import CRITERIA, of_filters, unit_scores
from secateurs.learners.channels.cuts.cutting import RowMasks, keep_of, macs_form, plan_of
from secateurs.learners.channels.cuts.filter_units import FILTER_TRUNKS, filter_units
from secateurs.learners.channels.cuts.units import find_units
from secateurs.utils.errors import UserError
from secateurs.utils.graph import ChannelGraph, masked, plan_cost, slice_model
from secateurs.utils.graph.choice.taps import OUTPUT, made_by
from secateurs.utils.training import distributed
from secateurs.utils.training.tasks.classification import Classification

L = keras.layers


def dense_net():
  x = inputs = L.Input((12,))
  for width in (10, 8):
    x = L.Dense(width, activation='relu', name=f'fc{width}')(x)
  return keras.Model(inputs, L.Dense(4, name='logits')(x))


def sequence_net():
  x = inputs = L.Input((16, 3))
  x = L.BatchNormalization()(L.Conv1D(8, 3, name='c1')(x))
  x = L.Conv1D(6, 3, activation='relu', name='c2')(L.ReLU()(x))
  return keras.Model(inputs, L.Dense(4, name='logits')(L.GlobalAveragePooling1D()(x)))


def transposed_net():
  x = inputs = L.Input((8, 8, 3))
  x = L.Conv2D(8, 3, strides=2, padding='same', activation='relu', name='down')(x)
  x = L.Conv2DTranspose(6, 3, strides=2, padding='same', activation='relu', name='up')(x)
  x = L.Conv2D(8, 3, padding='same', activation='relu', name='last')(x)
  return keras.Model(inputs, L.Dense(4, name='logits')(L.GlobalAveragePooling2D()(x)))


def two_trunks_net():
  inputs, trunks = L.Input((6, 6, 3)), []
  for name, width in (('one', 6), ('two', 8)):
    x = L.Conv2D(width, 3, padding='same', name=f'{name}_stem')(inputs)
    y = L.Conv2D(width, 3, padding='same', activation='relu', name=f'{name}_conv1')(x)
    trunks.append(L.Add()([x, L.Conv2D(width, 3, padding='same', name=f'{name}_conv2')(y)]))
  x = L.Conv2D(5, 3, activation='relu', name='both')(L.Concatenate()(trunks))
  return keras.Model(inputs, L.Dense(4, name='logits')(L.GlobalAveragePooling2D()(x)))


@pytest.mark.parametrize('find', [find_units, filter_units])
def test_a_layer_that_reads_two_trunks_chooses_once(find):
  graph = ChannelGraph(two_trunks_net())
  units = find(graph, 'gather').units
  keys = [unit.key for unit in units]
  assert keys.count(('both', 'input')) == 1
  form, whole = macs_form(graph, units), np.zeros(len(units), int)
  for number, unit in enumerate(units):
    masks = [np.arange(one.size) < one.size - (one is unit) for one in units]
    whole[number] = 1
    assert form(whole) == plan_cost(plan_of(graph, units, masks))[0] < graph.counts().macs
    whole[number] = 0
  assert find(graph, 'gather', ['both']).left.count('both: named by --cp_skip') <= 1


NETS = {
  'dense': (dense_net, 'keep', ['fc10', 'fc8']),
  'sequence': (sequence_net, 'keep', ['c1', 'c2']),
  'transposed': (transposed_net, 'keep', ['down', 'up', 'last']),
  'depthwise': (depthwise_net, 'keep', ['pw0', 'pw1', 'pw2']),
  'residual': (residual_net, 'couple', None),
  'gathered': (residual_net, 'gather', None),
  'bottleneck': (bottleneck_net, 'follow', None),
  'branched': (branched_net, 'keep', ['stem', 'a', 'b', 'join']),
  'split': (split_net, 'keep', ['stem', 'conv0', 'conv1']),
}


def inputs_of(model, nb=12):
  rng = np.random.default_rng(1)
  return rng.normal(size=(nb, *model.input_shape[1:])).astype(np.float32)


def samples_of(graph, units, **options):
  x = inputs_of(graph.model)
  labels = np.arange(len(x)).astype(np.int32) % 4
  batches = [(x[:6], labels[:6]), (x[6:], labels[6:])]
  return Samples(batches, Classification(4).loss, OUTPUT, makers(graph, units), **options)


@pytest.mark.parametrize('name', NETS)
def test_what_is_masked_is_what_is_sliced(name):
  make, trunk, expected = NETS[name]
  model = randomize(make())
  graph = ChannelGraph(model)
  units = filter_units(graph, trunk).units
  if expected is not None:
    assert [unit.name for unit in units] == expected
  keys, _ = unit_keys(
    'l1', graph, units, samples_of(graph, units), order='best', normalization='mean'
  )
  kept = {unit.name: best(keys[unit.name], max(unit.size // 2, 1)) for unit in units}
  x = inputs_of(model)
  with masked(plan_of(graph, units, list(kept.values()))):
    expected = model(x).numpy()
  masks = RowMasks(model, graph, units)
  masks.keep(kept)
  np.testing.assert_allclose(model(x).numpy(), expected, atol=1e-5)
  lists = {unit: np.flatnonzero(mask) for unit, mask in kept.items()}
  slim = slice_model(ChannelGraph(model), keep_of(units, lists))
  np.testing.assert_allclose(slim(x).numpy(), expected, atol=1e-4)
  assert slim.count_params() < model.count_params()


def test_units_whose_readers_cannot_be_refit():
  graph = ChannelGraph(transposed_net())
  units = {unit.name: unit for unit in filter_units(graph, 'keep').units}
  assert units['down'].readers == ()  # The transposed convolution reads it.
  assert units['up'].readers == ('last',)
  assert filter_units(graph, 'keep', ['u*']).left == ['up: named by --fp_skip']


@pytest.mark.parametrize('criterion', of_filters())
@pytest.mark.parametrize('name', ['residual', 'depthwise'])
def test_every_criterion_scores_every_unit(name, criterion):
  make, trunk, _ = NETS[name]
  graph = ChannelGraph(randomize(make()))
  units = filter_units(graph, trunk).units
  scores = unit_scores(criterion, graph, units, samples_of(graph, units))
  assert list(scores) == [unit.name for unit in units]
  for unit in units:
    assert scores[unit.name].shape == (unit.size,)
    assert np.isfinite(scores[unit.name]).all()
  again = unit_scores(criterion, graph, units, samples_of(graph, units))
  for unit in units:
    np.testing.assert_array_equal(again[unit.name], scores[unit.name])


def test_taylor_is_what_gates_would_say():
  """(sum of g * w)^2 of conv and BN: the derivatives by a factor of the filter and one of its BN."""
  model = randomize(depthwise_net())
  graph = ChannelGraph(model)
  units = filter_units(graph, 'keep').units
  given = samples_of(graph, units)
  found = unit_scores('taylor', graph, units, given)['pw1']
  layers = {layer.name: layer for layer in model.layers}
  conv = layers['pw1']
  norm = model.layers[model.layers.index(conv) + 1]
  assert isinstance(norm, L.BatchNormalization)
  total = np.zeros(len(found))
  for x, y in given.batches:
    for channel in range(len(found)):
      step, losses = 1e-2, []
      for sign in (1, -1):
        old = [w.numpy() for w in (conv.kernel, norm.gamma, norm.beta)]
        for w in (conv.kernel, norm.gamma, norm.beta):
          value = w.numpy()
          value[..., channel] *= 1 + sign * step
          w.assign(value)
        losses.append(float(given.loss(y, model(x))))
        for w, value in zip((conv.kernel, norm.gamma, norm.beta), old):
          w.assign(value)
      total[channel] += ((losses[0] - losses[1]) / (2 * step)) ** 2 / 2
  np.testing.assert_allclose(found, total, rtol=0.05, atol=1e-5)


def test_scales_of_normalisations_have_one_threshold():
  """Liu et al. 2017: all |gamma| of the network are sorted together."""
  model = randomize(residual_net())
  graph = ChannelGraph(model)
  units = filter_units(graph, 'couple').units
  norms = [layer for layer in model.layers if isinstance(layer, L.BatchNormalization)]
  norms[1].gamma.assign(norms[1].gamma * 0.01)  # After b0_conv1.
  keys, stays = unit_keys(
    'bn_gamma',
    graph,
    units,
    samples_of(graph, units),
    order='best',
    normalization='source',
  )
  found = {name: np.where(stays[name], np.nan, one) for name, one in keys.items()}
  trunk = np.mean([np.abs(norms[i].gamma.numpy()) for i in (0, 2, 4, 6)], axis=0)
  expected = [trunk, *(np.abs(norms[i].gamma.numpy()) for i in (1, 3, 5))]
  for scores, scales in zip(found.values(), expected, strict=True):
    np.testing.assert_allclose(scores[~np.isnan(scores)], scales[~np.isnan(scores)], rtol=1e-6)


def joined_net():
  inputs = L.Input((8, 8, 3))
  whole, *halves = (L.Conv2D(n, 3, name=f'of_{n}_{i}')(inputs) for i, n in enumerate((8, 4, 4)))
  x = L.ReLU()(L.Add()([whole, L.Concatenate()(halves)]))
  x = L.Conv2D(8, 3, activation='relu', name='next')(x)
  return keras.Model(inputs, L.Dense(4, name='logits')(L.GlobalAveragePooling2D()(x)))


@pytest.mark.parametrize('criterion', ['taylor', 'lamp'])
def test_units_that_unlike_layers_make_are_comparable_with_others(criterion):
  model = randomize(joined_net())
  graph = ChannelGraph(model)
  units = filter_units(graph, 'couple').units
  joined, other = unit_scores(criterion, graph, units, samples_of(graph, units)).values()
  by_layer = CRITERIA[criterion].score(graph, samples_of(graph, units))
  layers = [model.get_layer(name) for name in ('of_8_0', 'of_4_1', 'of_4_2', 'next')]
  found = [by_layer(one) if callable(by_layer) else by_layer[one.name] for one in layers]
  assert joined.mean() == pytest.approx(sum(map(sum, found[:3])) / 8, rel=0.3)
  np.testing.assert_allclose(other, found[3])


@pytest.mark.parametrize('criterion', ['rank', 'apoz', 'entropy', 'taylor', 'taylor_fo'])
def test_scores_of_maps_that_are_no_numbers_are_refused(criterion):
  inputs = L.Input((8, 8, 3))
  x = L.LeakyReLU()(L.Conv2D(5, 3)(inputs))  # A fused ReLU may make zero of NaN.
  model = randomize(keras.Model(inputs, L.Dense(4)(L.GlobalAveragePooling2D()(x))))
  graph = ChannelGraph(model)
  units = filter_units(graph, 'keep').units
  given = samples_of(graph, units)
  given.batches[1][0][0, 0, 0, 0] = np.nan  # One value of one image.
  with pytest.raises(UserError, match='not finite numbers: check the'):
    unit_scores(criterion, graph, units, given)


@pytest.mark.parametrize('frozen', [('pw1',), ('pw1', 'pw1_bn'), ('pw0', 'pw0_bn', 'dw1')])
def test_freezing_layers_does_not_change_taylor_scores(frozen):
  model = randomize(depthwise_net())
  layers = {layer.name: layer for layer in model.layers}
  for name in ('pw0', 'pw1'):
    layers[f'{name}_bn'] = model.layers[model.layers.index(layers[name]) + 1]
  graph = ChannelGraph(model)
  units = filter_units(graph, 'keep').units
  given = samples_of(graph, units)
  expected = unit_scores('taylor', graph, units, given)
  for name in frozen:
    layers[name].trainable = False
  found = unit_scores('taylor', graph, units, given)
  for unit in units:
    np.testing.assert_allclose(found[unit.name], expected[unit.name], rtol=1e-4)


@pytest.mark.parametrize('merge', ['concat', 'sum'])
def test_units_of_two_directions_have_taylor_scores_of_signed_products(merge):
  inputs = L.Input((5, 3))
  both = L.Bidirectional(L.LSTM(4), merge_mode=merge, name='both')
  model = randomize(keras.Model(inputs, L.Dense(4, name='logits')(both(inputs))))
  graph = ChannelGraph(model)
  units = filter_units(graph, 'keep').units
  rng = np.random.default_rng(0)
  x, y = rng.normal(size=(6, 5, 3)).astype(np.float32), rng.integers(0, 4, 6)
  loss = Classification(4).loss
  samples = Samples([(x, y)], loss, OUTPUT, makers(graph, units))
  cells = [one.cell for one in (both.forward_layer, both.backward_layer)]
  kernels = [kernel for cell in cells for kernel in (cell.kernel, cell.recurrent_kernel)]
  with tf.GradientTape() as tape:
    value = loss(tf.constant(y), model(x))
  products = [
    (g * w).numpy().reshape(-1, 4).sum(axis=0)
    for g, w in zip(tape.gradient(value, kernels), kernels, strict=True)
  ]
  forward, backward = sum(products[:2]), sum(products[2:])
  expected = forward**2 + backward**2 if merge == 'concat' else (forward + backward) ** 2
  found = unit_scores('taylor', graph, units, samples)['both']
  np.testing.assert_allclose(found, expected, rtol=1e-3)


def test_ranks_are_those_of_single_maps_and_how_stable_they_are():
  model = randomize(residual_net())
  graph = ChannelGraph(model)
  units = filter_units(graph, 'keep').units
  given = samples_of(graph, units)
  found = unit_scores('rank', graph, units, given)
  name = units[0].name
  end = made_by(graph.traced.flat, name)
  assert isinstance(model.get_layer(end), L.ReLU)
  maps = keras.Model(model.input, model.get_layer(end).output)(inputs_of(model)).numpy()
  slow = [[np.linalg.matrix_rank(one[..., c]) for one in maps] for c in range(12)]
  np.testing.assert_allclose(found[name], np.mean(slow, axis=1))
  report = rank_stability(given.found['rank'])
  row = report['rank_stability'][name]
  halves = np.array(slow)[:, :6].mean(axis=1), np.array(slow)[:, 6:].mean(axis=1)
  assert row['mean_rank'] == pytest.approx(np.mean(slow))
  assert row['spread_over_batches'] == pytest.approx(np.std(halves, axis=0).mean())
  ys = [y for _, y in report['rank_by_channel'][name]]
  assert ys == sorted(ys)
  one = rank_stability({'x': np.ones((1, 3))})
  assert one['rank_stability']['x']['correlation_of_halves'] is None


def test_ranks_of_all_processes_are_in_the_order_of_the_stream(monkeypatch):
  ranks = np.arange(15.0).reshape(5, 3)
  dealt = [{'x': ranks[place::2]} for place in range(2)]
  monkeypatch.setattr(distributed, 'gather_objects', lambda value: dealt)
  np.testing.assert_array_equal(batches_of_all(dealt[0])['x'], ranks)


def test_the_shortcut_alone_ranks_a_trunk():
  model = randomize(bottleneck_net())
  graph = ChannelGraph(model)
  units = filter_units(graph, 'follow').units
  trunk = next(unit for unit in units if unit.size == 16 and unit.name in ('expand', 'shortcut'))
  for criterion in ('l1', 'apoz'):
    scores = {}
    for follow in ((), ('shortcut',), ('expand',)):
      given = samples_of(graph, units, additions=not follow)
      scores[follow] = unit_scores(criterion, graph, units, given, follow)[trunk.name]
    assert not np.allclose(scores[('shortcut',)], scores[('expand',)])
    if criterion == 'l1':
      kernel = np.abs(model.get_layer('shortcut').kernel.numpy())
      np.testing.assert_allclose(scores[('shortcut',)], kernel.sum(axis=(0, 1, 2)), rtol=1e-6)


def test_criteria_that_cannot_answer_name_one_that_can():
  graph = ChannelGraph(dense_net())
  units = filter_units(graph, 'keep').units
  for criterion in ('rank', 'bn_gamma'):
    needs = CRITERIA[criterion].needs
    with pytest.raises(UserError, match=f'{criterion} needs {needs}.*such as l1'):
      require_answer(criterion, graph, units, 'fp_criterion')
  require_answer('fpgm', graph, units, 'fp_criterion')
  require_answer('taylor', graph, units, 'fp_criterion')


def test_protected_and_gone_channels_keep_their_fate():
  model = randomize(branched_net())
  graph = ChannelGraph(model)
  units = filter_units(graph, 'keep').units
  kept = {units[0].name: [0, 1, 2]}
  keys, stays = unit_keys(
    'l2',
    graph,
    units,
    samples_of(graph, units),
    order='reverse',
    normalization='source',
    kept=kept,
  )
  chosen = best(keys[units[0].name], 2)
  assert set(np.flatnonzero(chosen)) < {0, 1, 2}
  assert all(stay.sum() == 1 for stay in stays.values())
  assert FILTER_TRUNKS == ('keep', 'couple', 'gather', 'follow')
