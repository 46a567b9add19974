import json
import sys

import numpy as np
import pytest
import tf_keras as keras
from alike import alike
from networks import (
  randomize,
)

from secateurs.learners import get_learner
from secateurs.learners.channel_pruned import CpConfig
from secateurs.learners.channels import width_allocation
from secateurs.learners.run.configs import RunConfig, TrainConfig
from secateurs.learners.run.training import divergence
from secateurs.nets.model_helper import ModelHelper
from secateurs.utils.errors import UserError

L = keras.layers
RNG = np.random.default_rng(0)


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
  assert pruned['accuracy'] > comparison['random']['score']['value']
  assert 0 <= pruned['score_bn_reestimated'] <= 1
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
    {'select': 'lasso', 'scheme': 'alternating'},
    {'select': 'random', 'refit': False},
    *alike({'select': 'lasso'}, {'lasso': False}, {'quadruple': True}),
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
  learner.resume()
  nb_built = len(calls)
  for _ in range(3):
    assert learner.refit_method().nb_points == 10
    assert learner._nb_batches() == 30
  assert len(calls) == nb_built <= 2  # The network itself, and one that shapes are read from.


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
  with pytest.raises(
    UserError, match=r'No convolution of lenet has channels that can be pruned \(conv2'
  ):
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
    ({'select': 'best'}, '--cp_select takes one of lasso, backward, thinet, thinet-ls, magnitude'),
    ({'uniform_preserve_ratio': 1.2}, r'--cp_uniform_preserve_ratio takes a value in \[0.0, 1.0\]'),
    ({'trunk': 'cut'}, '--cp_trunk takes one of keep, couple, gather'),
    ({'nb_batches': 0}, '--cp_nb_batches takes a value of at least 1'),
  ]:
    with pytest.raises(UserError, match=text):
      CpConfig(**options)


# The search.


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
    patch.setattr(width_allocation, 'WidthSearch', None)
    with pytest.raises(TypeError):
      stopped.run_phases(until='allocate')
  with monkeypatch.context() as patch:
    patch.setattr(divergence, 'scan', None)
    again = learn(make, baseline, **config)
    again.run_phases(until='allocate')
  found = again.state.widths.divergence
  assert found.keys() == again.state.widths.counts.keys()


@pytest.mark.slow
def test_candidates_that_are_judged_at_the_same_time_give_the_same_search(make, baseline):
  search = {'nb_rlouts': 6, 'nb_rlouts_min': 3, 'nb_smpls_reward': 100}
  config = {'prune_option': 'auto', 'preserve_ratio': 0.6, **search}
  found = []
  for jobs in (1, 3):
    learner = learn(make, baseline, f'jobs{jobs}', jobs=jobs, **config)
    learner.run_phases(until='allocate')
    trials, widths = learner.files.save_path.with_name('search.jsonl'), learner.state.widths
    found.append((trials.read_text(), widths.counts, widths.divergence))
  assert found[0] == found[1]
  assert len(found[0][0].splitlines()) == 6


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
  assert len(learner.files.save_path.with_name('search.jsonl').read_text().splitlines()) == 6
  assert any('--nb_smpls_val holds others out' in note for note in report['notes'])
  assert json.loads((learner.files.log_dir / 'report.json').read_text())['extra']['search'] == found


# A target in latency.


def times(monkeypatch, seconds):
  """Lets latency be a function of the number of parameters."""
  monkeypatch.setattr(
    'secateurs.learners.channels.allocation.latency.latency_ratio',
    lambda original, model, nb_threads: seconds(model.count_params()),
  )


@pytest.mark.parametrize('option', ['uniform', *alike('auto')])
def test_a_latency_target_is_met(make, baseline, monkeypatch, option):
  search = {'nb_rlouts': 3, 'nb_rlouts_min': 2, 'nb_smpls_reward': 100}
  search = search if option == 'auto' else {}
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
    CpConfig(nb_batches=4, compare=True),
    run=RunConfig(run_dir=str(tmp_path), warm_start_path=str(tmp_path / 'start.keras')),
    training=TrainConfig(nb_epochs_ft=0.0),
  )
  learner.run_phases(until='slice')
  assert {'magnitude', 'random'} <= set(learner.state.comparison)


def test_a_latency_target_out_of_reach(make, baseline, monkeypatch):
  times(monkeypatch, lambda params: 0.8)
  learner = learn(make, baseline, target_latency=0.6)
  with pytest.raises(UserError, match=r'asks for 0.6 of .* latency, but 0.800 stay'):
    learner.train()


def test_a_latency_target_and_a_list():
  with pytest.raises(UserError, match=r'--cp_target_latency chooses how much stays'):
    CpConfig(target_latency=0.5, prune_option='list')
