import itertools
import json

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from secateurs.learners import get_learner
from secateurs.learners.channel_units import find_units
from secateurs.learners.configs import RunConfig, TrainConfig
from secateurs.learners.dis_chn_pruned import DcpConfig, DisChnPrunedLearner, nb_left
from secateurs.learners.discrimination import (
  LayerObjective,
  find_blocks,
  make_branch,
  start_branch,
)
from secateurs.learners.frontier import Frontier, as_half, bytes_per_image
from secateurs.learners.greedy_channels import Greedy, UnitPruning
from secateurs.nets.model_helper import ModelHelper
from secateurs.nets.resnet import cifar_resnet
from secateurs.utils.errors import UserError
from secateurs.utils.graph import ChannelGraph, count
from secateurs.utils.graph.flat.cuts import first_calls
from secateurs.utils.graph.flat.walk import flatten_model
from secateurs.utils.training.loop import DivergenceError

L = keras.layers


def randomize(model, seed=0):
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


def conv(x, filters, size, name, strides=1):
  x = L.Conv2D(filters, size, strides, padding='same', use_bias=False, name=name)(x)
  return L.BatchNormalization(name=f'{name}_bn')(x)


def stem(x, filters):
  return L.MaxPooling2D(2)(L.ReLU()(conv(x, filters, 3, 'stem', 2)))


def logits(x):
  return L.Dense(10, name='logits')(L.GlobalAveragePooling2D()(x))


def residual_net(size=32):
  x = inputs = L.Input((size, size, 3))
  x = stem(x, 8)
  for i in range(3):
    y = L.ReLU()(conv(x, 8, 3, f'b{i}_conv1'))
    x = L.ReLU()(L.Add()([conv(y, 8, 3, f'b{i}_conv2'), x]))
  return keras.Model(inputs, logits(x))


def bottleneck_net(size=32):
  x = inputs = L.Input((size, size, 3))
  x = stem(x, 12)
  for i in range(2):
    y = L.ReLU()(conv(x, 6, 1, f'b{i}_reduce'))
    y = L.ReLU()(conv(y, 6, 3, f'b{i}_middle'))
    x = L.ReLU()(L.Add()([conv(y, 12, 1, f'b{i}_expand'), x]))
  return keras.Model(inputs, logits(x))


def depthwise_net(size=32):
  x = inputs = L.Input((size, size, 3))
  x = stem(x, 8)
  for i, filters in enumerate((12, 12)):
    x = L.DepthwiseConv2D(3, padding='same', use_bias=False, name=f'dw{i}')(x)
    x = L.ReLU()(L.BatchNormalization(name=f'dw{i}_bn')(x))
    x = L.ReLU()(conv(x, filters, 1, f'pw{i}'))
  return keras.Model(inputs, logits(x))


def plain_net(size=32):
  x = inputs = L.Input((size, size, 3))
  for i, filters in enumerate((6, 8, 8)):
    x = L.Conv2D(filters, 3, 2, activation='relu', name=f'c{i}')(x)
  x = L.Dense(12, activation='relu', name='fc')(L.Flatten()(x))
  return keras.Model(inputs, L.Dense(10, name='logits')(x))


NETS = {f.__name__: f for f in (residual_net, bottleneck_net, depthwise_net, plain_net)}


def samples(nb=24, size=32, seed=0):
  rng = np.random.default_rng(seed)
  images = rng.normal(size=(nb, size, size, 3)).astype(np.float32)
  return images, rng.integers(0, 10, nb).astype(np.int32)


# Blocks and branches.


def test_blocks_of_resnet20():
  model = cifar_resnet(20)
  units = find_units(ChannelGraph(model), 'keep').units
  blocks = find_blocks(flatten_model(model), 3, units)
  assert [[unit.name[5:] for unit in block.units] for block in blocks] == [
    ['1_block1_conv2', '1_block2_conv2'],
    ['1_block3_conv2', '2_block1_conv2'],
    ['2_block2_conv2', '2_block3_conv2', '3_block1_conv2'],
    ['3_block2_conv2', '3_block3_conv2'],
  ]
  assert blocks[-1].tensor is None
  assert all(a.end == b.begin for a, b in itertools.pairwise(blocks))


def test_a_branch_starts_from_a_good_classifier():
  rng = np.random.default_rng(0)
  labels = rng.integers(0, 3, 200)
  maps = rng.normal(5, 3, (200, 4, 4, 6)).astype(np.float32)
  maps[np.arange(200), :, :, labels] += 4
  branch = make_branch((None, 4, 4, 6), 5, 'branch', seed=0)
  before = (np.argmax(branch(maps), -1) == labels).mean()
  start_branch(branch, maps, labels)
  found = np.argmax(branch(maps, training=False), -1)
  assert (found == labels).mean() > 0.95 > before
  normed = branch.get_layer('norm')(maps, training=False).numpy()
  np.testing.assert_allclose(normed.mean((0, 1, 2)), 0, atol=1e-2)
  two = make_branch((None, 4, 4, 6), 5, 'two', seed=0)
  start_branch(two, maps[labels < 2], labels[labels < 2])
  found = np.argmax(two(maps[labels < 2], training=False), -1)
  assert (found == labels[labels < 2]).mean() > 0.95
  one = make_branch((None, 4, 4, 6), 5, 'one', seed=0)
  kernel = one.get_layer('logits').kernel.numpy()
  start_branch(one, maps[labels == 0], labels[labels == 0])
  np.testing.assert_array_equal(one.get_layer('logits').kernel, kernel)


def test_a_branch_makes_nothing_of_dead_maps():
  rng = np.random.default_rng(0)
  maps, more = (rng.normal(0, 1e-7, (200, 4, 4, 6)).astype(np.float32) for _ in range(2))
  branch = make_branch((None, 4, 4, 6), 5, 'branch', seed=0)
  start_branch(branch, maps, rng.integers(0, 3, 200))
  # What enters training may vary far more than what the branch was fit to.
  logits = branch(more * 100, training=False).numpy()
  assert np.ptp(logits[:, :3]) < 10


# The moving cut.


@pytest.mark.parametrize('name', NETS)
def test_a_frontier_holds_what_the_network_gives(name):
  model = randomize(NETS[name]())
  flat = flatten_model(model)
  images, _ = samples()
  frontier = Frontier(flat, images)
  probe = keras.Model(model.input, [call.layer.output for call in flat.calls])
  expected = dict(zip((c.outputs[0] for c in flat.calls), probe(images, training=False)))
  for position in range(0, len(flat.calls), 4):
    frontier.advance(position)
    for number, array in frontier.tensors.items():
      if number in expected:
        np.testing.assert_allclose(array, expected[number], atol=2e-2, rtol=2e-2)
    assert sum(a[0].nbytes for a in frontier.tensors.values()) == bytes_per_image(flat, position)
    last = flat.outputs[0]
    found = frontier.peek([last])[last]
    np.testing.assert_allclose(found, expected[last], atol=5e-2, rtol=5e-2)


def test_values_that_float16_cannot_hold_are_kept_in_float32():
  assert as_half(np.array([1.0, 6e4])).dtype == np.float16
  assert as_half(np.array([1.0, 1e5])).dtype == np.float32
  np.testing.assert_array_equal(as_half(np.array([1.0, 1e5])), [1.0, 1e5])


# Scores.


def problem(build, trunk='couple', unit_number=1, method=None):
  """A unit of a network that has drifted from its original, and the loss by way of whole models."""
  original = randomize(build())
  model = randomize(build())
  model.set_weights(
    [a + 0.1 * (b - a) for a, b in zip(original.get_weights(), randomize(build(), 1).get_weights())]
  )
  images, labels = samples()
  flat = flatten_model(model)
  unit = find_units(ChannelGraph(model), trunk).units[unit_number]
  block = next(b for b in find_blocks(flat, 1, [unit]) if b.units)
  inside = block.tensor is not None and all(first_calls(flat)[r] < block.end for r in unit.readers)
  end = block.tensor if inside else flat.outputs[0]
  branch = randomize(make_branch(flat.shapes[end], 10, 'branch', 0)) if inside else None
  outputs = [flat.calls_by_layer()[name][0].outputs[0] for name in unit.readers]
  before, now = Frontier(flatten_model(original), images), Frontier(flat, images)
  for frontier in (before, now):
    frontier.advance(first_calls(flat)[unit.name])
  objective = LayerObjective(
    flat,
    now.position,
    end,
    branch,
    as_tensors(now.tensors),
    as_tensors(before.peek(outputs)),
    labels,
  )
  method = method or Greedy(nb_batches_score=1, batch_size=len(labels))
  pruning = UnitPruning(
    unit, flat.layers(), objective, len(labels), method, dropped={}, phase='test'
  )
  readers = [model.get_layer(name) for name in unit.readers]
  wanted = keras.Model(original.input, [original.get_layer(n).output for n in unit.readers])(images)
  tap = next(c.layer.output for c in flat.calls if end in c.outputs)
  found = keras.Model(model.input, [*(layer.output for layer in readers), tap])

  def loss():
    *ys, z = found(images, training=False)
    total = sum(
      0.5 * float(np.mean(np.square(y.numpy() - t.numpy()), dtype=np.float64))
      for y, t in zip(ys, tf.nest.flatten(wanted))
    )
    z = (z if branch is None else branch(z, training=False)).numpy().astype(np.float64)
    z -= z.max(-1, keepdims=True)
    return total + np.mean(np.log(np.exp(z).sum(-1)) - z[np.arange(len(labels)), labels])

  return unit, pruning, readers, loss


def as_tensors(arrays):
  return {number: tf.constant(array) for number, array in arrays.items()}


@pytest.mark.parametrize(
  ('name', 'trunk', 'number', 'greedy'),
  [
    ('residual_net', 'keep', 0, 'remove'),
    ('residual_net', 'keep', 0, 'add'),
    ('residual_net', 'couple', 0, 'remove'),
    ('bottleneck_net', 'gather', 2, 'remove'),
    ('depthwise_net', 'keep', 0, 'remove'),
    ('plain_net', 'keep', 2, 'remove'),
  ],
)
def test_scores_are_norms_of_finite_differences(name, trunk, number, greedy):
  """By the rows of a channel that is off: with all others on (remove), or off, too (add)."""
  method = Greedy(greedy=greedy, nb_batches_score=32, batch_size=len(samples()[1]))
  unit, pruning, readers, loss = problem(NETS[name], trunk, number, method=method)
  assert unit.size <= method.nb_batches_score
  scores = pruning.scores()
  rng = np.random.default_rng(0)
  for channel in rng.choice(unit.size, 1 if len(readers) > 1 else 2, replace=False):
    total, whole = 0.0, [layer.kernel.numpy() for layer in readers]
    for layer in readers:  # All of them, before any is looked at.
      mine = unit.elements[layer.name] == channel
      layer.kernel.assign(np.where(mine[:, None], 0, layer.kernel.numpy()))
    for layer in readers:
      kernel = layer.kernel.numpy()
      places = np.argwhere(np.ones(kernel.shape, bool))
      places = places[unit.elements[layer.name][places[:, -2]] == channel]
      square = 0.0
      for place in map(tuple, places):
        values = []
        for step in (1e-2, -1e-2):
          changed = kernel.copy()
          changed[place] += step
          layer.kernel.assign(changed)
          values.append(loss())
        square += ((values[0] - values[1]) / 2e-2) ** 2
      layer.kernel.assign(kernel)
      total += np.sqrt(square)
    for layer, kernel in zip(readers, whole):
      layer.kernel.assign(kernel)
    assert scores[channel] == pytest.approx(total, rel=0.05)


def test_channels_that_are_on_are_dealt_to_the_batches_and_stay_as_they_are():
  _, pruning, readers, _ = problem(residual_net, 'keep', 0, method=Greedy(nb_batches_score=3))
  pruning.mask[:3] = False
  pruning._apply()
  before = readers[0].kernel.numpy()
  assert not before[:, :, :3].any()

  scores = pruning.scores()

  np.testing.assert_array_equal(scores > 0, pruning.mask)
  np.testing.assert_array_equal(readers[0].kernel.numpy(), before)


# The greedy choice.


def toy(drift, greedy):
  """Six input channels that do not overlap, of different energies; the branch sees nothing."""
  x = inputs = L.Input((6, 6, 6))
  y = L.Conv2D(4, 1, use_bias=False, name='layer')(L.ReLU(name='maps')(x))
  model = keras.Model(inputs, L.Dense(10, name='logits')(L.GlobalAveragePooling2D()(y)))
  model.get_layer('logits').kernel.assign(tf.zeros((4, 10)))
  rng = np.random.default_rng(1)
  kernel = rng.normal(size=(1, 1, 6, 4))
  kernel /= np.linalg.norm(kernel, axis=-1, keepdims=True)
  model.get_layer('layer').kernel.assign(kernel * drift)
  images = np.zeros((32, 6, 6, 6), np.float32)
  for channel in range(6):
    images[:, channel, :, channel] = rng.uniform(0.5, 1.5, (32, 6)) * (1 + channel * 2 % 7)
  flat = flatten_model(model)
  unit = type('Unit', (), {})()
  unit.name, unit.size, unit.readers = 'layer', 6, ('layer',)
  unit.elements = {'layer': np.arange(6)}
  target = (images @ kernel[0, 0]).astype(np.float32)
  (number,) = [c.outputs[0] for c in flat.calls if c.name == 'layer']
  objective = LayerObjective(
    flat, 0, flat.outputs[0], None, {flat.inputs[0][0]: images}, {number: target}, np.zeros(32, int)
  )
  method = Greedy(greedy=greedy, nb_iters=0, nb_batches_score=1, batch_size=32)
  pruning = UnitPruning(unit, flat.layers(), objective, 32, method, dropped={}, phase='toy')
  return pruning, images, kernel[0, 0], target


@pytest.mark.parametrize(('greedy', 'drift'), [('add', 1.0), ('remove', 0.8)])
@pytest.mark.parametrize('nb_keep', [1, 2, 3, 5])
def test_greedy_is_brute_force_where_channels_do_not_overlap(greedy, drift, nb_keep):
  pruning, images, kernel, target = toy(drift, greedy)
  pruning.run(nb_keep)
  errors = {}
  for kept in itertools.combinations(range(6), nb_keep):
    mask = np.isin(np.arange(6), kept)
    errors[kept] = np.square(images @ (drift * kernel * mask[:, None]) - target).sum()
  assert tuple(np.flatnonzero(pruning.mask)) == min(errors, key=errors.get)


@pytest.mark.parametrize('greedy', ['remove', 'add'])
def test_training_between_steps_lowers_the_loss_and_keeps_the_mask(greedy):
  options = {'greedy': greedy, 'per_step': 3, 'batch_size': 24, 'lrn_rate': 1e-2}
  losses = {}
  for nb_iters in (0, 40):
    _, pruning, readers, loss = problem(
      residual_net, 'keep', 1, Greedy(**options, nb_iters=nb_iters, nb_batches_score=1)
    )
    pruning.run(4)
    losses[nb_iters] = loss()
    assert pruning.mask.sum() == 4
    assert not readers[0].kernel.numpy()[:, :, ~pruning.mask].any()
    assert readers[0].kernel.numpy()[:, :, pruning.mask].all()
  assert losses[40] < losses[0]
  assert set(pruning.means) == {'loss', 'loss_reconstruction', 'loss_discrimination'}


@pytest.mark.parametrize(
  ('size', 'ratio', 'left'),
  [(16, 0.5, 8), (16, 0.75, 4), (15, 0.5, 8), (10, 0.7, 3), (16, 0, 16)]
  + [(16, 1, 1), (100, 0.29, 71)],
)
def test_channels_left(size, ratio, left):
  assert nb_left(size, ratio) == left


def test_steps():
  assert Greedy(per_step=4).steps(16, 8) == 2
  assert Greedy(per_step=3).steps(16, 8) == 3
  assert Greedy(per_step=3, greedy='add').steps(16, 4) == 2
  assert Greedy().steps(16, 16) == 0


# The learner.


@pytest.fixture
def learn(make, baseline):
  """A learner whose runs take little time."""

  def learn_(folder='run', run=None, **config):
    config = {'nb_iters_block': 12, 'nb_iters_layer': 5, 'nb_smpls_layer': 128} | config
    return make('dis-chn-pruned', folder, run={'warm_start_path': baseline} | (run or {}), **config)

  return learn_


@pytest.mark.slow
def test_a_run(learn, capsys):
  learner = learn(nb_iters_block=60, nb_iters_layer=30)
  report = learner.train().report
  told = capsys.readouterr().out
  assert 'block2_select  conv2: 3 of 6 input channels, reconstruction' in told
  assert 'ETA' in told
  channels = {r['name']: (r['in_channels'], r['out_channels']) for r in report['layers']}
  assert channels['conv1'] == ([3, 3], [6, 3])
  assert channels['conv2'] == ([6, 3], [16, 8])
  assert channels['dense1'] == ([400, 200], [120, 120])
  assert channels['logits'] == ([84, 84], [10, 10])
  assert report['requested'] == {'channels_ratio': 0.5}
  assert report['achieved']['channels_ratio'] == 11 / 22
  assert report['pruned']['accuracy'] > 0.8
  assert report['parity']['slim_vs_masked'] <= 1e-4
  assert [phase['name'] for phase in report['phases']] == [
    'baseline',
    'block2_finetune',
    'block2_select',
    'reconstruct',
    'slim',
    'finetune',
    'measure',
  ]
  assert any('2 blocks only' in note and '--dcp_nb_stages 3' in note for note in report['notes'])
  extra = report['extra']
  assert [(r['name'], r['kept'], r['of']) for r in extra['layers']] == [
    ('conv2', 3, 6),
    ('dense1', 8, 16),
  ]
  assert extra['layers'][0]['loss_reconstruction'] > 0
  assert json.loads((learner.log_dir / 'report.json').read_text())['extra'] == extra


@pytest.mark.parametrize(
  ('name', 'trunk'),
  [('residual_net', 'couple'), ('bottleneck_net', 'gather'), ('depthwise_net', 'keep')]
  + [('bottleneck_net', 'couple'), ('plain_net', 'keep')],
)
def test_every_kind_of_network_is_sliced_as_it_was_masked(name, trunk, helper, tmp_path):
  learner = on_digits(NETS[name], helper, tmp_path, trunk=trunk)
  learner.run_phases(until='slim')
  state = learner.state['algorithm']
  assert state['slim_vs_masked'] <= 1e-4
  assert all(r['kept'] == r['of'] - r['of'] // 2 for r in state['layers'])
  assert count(learner.model).macs < 0.75 * count(NETS[name]()).macs
  assert {record['block'] for record in state['layers']} <= {1, 2}


@pytest.mark.parametrize(
  'config',
  [
    {'greedy': 'add'},
    {'select': 'magnitude'},
    {'refit': False},
    {'select': 'random'},
    {'chns_per_step': 1, 'nb_iters_layer': 1},
    {'nb_iters_block': 0, 'nb_iters_layer': 0},
    {'nb_stages': 0},
  ],
)
def test_options(learn, config):
  learner = learn(**config)
  learner.run_phases(until='slim')
  kept = learner.state['algorithm']['kept']
  assert {name: len(channels) for name, channels in kept.items()} == {'conv2': 3, 'dense1': 8}


@pytest.mark.parametrize(('ratio', 'left'), [(0.0, (6, 16)), (1.0, (1, 1))])
def test_extreme_ratios(learn, ratio, left):
  learner = learn(prune_ratio=ratio)
  learner.run_phases(until='slim')
  kept = learner.state['algorithm']['kept']
  assert (len(kept['conv2']), len(kept['dense1'])) == left


def test_a_list_of_ratios(learn, tmp_path):
  path = tmp_path / 'ratio.list'
  path.write_text('0.5, 0.25')
  config = {'prune_option': 'list', 'prune_list_file': str(path)}
  learner = learn(**config)
  learner.run_phases(until='slim')
  kept = learner.state['algorithm']['kept']
  assert (len(kept['conv2']), len(kept['dense1'])) == (3, 12)
  assert learner.requested() == {'prune_ratios': str(path)}
  path.write_text('0.5')
  with pytest.raises(
    UserError, match=r'--dcp_prune_list_file .* holds 1 ratios, but 2 were expected'
  ):
    learn('other', **config).train()


def test_auto_shares_out_the_macs_of_equal_ratios(learn):
  learner = learn(prune_option='auto', prune_ratio=0.5)
  learner.run_phases(until='slim')
  state = learner.state['algorithm']
  assert state['counts'] == {name: len(channels) for name, channels in state['kept'].items()}
  assert set(learner.extra()['divergence']) == set(state['kept'])
  equal = learn('equal', prune_ratio=0.5)
  equal.run_phases(until='slim')
  macs = count(learner.model).macs
  assert macs <= count(equal.model).macs
  assert learner.requested()['macs_ratio'] == pytest.approx(
    count(equal.model).macs / count(learner.original()).macs
  )


def test_auto_meets_a_share_of_the_macs(learn):
  learner = learn(prune_option='auto', preserve_ratio=0.6)
  learner.run_phases(until='slim')
  whole, slim = count(learner.original()).macs, count(learner.model).macs
  assert 0.5 * whole < slim <= 0.6 * whole
  assert learner.requested() == {'macs_ratio': 0.6}


def test_a_share_of_macs_out_of_reach_is_told_before_any_measuring(learn, monkeypatch):
  monkeypatch.setattr(DisChnPrunedLearner, 'scan', None)
  with pytest.raises(UserError, match=r'--dcp_preserve_ratio asks for 0.0010 of the MACs, but at'):
    learn('little', prune_option='auto', preserve_ratio=0.001).train()


@pytest.mark.parametrize(
  ('config', 'told'),
  [
    (
      {'prune_list_file': 'my.list'},
      r'--dcp_prune_option uniform .* --dcp_prune_list_file my.list',
    ),
    ({'prune_option': 'list'}, r'list was given with --dcp_prune_list_file None'),
    ({'preserve_ratio': 0.4}, r'--dcp_preserve_ratio 0.4 .* add --dcp_prune_option auto'),
  ],
)
def test_flags_that_would_do_nothing_are_refused(config, told):
  with pytest.raises(UserError, match=told):
    DcpConfig(**config)


def test_skipping_everything_is_told(learn):
  with pytest.raises(UserError, match=r'loosen --dcp_skip or --dcp_trunk'):
    learn(skip='conv*').train()


def test_a_process_without_images_has_empty_maps():
  flat = flatten_model(cifar_resnet(20))
  frontier = Frontier(flat, np.zeros((0, 32, 32, 3), np.float32))
  frontier.advance(5)
  (output,) = flat.outputs
  assert frontier.peek([output])[output].shape == (0, 10)


def test_a_small_cache_takes_fewer_images_and_says_so(learn, helper, capsys):
  learner = learn(cache_mb=1, nb_smpls_layer=1000, batch_size=16)
  learner.run_phases(until='slim')
  nb = learner.state['algorithm']['samples']
  assert 16 <= nb < 1000
  told = f'has room for the feature maps of {nb} images'
  assert capsys.readouterr().out.count(told) == 1  # They are read once for all blocks.


class Killed(BaseException):
  """Stands for a kill: nothing in the program catches it."""


def kill_at_save(monkeypatch, learner, number):
  """Runs a learner until behind its n-th checkpoint."""
  save, calls = learner.save, []

  def save_and_die(*args, **kwargs):
    save(*args, **kwargs)
    calls.append(args)
    if len(calls) == number:
      raise Killed

  with monkeypatch.context() as patch:
    patch.setattr(learner, 'save', save_and_die)
    with pytest.raises(Killed):
      learner.train()
  return calls[-1]


@pytest.mark.slow
def test_a_killed_run_keeps_the_same_channels_and_reruns_are_identical(learn, monkeypatch):
  def outcome(learner):
    result = learner.train()
    return learner.state['algorithm']['kept'], result.model.get_weights()

  kept, weights = outcome(learn('whole'))
  places = []
  for number in (2, 4, 7):
    place = kill_at_save(monkeypatch, learn(f'killed{number}'), number)
    places.append(place[:2])
    again, found = outcome(learn(f'killed{number}'))
    assert again == kept
    for a, b in zip(weights, found, strict=True):
      np.testing.assert_array_equal(a, b)
  assert places == [
    ('block2_finetune', 10),
    ('block2_select', 0),
    ('reconstruct', 0),
  ]
  again, found = outcome(learn('again'))
  assert again == kept
  for a, b in zip(weights, found, strict=True):
    np.testing.assert_array_equal(a, b)


def on_digits(build, helper, folder, run=None, **config):
  """A learner of a network with random weights, whose runs take little time."""
  start = folder / 'start.keras'
  if not start.exists():
    randomize(build()).save(start)
  cls = get_learner('dis-chn-pruned')
  config = {'nb_stages': 1, 'nb_iters_block': 3, 'nb_iters_layer': 3, 'nb_smpls_layer': 64} | config
  return cls(
    ModelHelper('net', build, helper.dataset, helper.recipe),
    cls.Config(**config),
    run=RunConfig(run_dir=str(folder), warm_start_path=str(start), bench_frames=2, **(run or {})),
    training=TrainConfig(nb_epochs_ft=0.05),
  )


def test_a_run_with_branches_goes_on_behind_slicing(helper, tmp_path, monkeypatch):
  learner = on_digits(residual_net, helper, tmp_path, trunk='couple')
  learner.run_phases(until='slim')
  assert 'slim' in learner.store.latest().state['done']
  report = on_digits(residual_net, helper, tmp_path, trunk='couple').train().report
  assert report['extra']['blocks'][0]['units']
  monkeypatch.setattr(DisChnPrunedLearner, 'finetune', None)  # Any training would fail.
  again = on_digits(residual_net, helper, tmp_path, trunk='couple').train()
  assert again.report == report


def operator_net(size=32):
  x = inputs = L.Input((size, size, 3))
  x = stem(x, 8)
  for i in range(3):
    y = L.ReLU()(conv(x, 8, 3, f'b{i}_conv1'))
    x = L.ReLU()(conv(y, 8, 3, f'b{i}_conv2') + x)
  return keras.Model(inputs, logits(x))


def test_additions_by_operator_in_bfloat16(helper, tmp_path):
  learner = on_digits(operator_net, helper, tmp_path, run={'enbl_bf16': True})
  learner.run_phases(until='slim')
  assert all(r['kept'] == 4 for r in learner.state['algorithm']['layers'])


def inception_net(size=32):
  x = inputs = L.Input((size, size, 3))
  x = stem(x, 8)
  parts = [L.ReLU()(conv(x, filters, 1, f'part{filters}')) for filters in (4, 8, 6)]
  return keras.Model(inputs, logits(L.ReLU()(conv(L.Concatenate()(parts), 8, 3, 'join'))))


def test_channels_that_one_layer_reads_from_several(helper, tmp_path):
  learner = on_digits(inception_net, helper, tmp_path, prune_ratio=0.25)
  learner.run_phases(until='slim')
  found = [
    (r['name'], r['kept']) for r in learner.state['algorithm']['layers'] if 'join' in r['name']
  ]
  assert sorted(found) == [('join:part4', 3), ('join:part6', 5), ('join:part8', 6)]
  assert learner.model.get_layer('join').kernel.shape[2] == 14


def test_divergence_names_phase_layer_and_rate(learn):
  learner = learn(nb_iters_block=0, lrn_rate_adam=1e30)
  with pytest.raises(DivergenceError, match=r'phase block2_select of layer conv2 .*rate 1e\+30'):
    learner.train()
  saved = learner.store.latest()
  assert saved.state['phase'] == 'block2_finetune'
  assert all(np.isfinite(value).all() for value in saved.values('model').values())


def test_bad_values():
  for options, text in [
    ({'prune_ratio': 1.5}, r'--dcp_prune_ratio takes a value in \[0.0, 1.0\]'),
    ({'greedy': 'both'}, '--dcp_greedy takes one of remove, add'),
    ({'select': 'best'}, '--dcp_select takes one of gradient, magnitude, random'),
    ({'nb_stages': -1}, '--dcp_nb_stages takes a value of at least 0'),
  ]:
    with pytest.raises(UserError, match=text):
      DcpConfig(**options)
