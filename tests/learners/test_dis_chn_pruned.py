import json

import numpy as np
import pytest
import tf_keras as keras
from alike import alike
from networks import randomize
from strided_networks import NETS, conv, logits, residual_net, stem

from secateurs.learners import get_learner
from secateurs.learners.channels import width_allocation
from secateurs.learners.dis_chn_pruned import DcpConfig, DisChnPrunedLearner
from secateurs.learners.run.configs import RunConfig, TrainConfig
from secateurs.learners.run.preflight import budget
from secateurs.learners.run.preflight.budget import Budget
from secateurs.nets.model_helper import ModelHelper
from secateurs.utils.errors import UserError
from secateurs.utils.graph import count
from secateurs.utils.training.engine.loop import DivergenceError

L = keras.layers


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
    'slice',
    'finetune',
    'measure',
    'other',
  ]
  assert any('2 blocks only' in note and '--dcp_nb_stages 3' in note for note in report['notes'])
  extra = report['extra']
  assert [(r['name'], r['kept'], r['of']) for r in extra['layers']] == [
    ('conv2', 3, 6),
    ('dense1', 8, 16),
  ]
  assert extra['layers'][0]['loss_reconstruction'] > 0
  assert json.loads((learner.files.log_dir / 'report.json').read_text())['extra'] == extra


@pytest.mark.parametrize(
  ('name', 'trunk'),
  [('residual_net', 'couple'), ('bottleneck_net', 'gather'), ('depthwise_net', 'keep')]
  + [('separable_net', 'keep')],
)
def test_every_kind_of_network_is_sliced_as_it_was_masked(name, trunk, helper, tmp_path):
  learner = on_digits(NETS[name], helper, tmp_path, trunk=trunk)
  learner.run_phases(until='slice')
  state = learner.state
  assert state.slim_vs_masked <= 1e-4
  assert all(r['kept'] == r['of'] - r['of'] // 2 for r in state.layers)
  most = 0.9 if name == 'separable_net' else 0.75  # Its trunk makes most of the MACs.
  assert count(learner.model).macs < most * count(NETS[name]()).macs
  assert {record['block'] for record in state.layers} <= {1, 2}


@pytest.mark.parametrize(
  'config',
  [
    {'greedy': 'add'},
    {'refit': False},
    {'score': 'on', 'chns_per_step': 1, 'nb_iters_layer': 1},
    {'chns_per_step': 1, 'nb_iters_layer': 1},
    {'nb_stages': 0},
    *alike(
      {'select': 'magnitude'}, {'select': 'random'}, {'nb_iters_block': 0, 'nb_iters_layer': 0}
    ),
  ],
)
def test_options(learn, config):
  learner = learn(**config)
  learner.run_phases(until='slice')
  kept = learner.state.kept
  assert {name: len(channels) for name, channels in kept.items()} == {'conv2': 3, 'dense1': 8}


def test_a_ratio_of_one_leaves_one_channel(learn):
  learner = learn(prune_ratio=1.0)
  learner.run_phases(until='slice')
  kept = learner.state.kept
  assert (len(kept['conv2']), len(kept['dense1'])) == (1, 1)


def test_the_adaptive_stop_keeps_to_floor_and_ceiling(learn):
  config = {'greedy': 'add', 'nb_iters_layer': 1, 'chns_per_step': 1}
  learner = learn(epsilon=100.0, floor=0.25, **config)
  learner.run_phases(until='slice')
  assert learner.requested() == {'epsilon': 100.0}
  kept = learner.state.kept
  assert (len(kept['conv2']), len(kept['dense1'])) == (2, 4)
  other = learn('other', epsilon=0.0, ceiling=0.5, **config)
  other.run_phases(until='slice')
  assert (len(other.state.kept['conv2']), len(other.state.kept['dense1'])) == (3, 8)


@pytest.mark.exhaustive
def test_a_list_of_ratios(learn, tmp_path):
  path = tmp_path / 'ratio.list'
  path.write_text('0.5, 0.25')
  config = {'prune_option': 'list', 'prune_list_file': str(path)}
  learner = learn(**config)
  learner.run_phases(until='slice')
  kept = learner.state.kept
  assert (len(kept['conv2']), len(kept['dense1'])) == (3, 12)
  assert learner.requested() == {'prune_ratios': str(path)}
  path.write_text('0.5')
  with pytest.raises(
    UserError, match=r'--dcp_prune_list_file .* holds 1 ratios, but 2 were expected'
  ):
    learn('other', **config).train()


def test_auto_shares_out_the_macs_of_equal_ratios(learn):
  learner = learn(prune_option='auto', prune_ratio=0.5)
  learner.run_phases(until='slice')
  state = learner.state
  assert state.widths.counts == {name: len(channels) for name, channels in state.kept.items()}
  assert set(learner.extra()['divergence']) == set(state.kept)
  equal = learn('equal', prune_ratio=0.5)
  equal.run_phases(until='slice')
  macs = count(learner.model).macs
  assert macs <= count(equal.model).macs
  assert learner.requested()['macs_ratio'] == pytest.approx(
    count(equal.model).macs / count(learner.original()).macs
  )


@pytest.mark.parametrize('option', ['auto', 'uniform'])
def test_a_share_of_the_macs_is_met(option, learn):
  learner = learn(prune_option=option, preserve_ratio=0.6)
  learner.run_phases(until='slice')
  whole, slim = count(learner.original()).macs, count(learner.model).macs
  assert 0.5 * whole < slim <= 0.6 * whole
  assert learner.requested() == {'macs_ratio': 0.6}


def test_a_share_of_macs_out_of_reach_is_told_before_any_measuring(learn, monkeypatch):
  monkeypatch.setattr(width_allocation, 'statistics', None)
  with pytest.raises(UserError, match=r'--dcp_preserve_ratio asks for 0.0010 of the MACs, but at'):
    learn('little', prune_option='auto', preserve_ratio=0.001).train()


@pytest.mark.parametrize(
  ('config', 'told'),
  [
    (
      {'prune_list_file': 'my.list'},
      r'--dcp_prune_list_file my.list has an effect only with --dcp_prune_option list',
    ),
    ({'prune_option': 'list'}, r'list needs a file of ratios: add --dcp_prune_list_file'),
    (
      {'prune_option': 'list', 'prune_list_file': 'my.list', 'preserve_ratio': 0.4},
      r'--dcp_preserve_ratio 0.4 has an effect only with --dcp_prune_option uniform',
    ),
  ],
)
def test_flags_that_would_do_nothing_are_refused(config, told):
  with pytest.raises(UserError, match=told):
    DcpConfig(**config)


def test_skipping_everything_is_told(learn):
  with pytest.raises(UserError, match=r'loosen --dcp_skip or --dcp_trunk'):
    learn(skip='conv*').train()


def test_a_small_cache_takes_fewer_images_and_says_so(learn, helper, capsys):
  learner = learn(cache_mb=1, nb_smpls_layer=1000, batch_size=16)
  learner.run_phases(until='slice')
  nb = learner.state.samples
  assert 16 <= nb < 1000
  told = f'has room for the feature maps of {nb} images'
  assert capsys.readouterr().out.count(told) == 1  # They are read once for all blocks.


def test_maps_on_disk_and_batches_in_pieces_give_the_same_network(learn, monkeypatch):
  def outcome(folder):
    learner = learn(folder, nb_iters_block=2, nb_iters_layer=2, nb_smpls_layer=64)
    learner.run_phases(until='reconstruct')
    return learner.state.kept, learner.model.get_weights()

  kept, weights = outcome('memory')
  monkeypatch.setattr(budget, '_FOR_CACHES', 0.0)
  monkeypatch.setattr(Budget, 'pieces', lambda *args, caches=False, **options: 3 if caches else 1)
  found, others = outcome('disk')
  assert found == kept
  for one, other in zip(weights, others, strict=True):
    np.testing.assert_allclose(other, one, atol=2e-3)


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
@pytest.mark.exhaustive  # The contract stops every learner once.
def test_a_killed_run_keeps_the_same_channels_and_reruns_are_identical(learn, monkeypatch):
  def outcome(learner):
    result = learner.train()
    return learner.state.kept, result.model.get_weights()

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
  learner.run_phases(until='slice')
  assert 'slice' in learner.session.store.latest().state['done']
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
  learner.run_phases(until='slice')
  assert all(r['kept'] == 4 for r in learner.state.layers)


def inception_net(size=32):
  x = inputs = L.Input((size, size, 3))
  x = stem(x, 8)
  parts = [L.ReLU()(conv(x, filters, 1, f'part{filters}')) for filters in (4, 8, 6)]
  return keras.Model(inputs, logits(L.ReLU()(conv(L.Concatenate()(parts), 8, 3, 'join'))))


def test_channels_that_one_layer_reads_from_several(helper, tmp_path):
  learner = on_digits(inception_net, helper, tmp_path, prune_ratio=0.25)
  learner.run_phases(until='slice')
  found = [(r['name'], r['kept']) for r in learner.state.layers if 'join' in r['name']]
  assert sorted(found) == [('join:part4', 3), ('join:part6', 5), ('join:part8', 6)]
  assert learner.model.get_layer('join').kernel.shape[2] == 14


def test_divergence_names_phase_layer_and_rate(learn):
  learner = learn(nb_iters_block=0, lrn_rate_adam=1e30)
  with pytest.raises(DivergenceError, match=r'phase block2_select of layer conv2 .*rate 1e\+30'):
    learner.train()
  saved = learner.session.store.latest()
  assert saved.state['phase'] == 'block2_finetune'
  assert all(np.isfinite(value).all() for value in saved.values('model').values())


def test_bad_values():
  for options, text in [
    ({'prune_ratio': 1.5}, r'--dcp_prune_ratio takes a value in \[0.0, 1.0\]'),
    ({'greedy': 'both'}, '--dcp_greedy takes one of remove, add'),
    ({'select': 'best'}, '--dcp_select takes one of gradient, magnitude, random'),
    ({'epsilon': -0.1, 'greedy': 'add'}, '--dcp_epsilon takes a value of at least 0'),
    ({'epsilon': 0.1}, '--dcp_epsilon 0.1 has an effect only with --dcp_greedy add'),
    ({'floor': 0.2}, '--dcp_floor has an effect only with --dcp_epsilon'),
    ({'epsilon': 0.1, 'greedy': 'add', 'floor': 0.6, 'ceiling': 0.5}, '--dcp_floor 0.6 lies above'),
    (
      {'epsilon': 0.1, 'greedy': 'add', 'prune_option': 'auto'},
      '--dcp_prune_option auto was given',
    ),
    ({'score': 'on', 'greedy': 'add'}, '--dcp_score on has an effect only with'),
    ({'nb_stages': -1}, '--dcp_nb_stages takes a value of at least 0'),
  ]:
    with pytest.raises(UserError, match=text):
      DcpConfig(**options)
