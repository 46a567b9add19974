import json
import sys

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from secateurs.learners import channel_pruned, get_learner
from secateurs.learners.channel_pruned import CpConfig
from secateurs.learners.channels.allocation import Allocation, levels
from secateurs.learners.channels.cutting import dropped_inputs, keep_of, macs_form, plan_of
from secateurs.learners.channels.ratios import nb_kept, read_ratios
from secateurs.learners.channels.reconstruct import Method, prune, statistics
from secateurs.learners.channels.refits import LayerRefits
from secateurs.learners.channels.reward import Reward
from secateurs.learners.channels.sensitivity import losses_of, numbers_kept, unit_parts
from secateurs.learners.channels.units import find_units
from secateurs.learners.run import divergence
from secateurs.learners.run.configs import RunConfig, TrainConfig
from secateurs.learners.run.judging import Judge
from secateurs.nets.model_helper import ModelHelper
from secateurs.nets.resnet import cifar_resnet
from secateurs.utils.errors import UserError
from secateurs.utils.graph import ChannelGraph, apply_plan, count, plan_cost, plan_slice
from secateurs.utils.training.layerwise.features import Features, patches
from secateurs.utils.training.layerwise.linear import kernel_matrix

L = keras.layers
RNG = np.random.default_rng(0)


def randomize(model, seed=0):
  """Weights whose every part shows in the output."""
  rng = np.random.default_rng(seed)
  for weight in model.weights:
    shape = tuple(weight.shape)
    if 'variance' in weight.name or 'gamma' in weight.name:
      weight.assign(rng.uniform(0.5, 1.5, shape))
    elif 'kernel' in weight.name:
      weight.assign(rng.normal(size=shape) * (2.0 / max(np.prod(shape[:-1]), 1)) ** 0.5)
    else:
      weight.assign(rng.normal(size=shape) * 0.3)
  return model


def macs_of(graph, units, counts):
  """By planning the whole network, not in closed form."""
  masks = [np.arange(unit.size) < count for unit, count in zip(units, counts)]
  return plan_cost(plan_of(graph, units, masks))[0]


def twin(model):
  copy = keras.models.clone_model(model)
  copy.set_weights(model.get_weights())
  return copy


def residual_net():
  x = inputs = L.Input((8, 8, 3))
  x = L.ReLU()(L.BatchNormalization()(L.Conv2D(8, 3, padding='same', use_bias=False)(x)))
  for block in range(3):
    y = L.Conv2D(12, 3, padding='same', use_bias=False, name=f'b{block}_conv1')(x)
    y = L.ReLU()(L.BatchNormalization()(y))
    y = L.Conv2D(8, 3, padding='same', use_bias=False, name=f'b{block}_conv2')(y)
    y = L.BatchNormalization(name=f'b{block}_bn2')(y)
    x = L.ReLU()(L.Add(name=f'b{block}_add')([y, x]))
  x = L.Dense(4, name='logits')(L.GlobalAveragePooling2D()(x))
  return keras.Model(inputs, x)


def bottleneck_net():
  x = inputs = L.Input((8, 8, 3))
  x = L.Conv2D(16, 3, padding='same', name='stem', activation='relu')(x)
  y = L.Conv2D(8, 1, name='reduce', activation='relu')(x)
  y = L.Conv2D(8, 3, strides=2, padding='same', name='middle', activation='relu')(y)
  y = L.Conv2D(16, 1, name='expand')(y)
  x = L.Conv2D(16, 1, strides=2, name='shortcut')(x)
  x = L.ReLU()(L.Add()([x, y]))
  return keras.Model(inputs, L.Dense(4, name='logits')(L.GlobalAveragePooling2D()(x)))


def depthwise_net():
  x = inputs = L.Input((8, 8, 3))
  for i, filters in enumerate((8, 12, 16)):
    if i:
      x = L.DepthwiseConv2D(3, padding='same', use_bias=False, name=f'dw{i}')(x)
      x = L.ReLU()(L.BatchNormalization()(x))
    x = L.Conv2D(filters, 1 if i else 3, padding='same', use_bias=False, name=f'pw{i}')(x)
    x = L.ReLU()(L.BatchNormalization()(x))
  return keras.Model(inputs, L.Dense(4, name='logits')(L.GlobalAveragePooling2D()(x)))


def plain_net():
  x = inputs = L.Input((8, 8, 3))
  for i, filters in enumerate((8, 8, 12)):
    x = L.Conv2D(filters, 3, padding='same' if i else 'valid', activation='relu', name=f'c{i}')(x)
  x = L.MaxPooling2D(2)(x)
  x = L.Dense(16, activation='relu', name='fc')(L.Flatten()(x))
  return keras.Model(inputs, L.Dense(4, name='logits')(x))


def branched_net():
  x = inputs = L.Input((8, 8, 3))
  x = L.Conv2D(10, 3, padding='same', activation='relu', name='stem')(x)
  a = L.Conv2D(6, 1, activation='relu', name='a')(x)
  b = L.Conv2D(8, 3, padding='same', dilation_rate=2, activation='relu', name='b')(x)
  x = L.Concatenate()([a, x, b])
  x = L.Conv2D(8, 3, padding='same', activation='relu', name='join')(x)
  return keras.Model(inputs, L.Dense(4, name='logits')(L.GlobalAveragePooling2D()(x)))


NETS = {
  f.__name__: f for f in (residual_net, bottleneck_net, depthwise_net, plain_net, branched_net)
}


def images(nb_batches=2, seed=3, size=8):
  rng = np.random.default_rng(seed)
  return [rng.normal(size=(24, size, size, 3)).astype(np.float32) for _ in range(nb_batches)]


def pruned(build, trunk='keep', ratio=0.5, **method):
  model = randomize(build())
  working = twin(model)
  units = find_units(ChannelGraph(model), trunk).units
  counts = {unit.name: nb_kept(unit.size, ratio, False) for unit in units}
  options = {'selection': 'backward', 'refit_all': True, 'nb_points': 20} | method
  kept, records = prune(model, working, units, counts, images(8), Method(**options))
  return model, working, units, kept, records


@pytest.mark.parametrize('name', NETS)
@pytest.mark.parametrize('trunk', ['keep', 'couple', 'gather'])
def test_slim_is_masked(name, trunk):
  model, working, units, kept, _ = pruned(NETS[name], trunk)
  graph = ChannelGraph(working)
  keep = keep_of(units, {n: np.flatnonzero(mask) for n, mask in kept.items()})
  slim = apply_plan(plan_slice(graph, keep))
  found, expected = (m(images(1)[0], training=False).numpy() for m in (slim, working))
  assert np.abs(found - expected).max() <= 1e-4 * np.ptp(expected)
  counted = count(slim).macs
  gone = [int((~kept[unit.name]).sum()) for unit in units]
  assert counted == macs_form(graph, units)(gone)
  assert counted < count(model).macs
  dropped = dropped_inputs(units, kept)
  assert dropped
  for layer, gone in dropped.items():
    assert not kernel_rows(working, layer, gone).any(), layer


def kernel_rows(model, layer, channels):
  kernel = model.get_layer(layer).kernel.numpy()
  owner = np.arange(kernel.shape[-2]) % len(channels)
  return kernel[..., channels[owner], :]


@pytest.mark.parametrize('name', NETS)
def test_refit_lowers_the_error_of_the_network(name):
  errors = {}
  for refit in (True, False):
    model, working, _, _, records = pruned(
      NETS[name], selection='magnitude', refit=refit, refit_all=refit
    )
    wanted, found = (m(images(2, seed=9)[0], training=False).numpy() for m in (model, working))
    errors[refit] = float(np.square(found - wanted).mean())
  assert errors[True] < errors[False]
  assert all(0 <= r.get('error_after', 0) <= r['error_before'] + 1e-9 for r in records)


def test_nothing_changes_at_ratio_one():
  model, working, _, _, records = pruned(residual_net, ratio=1.0)
  for a, b in zip(model.get_weights(), working.get_weights(), strict=True):
    np.testing.assert_allclose(a, b, atol=0.02)
  assert all(r['error_after'] < 1e-4 for r in records)


@pytest.mark.parametrize('name', ['b1', 'b2'])
def test_residual_compensation_lowers_the_error_behind_the_addition(name, monkeypatch):
  model = randomize(residual_net())
  errors = {}
  for compensate in (True, False):
    working = twin(model)
    units = find_units(ChannelGraph(model), 'keep').units
    counts = {unit.name: 4 for unit in units}
    first = [unit for unit in units if unit.name < f'{name}_conv2']
    last = [unit for unit in units if unit.name == f'{name}_conv2']
    prune(model, working, first, counts, images(4), Method(refit_all=False))
    with monkeypatch.context() as patch:
      if not compensate:
        patch.setattr(Features, '_lost', lambda self, target: None)
      prune(model, working, last, counts, images(8), Method(refit_all=False, nb_points=40))
    outs = [
      keras.Model(m.input, m.get_layer(f'{name}_add').output)(images(1, seed=9)[0]).numpy()
      for m in (model, working)
    ]
    errors[compensate] = float(np.square(outs[0] - outs[1]).mean())
  assert errors[True] < 0.99 * errors[False]


@pytest.mark.parametrize(
  'options',
  [
    {'kernel_size': 3, 'padding': 'same'},
    {'kernel_size': 3, 'padding': 'same', 'strides': 2},
    {'kernel_size': (1, 4), 'padding': 'same', 'strides': (1, 3)},
    {'kernel_size': 3, 'padding': 'valid', 'dilation_rate': 2},
    {'kernel_size': 3, 'padding': 'same', 'dilation_rate': 3},
    {'kernel_size': 1, 'strides': 2},
  ],
)
def test_patches_times_kernel_is_the_convolution(options):
  layer = L.Conv2D(5, use_bias=False, **options)
  maps = np.random.default_rng(0).normal(size=(2, 9, 11, 3)).astype(np.float32)
  expected = layer(maps).numpy()
  points = tuple(i.ravel() for i in np.indices(expected.shape[:3]))
  found = patches(maps, layer, points) @ kernel_matrix(layer)
  np.testing.assert_allclose(found.reshape(expected.shape), expected, atol=1e-5)


def test_the_target_is_what_the_original_gives_behind_other_normalisation():
  """With changed BN in the pruned network, an exact refit still gives the original's sum."""
  model = randomize(residual_net())
  working = twin(model)
  for layer in working.layers:
    if isinstance(layer, L.BatchNormalization):
      layer.gamma.assign(layer.gamma * 1.3)
      layer.moving_mean.assign_add(tf.ones_like(layer.moving_mean) * 0.2)
  units = find_units(ChannelGraph(model), 'keep').units
  counts = {unit.name: unit.size for unit in units}
  before = [m(images(1)[0], training=False).numpy() for m in (model, working)]
  prune(model, working, units, counts, images(4), Method(nb_points=30, refit_all=True, ridge=1e-9))
  after = working(images(1)[0], training=False).numpy()
  assert np.square(after - before[0]).mean() < 0.05 * np.square(before[1] - before[0]).mean()


def test_choices_made_elsewhere_are_kept_and_refit():
  model = randomize(residual_net())
  units = find_units(ChannelGraph(model), 'keep').units
  given = {unit.name: RNG.permutation(unit.size) < unit.size // 2 for unit in units}
  errors = {}
  for refit in (False, True):
    working = twin(model)
    method = Method(refit=refit, refit_all=refit)
    kept, records = prune(model, working, units, {}, images(8), method, given=given)
    for unit in units:
      np.testing.assert_array_equal(kept[unit.name], given[unit.name])
    for name, gone in dropped_inputs(units, given).items():
      assert not working.get_layer(name).kernel.numpy()[..., gone, :].any()
    assert {record['name'] for record in records} >= {n for unit in units for n in unit.readers}
    batch = images(1)[0]
    errors[refit] = float(np.square(working(batch) - model(batch)).mean())
  assert errors[True] < 0.5 * errors[False]


def test_units_of_resnet20():
  graph = ChannelGraph(cifar_resnet(20))
  keep = find_units(graph, 'keep')
  assert [unit.size for unit in keep.units] == [16] * 3 + [32] * 3 + [64] * 3
  assert all(unit.name.endswith('conv2') for unit in keep.units)
  assert len(keep.left) == 3
  couple = find_units(graph, 'couple').units
  assert len(couple) == 12
  assert max(len(unit.readers) for unit in couple) == 5
  gather = find_units(graph, 'gather').units
  assert len(gather) == 9 + 9 + 2
  half = [unit.size // 2 for unit in keep.units]
  assert macs_of(graph, keep.units, half) / graph.counts().macs == pytest.approx(0.5086, abs=1e-3)


def test_skipping():
  graph = ChannelGraph(cifar_resnet(20))
  found = find_units(graph, 'keep', ['stage1_*', 'stage3_block1_conv1'])
  assert [unit.name for unit in found.units] == [
    *(f'stage2_block{i}_conv2' for i in (1, 2, 3)),
    *(f'stage3_block{i}_conv2' for i in (2, 3)),
  ]
  assert sum('named by --cp_skip' in text for text in found.left) == 4
  with pytest.raises(UserError, match=r"--cp_skip names 'stage4_.'"):
    find_units(graph, 'keep', ['stage4_*'])


def test_protected_and_odd_layers_stay_whole():
  x = inputs = L.Input((8, 8, 3))
  x = L.Conv2D(8, 3, name='a')(x)
  x = L.Conv2D(8, 3, groups=2, name='grouped')(x)
  shared = L.Conv2D(8, 3, padding='same', name='shared')
  x = shared(shared(x))
  x = L.Conv2D(4, 1, name='last')(x)
  found = find_units(ChannelGraph(keras.Model(inputs, x)), 'couple')
  assert not {'grouped', 'shared'} & {name for unit in found.units for name in unit.readers}
  assert found.left


@pytest.mark.parametrize(
  ('size', 'ratio', 'quadruple', 'expected'),
  [(16, 0.5, False, 8), (16, 0, False, 1), (16, 1, False, 16), (15, 0.5, False, 8)]
  + [(16, 0.3, True, 8), (16, 0.01, True, 4), (3, 0.5, True, 3), (18, 0.95, True, 18)],
)
def test_nb_kept(size, ratio, quadruple, expected):
  assert nb_kept(size, ratio, quadruple) == expected


def test_ratio_lists(tmp_path):
  units = find_units(ChannelGraph(cifar_resnet(20)), 'keep').units
  path = tmp_path / 'ratio.list'
  path.write_text('0.1, 0.2 0.3  # stage 1\n0.4\n0.5\n\n0.6\n0.7\n1\n0\n')
  assert read_ratios(str(path), units, 'cp_prune_list_file') == [
    0.1,
    0.2,
    0.3,
    0.4,
    0.5,
    0.6,
    0.7,
    1.0,
    0.0,
  ]
  for text, error in [
    ('0.5\n' * 8, 'holds 8 ratios, but 9 were expected, one for the inputs of each of: stage1'),
    ('1.5\n' * 9, r"takes numbers in \[0, 1\], but '1.5'"),
    ('half\n' * 9, "but 'half' stands in it"),
  ]:
    path.write_text(text)
    with pytest.raises(UserError, match=error):
      read_ratios(str(path), units, 'cp_prune_list_file')
  with pytest.raises(UserError, match='cannot be read'):
    read_ratios(str(tmp_path / 'none'), units, 'cp_prune_list_file')


# The learner.


def learn(make, baseline, folder='run', training=None, **config):
  """A learner whose runs take little time."""
  config = {'compare': False, 'nb_batches': 8} | config
  run = {'warm_start_path': baseline}
  return make('chn-pruned', folder, run=run, training=training, **config)


@pytest.mark.slow
def test_a_run(make, baseline, capsys):
  learner = learn(make, baseline, compare=True)
  report = learner.train().report
  assert 'Pruned, before any training: accuracy' in capsys.readouterr().out
  channels = {r['name']: (r['in_channels'], r['out_channels']) for r in report['layers']}
  assert channels['conv1'] == ([3, 3], [6, 3])
  assert channels['conv2'] == ([6, 3], [16, 8])
  assert channels['dense1'] == ([400, 200], [120, 120])
  assert channels['logits'] == ([84, 84], [10, 10])
  pruned, comparison = report['pruned'], report['extra']['comparison']
  assert set(comparison) == {'magnitude', 'magnitude, refit', 'random', 'random, refit'}
  assert pruned['accuracy'] > comparison['random']['accuracy']
  assert 0 <= pruned['accuracy_bn_reestimated'] <= 1
  assert report['parity']['slim_vs_masked'] <= 1e-4
  assert report['compressed']['macs'] == pruned['macs'] < report['original']['macs']
  assert {r['name']: r['kept'] for r in report['extra']['layers']}['conv2'] == 3
  assert len(report['extra']['kept']['conv2']) == 3
  assert report['requested'] == {'channels_ratio': 0.5}
  assert report['achieved']['channels_ratio'] == 11 / 22


def test_alias():
  assert get_learner('channel') is get_learner('chn-pruned')


@pytest.mark.parametrize(
  'config',
  [
    {'select': 'lasso'},
    {'select': 'lasso', 'scheme': 'alternating'},
    {'lasso': False},
    {'select': 'random', 'refit': False},
    {'quadruple': True},
  ],
)
def test_options(make, baseline, config):
  training = {'nb_epochs_ft': 0.0}
  report = learn(make, baseline, training=training, **config).train().report
  kept = {r['name']: r['in_channels'][1] for r in report['layers']}
  assert kept['conv2'] == (4 if config.get('quadruple') else 3)
  assert ('error_after' in report['extra']['layers'][0]) == config.get('refit', True)
  assert report['compressed']['accuracy'] == pytest.approx(report['pruned']['accuracy'])


def test_no_network_is_built_to_read_shapes_twice(make, baseline, monkeypatch):
  learner = learn(make, baseline, nb_batches=None)
  calls, build = [], learner.helper.build_model
  monkeypatch.setattr(learner.helper, 'build_model', lambda seed: calls.append(1) or build(seed))
  for _ in range(3):
    assert learner._method().nb_points == 10
    assert learner._nb_batches() == 30
  assert len(calls) == 1


def test_lasso_unset_is_magnitude():
  assert CpConfig(lasso=False).selection == 'magnitude'
  assert CpConfig().selection == 'backward'


@pytest.mark.slow
def test_a_list(make, baseline, tmp_path):
  path = tmp_path / 'ratio.list'
  path.write_text('0.5 0.25')
  config = {'prune_option': 'list', 'prune_list_file': str(path)}
  report = learn(make, baseline, **config).train().report
  kept = {r['name']: r['in_channels'][1] for r in report['layers']}
  assert (kept['conv2'], kept['dense1']) == (3, 4 * 25)
  path.write_text('0.5')
  with pytest.raises(UserError, match='holds 1 ratios, but 2 were expected'):
    learn(make, baseline, 'other', **config).train()


def test_nothing_to_prune(make, baseline):
  with pytest.raises(UserError, match=r'No convolution of lenet has channels that can go \(conv2'):
    learn(make, baseline, skip='conv*').train()


@pytest.mark.slow
def test_group_fine_tuning_goes_on_after_a_kill(make, baseline, monkeypatch):
  config = {'finetune': True, 'list_group': 1, 'lrn_rate_ft': 0.01}
  whole = learn(make, baseline, 'whole', **config)
  expected = whole.train()
  names = [phase['name'] for phase in expected.report['phases']]
  assert {'finetune_group1', 'finetune_group2'} <= set(names)
  killed = learn(make, baseline, 'killed', **config)
  finetune = type(killed)._finetune_group

  def die(self, number, units):
    finetune(self, number, units)
    if number == 1:
      raise KeyboardInterrupt

  with monkeypatch.context() as patch:
    patch.setattr(type(killed), '_finetune_group', die)
    with pytest.raises(KeyboardInterrupt):
      killed.train()
  found = learn(make, baseline, 'killed', **config).train()
  for a, b in zip(expected.model.get_weights(), found.model.get_weights(), strict=True):
    np.testing.assert_array_equal(a, b)


def test_bad_values():
  for options, text in [
    ({'select': 'best'}, '--cp_select takes one of lasso, backward, magnitude, random'),
    ({'uniform_preserve_ratio': 1.2}, r'--cp_uniform_preserve_ratio takes a value in \[0.0, 1.0\]'),
    ({'trunk': 'cut'}, '--cp_trunk takes one of keep, couple, gather'),
    ({'nb_batches': 0}, '--cp_nb_batches takes a value of at least 1'),
  ]:
    with pytest.raises(UserError, match=text):
      CpConfig(**options)


# The search.


def even_losses(units):
  return {unit.name: np.linspace(0, 1, unit.size + 1) ** 2 for unit in units}


@pytest.mark.parametrize('trunk', ['keep', 'couple', 'gather'])
@pytest.mark.parametrize('share', [0.4, 0.6, 0.9])
def test_candidates_meet_the_budget_within_one_channel(trunk, share):
  graph = ChannelGraph(cifar_resnet(20))
  units = find_units(graph, trunk).units
  allocation = Allocation(graph, units)
  prices = allocation.prices(even_losses(units))
  budget = share * graph.counts().macs
  factors = np.random.default_rng(0).uniform(0.4, 2.5, len(units))
  factors = {unit.name: factor for unit, factor in zip(units, factors, strict=True)}
  for counts in (allocation.within(budget, prices, factors), allocation.equal(budget)):
    assert allocation.macs(counts) == macs_of(graph, units, list(counts.values()))
    numbers = [counts[unit.name] for unit in units]
    assert macs_of(graph, units, numbers) <= budget
    for i, unit in enumerate(units):
      if numbers[i] < unit.size:
        more = [n + (j == i) for j, n in enumerate(numbers)]
        assert macs_of(graph, units, more) > budget
  if trunk == 'keep':
    equal = allocation.equal(budget)
    shares = [equal[unit.name] / unit.size for unit in units]
    assert max(shares) - min(shares) < 0.15


def test_a_budget_out_of_reach():
  graph = ChannelGraph(cifar_resnet(20))
  units = find_units(graph, 'keep').units
  allocation = Allocation(graph, units)
  with pytest.raises(ValueError, match=r'At least \d+ MACs stay'):
    allocation.equal(0.01 * graph.counts().macs)


def test_a_share_of_macs_out_of_reach(make, baseline):
  learner = learn(make, baseline, prune_option='auto', preserve_ratio=0.01, nb_smpls_reward=50)
  with pytest.raises(UserError, match=r'--cp_preserve_ratio asks for 0.0100 of the MACs, but at'):
    learner.train()


def test_what_a_search_needs_is_asked_for_before_all_work(make, baseline, monkeypatch, capsys):
  monkeypatch.setitem(sys.modules, 'optuna', None)
  learner = learn(make, baseline, prune_option='auto', nb_rlouts=9)
  with pytest.raises(UserError, match='Searching ratios needs Optuna, which is not installed'):
    learner.train()
  assert 'Baseline' not in capsys.readouterr().out


def test_a_search_that_was_stopped_does_not_measure_again(make, baseline, monkeypatch):
  config = {'prune_option': 'auto', 'preserve_ratio': 0.6, 'nb_rlouts': 2, 'nb_smpls_reward': 50}
  stopped = learn(make, baseline, **config)
  with monkeypatch.context() as patch:
    patch.setattr(channel_pruned, 'search', None)
    with pytest.raises(TypeError):
      stopped.run_phases(until='search')
  with monkeypatch.context() as patch:
    patch.setattr(divergence, 'scan', None)
    again = learn(make, baseline, **config)
    again.run_phases(until='search')
  found = again.state['algorithm']['divergence']
  assert found.keys() == again.state['algorithm']['counts'].keys()


def reward_of(model, units, **method):
  """The reward, its refits, the network that it works on, and the method."""
  working, method = twin(model), Method(nb_points=20, **method)
  readers = statistics(model, working, units, images(4), method)
  judge = Judge(working, images(1)[0], np.zeros(24, np.int32))
  refits = LayerRefits(model, units, readers, method)
  return Reward(working, refits, judge), refits, working, method


@pytest.mark.parametrize('selection', ['random', 'magnitude'])
def test_candidates_are_judged_by_the_method_of_the_run(selection):
  """Without a refit a candidate's network is that of the run."""
  model = randomize(residual_net())
  units = find_units(ChannelGraph(model), 'couple').units
  given = {'selection': selection, 'refit': False, 'seed': 5}
  reward, refits, working, method = reward_of(model, units, **given)
  counts = {unit.name: unit.size // 2 for unit in units}
  reward(counts)
  expected = twin(model)
  kept, _ = prune(model, expected, units, counts, images(4), method)
  for unit in units:
    np.testing.assert_array_equal(refits.keep(unit, counts[unit.name]), kept[unit.name])
  for a, b in zip(working.get_weights(), expected.get_weights(), strict=True):
    np.testing.assert_array_equal(a, b)


def test_candidates_are_chosen_by_the_scheme_of_the_run(monkeypatch):
  model = randomize(plain_net())
  units = find_units(ChannelGraph(model), 'keep').units
  seen = []
  monkeypatch.setattr(
    'secateurs.learners.channels.reconstruct.choose',
    lambda *args, alternating, **kwargs: seen.append(alternating) or np.ones(args[1], bool),
  )
  _, refits, _, _ = reward_of(model, units, selection='lasso', alternating=True)
  refits.keep(units[0], 4)
  assert seen == [True]


@pytest.mark.parametrize('trunk', ['keep', 'couple', 'gather'])
def test_curves_are_those_of_networks_with_one_unit_pruned(trunk):
  """Each point is the divergence that pruning and refitting this unit alone gives."""
  model = randomize(residual_net())
  units = find_units(ChannelGraph(model), trunk).units
  _, refits, working, method = reward_of(model, units, selection='backward')
  given = images(2)[1]
  curves = divergence.scan(working, unit_parts(working, units, refits), given)
  for a, b in zip(working.get_weights(), model.get_weights(), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-6)
  whole = tf.nn.log_softmax(model(given, training=False)).numpy()
  for unit in units:
    pruned = twin(model)
    kept = numbers_kept(unit.size)[2]
    if len(unit.readers) == 1:
      prune(model, pruned, [unit], {unit.name: kept}, images(4), method)
    else:
      refits.apply({layer.name: layer for layer in pruned.layers}, {unit.name: kept})
    now = tf.nn.log_softmax(pruned(given, training=False)).numpy()
    expected = (np.exp(whole) * (whole - now)).sum(axis=-1).mean()
    share, found = curves[unit.name][3]
    assert share == 1 - kept / unit.size
    assert found == pytest.approx(expected, rel=0.05, abs=1e-4)
    assert found > 0
    loss = losses_of(curves, [unit])[unit.name]
    assert loss[0] == 0
    assert (np.diff(loss) >= 0).all()
    assert loss[unit.size - kept] >= found


def test_numbers_that_a_scan_looks_at():
  assert numbers_kept(1) == []
  assert numbers_kept(2) == [1]
  assert numbers_kept(16) == [14, 12, 10, 7, 5, 2, 1]


def test_levels():
  assert levels(5, 1) == [5, 4, 3, 2, 1]
  assert levels(10, 4) == [10, 8, 4]
  assert levels(3, 4) == [3]


@pytest.mark.slow
def test_auto(make, baseline, capsys):
  config = {'prune_option': 'auto', 'preserve_ratio': 0.6, 'nb_rlouts': 6, 'nb_rlouts_min': 2}
  learner = learn(make, baseline, nb_smpls_reward=300, **config)
  report = learner.train().report
  assert report['achieved']['macs_ratio'] <= 0.6
  assert report['requested'] == {'macs_ratio': 0.6}
  found = report['extra']['search']
  assert found['trials'] == 6
  assert report['extra']['divergence'].keys() == found['counts'].keys()
  assert found['counts'] == {name: len(k) for name, k in report['extra']['kept'].items()}
  assert len(learner.save_path.with_name('search.jsonl').read_text().splitlines()) == 6
  assert any('--nb_smpls_val holds others out' in note for note in report['notes'])
  assert json.loads((learner.log_dir / 'report.json').read_text())['extra']['search'] == found


# A target in latency.


def times(monkeypatch, seconds):
  """Lets latency be a function of the number of parameters."""
  monkeypatch.setattr(
    'secateurs.learners.channels.latency.latency_ratio',
    lambda original, model, nb_threads: seconds(model.count_params()),
  )


@pytest.mark.parametrize('option', ['uniform', 'auto'])
def test_a_latency_target_is_met(make, baseline, monkeypatch, option):
  search = {'nb_rlouts': 3, 'nb_rlouts_min': 2, 'nb_smpls_reward': 100}
  learner = learn(make, baseline, prune_option=option, target_latency=0.6, **search)
  whole = learner.helper.build_model(0).count_params()
  times(monkeypatch, lambda params: params / whole)
  report = learner.train().report
  assert report['requested'] == {'latency_ratio': 0.6}
  assert report['extra']['latency']['measured'] == pytest.approx(0.6, rel=0.05)
  assert report['achieved']['params_ratio'] == pytest.approx(0.6, rel=0.05)
  assert report['achieved']['latency_ratio'] > 0
  if option == 'auto':
    found = report['extra']['search']
    assert found['macs'] == report['compressed']['macs']
    assert found['counts'] == {n: len(kept) for n, kept in report['extra']['kept'].items()}


def dead_channel_net():
  """Channels of the middle layer that give a constant whatever comes in, as pruning may leave them."""
  x = inputs = L.Input((32, 32, 3))
  x = L.Conv2D(8, 3, padding='same', activation='relu', name='stem')(x)
  x = L.Conv2D(8, 3, padding='same', activation='relu', name='middle')(x)
  x = L.Conv2D(12, 1, activation='relu', name='expand')(x)
  return keras.Model(inputs, L.Dense(10, name='logits')(L.GlobalAveragePooling2D()(x)))


def test_dead_channels_do_not_upset_the_comparison(helper, tmp_path):
  model = randomize(dead_channel_net())
  kernel, bias = model.get_layer('middle').get_weights()
  kernel[..., :4], bias[:4] = 0, 2.0
  model.get_layer('middle').set_weights([kernel, bias])
  model.save(tmp_path / 'start.keras')
  learner = get_learner('chn-pruned')(
    ModelHelper('dead', dead_channel_net, helper.dataset, helper.recipe),
    CpConfig(nb_batches=4),
    run=RunConfig(run_dir=str(tmp_path), warm_start_path=str(tmp_path / 'start.keras')),
    training=TrainConfig(nb_epochs_ft=0.0),
  )
  learner.run_phases(until='slim')
  assert {'magnitude', 'random'} <= set(learner.state['algorithm']['comparison'])


def test_a_latency_target_out_of_reach(make, baseline, monkeypatch):
  times(monkeypatch, lambda params: 0.8)
  learner = learn(make, baseline, target_latency=0.6)
  with pytest.raises(UserError, match=r'asks for 0.6 of .* latency, but 0.800 stay'):
    learner.train()


def test_a_latency_target_and_a_list():
  with pytest.raises(UserError, match=r'--cp_target_latency chooses how much stays'):
    CpConfig(target_latency=0.5, prune_option='list')
