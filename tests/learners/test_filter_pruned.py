"""Filter pruning on handwritten digits: methods, schedules, allocations, and what is refused."""

import dataclasses
import functools
import json

import numpy as np
import pytest
import tf_keras as keras
from alike import alike, few

from secateurs.learners import cli
from secateurs.learners.channels.allocation import filter_scan
from secateurs.learners.channels.analysis import analyse
from secateurs.learners.channels.filter_config import FpConfig
from secateurs.learners.channels.repair.reconstruct import prune
from secateurs.learners.methods import METHODS, config_of
from secateurs.learners.run.baseline import baseline_weights
from secateurs.learners.run.configs import FullPrecConfig
from secateurs.learners.run.results.plan_cuts import apply_plan
from secateurs.learners.run.training.judging import judging_samples
from secateurs.utils.errors import UserError
from secateurs.utils.graph import ChannelGraph
from secateurs.utils.training import distributed
from secateurs.utils.training.engine import loop
from secateurs.utils.training.models.weights import assign_weights, named_weights

L = keras.layers
FILTERS = [name for name, method in METHODS.items() if method.learner == 'filter-pruned']
SHORT = {'nb_batches': 2, 'nb_smpls_reward': 200}
FEW = (
  'abc-pruner',
  'entropy-pruner',
  'hrank-plus',
  'l1-sensitivity',
  'taylor',
)
QUICK = {'abc_nb_sources': 3, 'abc_nb_cycles': 1, 'abc_nb_steps': 2, 'abc_nb_failures': 1}


@pytest.fixture
def run(make, baseline):
  def train(folder='run', helper=None, method=None, epochs=0.05, **config):
    learner = make(
      'filter-pruned',
      folder,
      run={'warm_start_path': None if helper else baseline},
      training={'nb_epochs_ft': epochs, 'nb_epochs_rat': 0.05},
      helper=helper,
      method=method,
      **(SHORT | config),
    )
    return learner, learner.train()

  return train


def other_net(helper, name, build):
  return type(helper)(name, build, helper.dataset, helper.recipe)


def test_worked_example_of_four_of_twelve_channels_by_the_smallest_gammas(make, helper, tmp_path):
  """3 -> 12 -> 64 channels: the four smallest scales go, BN and the next layer follow by index."""
  x = inputs = L.Input((32, 32, 3))
  x = L.Conv2D(12, 1, use_bias=False, name='conv_1')(x)
  x = L.BatchNormalization(name='bn')(x)
  x = L.Conv2D(64, 1, use_bias=False, name='conv_2')(x)
  model = keras.Model(inputs, L.Dense(10, name='logits')(L.GlobalAveragePooling2D()(x)))
  gammas = np.random.default_rng(0).permutation(np.arange(1, 13) / 10).astype(np.float32)
  model.get_layer('bn').gamma.assign(gammas)
  model.save(tmp_path / 'start.keras')
  build = functools.partial(keras.models.clone_model, model)
  learner = make(
    'filter-pruned',
    run={'warm_start_path': str(tmp_path / 'start.keras')},
    training={'nb_epochs_ft': 0.0},
    helper=other_net(helper, 'example', build),
    criterion='bn_gamma',
    prune_ratio=1 / 3,
    repair='none',
    skip='conv_2',
  )
  result = learner.train()
  index = np.sort(np.argsort(gammas)[4:])
  before = {w.name.split(':')[0]: w.numpy() for w in model.weights}
  after = {w.name.split(':')[0]: w.numpy() for w in result.model.weights}
  assert after['conv_1/kernel'].shape[2:] == (3, 8)
  assert after['conv_2/kernel'].shape[2:] == (8, 64)
  np.testing.assert_array_equal(after['conv_1/kernel'], before['conv_1/kernel'][..., index])
  np.testing.assert_array_equal(after['conv_2/kernel'], before['conv_2/kernel'][:, :, index])
  for name in ('gamma', 'beta', 'moving_mean', 'moving_variance'):
    np.testing.assert_array_equal(after[f'bn/{name}'], before[f'bn/{name}'][index])
  (cut,) = json.loads(result.plan.read_text())['channels']
  assert cut['kept'] == index.tolist()


@pytest.mark.parametrize('name', few(FILTERS, FEW))
def test_each_method_prunes_the_digits(name, run):
  row = dataclasses.asdict(config_of(name, **SHORT, **(QUICK if name == 'abc-pruner' else {})))
  # A dense layer has no map with a rank.
  row['skip'] = 'dense*' if name.startswith('hrank') else None
  learner, result = run(method=name, **row)
  report = result.report
  assert report['method'] == name
  assert report['achieved']['macs_ratio'] < 1
  assert report['parity']['slim_vs_masked'] < 1e-5
  assert report['compressed']['accuracy'] > (0.2 if name == 'random' else 0.3)
  assert (learner.files.log_dir / 'report.html').stat().st_size > 10_000
  if name.startswith('hrank'):
    assert list(report['extra']['rank_stability']) == ['conv1', 'conv2']
  if name == 'l1-sensitivity':
    assert list(report['extra']['filter_sensitivity_table']) == [
      'conv1',
      'conv2',
      'dense1',
      'dense2',
    ]
    assert report['requested'] == {'max_drop_alone': 0.01}
  if name == 'abc-pruner':
    assert len(report['extra']['colony']['best so far']) == 2
    lines = learner.files.trials.read_text().splitlines()
    assert len(lines) == report['extra']['search']['candidates']
    budget = learner.state.widths.macs_ratio * report['original']['macs']
    assert budget < 0.5 * report['original']['macs']  # Half of the channels of each layer.
    assert all(json.loads(line)['cost'] <= budget for line in lines)


@pytest.mark.slow
@pytest.mark.parametrize(
  'case',
  [
    ('filter-pruned', 'abc'),
    ('reg-pruned', 'auto'),
    *alike(
      ('filter-pruned', 'sensitivity'),
      ('filter-pruned', 'auto'),
      ('gate-pruned', 'auto'),
      ('prune-regrow', 'auto'),
    ),
  ],
)
def test_what_two_networks_measure_is_what_one_does(case, make, baseline):
  name, option = case
  given = {'prune_option': option, 'preserve_ratio': 0.5}
  given |= SHORT if name == 'filter-pruned' else {}
  if option == 'abc':
    given |= {'repair': 'none', **QUICK}
  found = []
  for jobs in (1, 2):
    run = {'warm_start_path': baseline}
    learner = make(name, f'jobs{jobs}', run=run, jobs=jobs, **given)
    learner.run_phases(until='allocate')
    widths, file = learner.state.widths, learner.files.trials
    text = file.read_text() if option == 'abc' else ''
    found.append((widths.shares, widths.divergence, widths.drops, text))
  assert found[0] == found[1]
  assert any(found[0])


class Killed(BaseException):
  """Stands for a kill."""


@pytest.mark.parametrize(
  'config',
  [
    {'schedule': 'layer-by-layer', 'nb_rounds': 2, 'criterion': 'taylor', 'repair': 'none'},
    *alike(
      {'schedule': 'end-to-end', 'nb_rounds': 3, 'prune_option': 'global', 'preserve_ratio': 0.5},
      {'prune_option': 'abc', **QUICK, 'repair': 'batch-norm', 'preserve_ratio': 0.5},
    ),
  ],
  ids=['layer-by-layer', 'end-to-end', 'abc'],
)
@pytest.mark.slow
def test_a_run_killed_between_cuts_ends_like_one_that_was_not(config, run, monkeypatch):
  whole = run('whole', epochs=0.5, **config)[1]
  step, calls = loop.TrainStep.run, []

  def die(self, batches, nb_steps):
    calls.append(nb_steps)
    if len(calls) > 3:
      raise Killed
    return step(self, batches, nb_steps)

  with monkeypatch.context() as patch:
    patch.setattr(loop.TrainStep, 'run', die)
    with pytest.raises(Killed):
      run('killed', epochs=0.5, **config)
  resumed = run('killed', epochs=0.5, **config)[1]
  for one, other in zip(whole.model.get_weights(), resumed.model.get_weights(), strict=True):
    np.testing.assert_array_equal(one, other)


def test_layer_by_layer_trains_between_cuts(run):
  learner, result = run(schedule='layer-by-layer', nb_rounds=2, epochs=0.5)
  phases = [phase['name'] for phase in result.report['phases']]
  fits = [name for name in phases if name.startswith('round')]
  assert fits == [f'round{r}_layer{i}' for r in (1, 2) for i in range(1, 5)][:-1]
  assert learner.state.targets == {unit: len(kept) for unit, kept in learner.state.kept.items()}


@pytest.mark.exhaustive
def test_a_plan_makes_the_same_cut(run, make, baseline):
  learner, result = run(preserve_ratio=0.4, prune_option='global', criterion='l2')
  path = str(result.plan)
  again = make(
    'filter-pruned',
    'again',
    run={'warm_start_path': baseline, 'plan': path},
    training={'nb_epochs_ft': 0.05},
    **SHORT,
  )
  shapes = [w.shape for w in result.model.get_weights()]
  assert [w.shape for w in again.train().model.get_weights()] == shapes
  assert again.state.kept == learner.state.kept
  applied = apply_plan(learner.original(), path)
  assert [w.shape for w in applied.get_weights()] == shapes


def test_a_network_of_dense_layers_alone(run, helper):
  def build():
    x = inputs = L.Input((32, 32, 3))
    x = L.Dense(24, activation='relu', name='fc1')(L.Flatten()(x))
    x = L.Dense(16, activation='relu', name='fc2')(x)
    return keras.Model(inputs, L.Dense(10, name='logits')(x))

  net = other_net(helper, 'dense', build)
  learner, result = run(helper=net, prune_ratio=0.5)
  assert result.model.get_layer('fc1').units == 12
  assert result.model.get_layer('fc2').units == 8
  assert result.report['parity']['slim_vs_masked'] < 1e-5
  assert learner.state.left_whole == []


def test_a_ratio_of_zero_changes_nothing(run):
  learner, result = run(prune_ratio=0.0, epochs=0.5)
  assert result.report['achieved']['macs_ratio'] == 1
  for one, other in zip(learner.original().get_weights(), result.model.get_weights(), strict=True):
    np.testing.assert_array_equal(one, other)


def test_repairs_help(run):
  # Which unit goes is the same, so that repairs alone make the difference.
  losses = {}
  for repair in ('none', 'least-squares'):
    result = run(repair, repair=repair, prune_ratio=0.6, criterion='random', epochs=0.0)[1]
    losses[repair] = result.report['pruned']['loss']
  assert losses['least-squares'] < losses['none']


def test_what_is_refused(make, baseline, tmp_path):
  def fail(said, **config):
    with pytest.raises(UserError, match=said):
      make('filter-pruned', run={'warm_start_path': baseline}, **config).train()

  fail('rank needs maps of at least 2 x 2, which the channels of dense1', criterion='rank')
  fail('bn_gamma needs a batch normalisation.*such as l1', criterion='bn_gamma')
  (tmp_path / 'two').write_text('0.5, 0.5')
  listed = {'prune_option': 'list', 'prune_list_file': str(tmp_path / 'two')}
  fail(r'2 ratios, but 4 were expected.*conv1 \(\d+\), conv2', **listed)
  fail('fp_prune_list_file nowhere cannot be read', prune_option='list', prune_list_file='nowhere')
  fail(r"'nope', but no layer of \w+ has that name", skip='nope')
  fail('No layer of lenet has channels', skip='conv*,dense*')
  fail('--fp_preserve_ratio asks for 0.0100', preserve_ratio=0.01)
  for wrong, said in (
    ({'nb_rounds': 2}, 'fp_nb_rounds 2 needs rounds'),
    ({'preserve_ratio': 0.5, 'target_latency': 0.5}, 'leave one of them out'),
    ({'criterion': 'lasso'}, 'fp_criterion takes one of'),
    ({'trunk': 'cut'}, 'fp_trunk takes one of keep, couple, gather, follow'),
  ):
    with pytest.raises(UserError, match=said):
      FpConfig(**wrong)


def test_curves_of_selections_are_those_of_cutting_one_layer_by_hand(make, baseline):
  config = {'compare': True, 'nb_batches': 2}
  learner = make('chn-pruned', run={'warm_start_path': baseline}, **config)
  found = analyse(learner)['selections']
  assert list(found)[:3] == ['lasso, refit', 'lasso', 'thinet, refit']
  assert (learner.files.log_dir / 'sensitivity.html').read_text().count('<svg') == 5
  learner.resume()
  learner.session.state.original = None
  model = learner.helper.build_model(0)
  values, source = baseline_weights(learner.settings, FullPrecConfig())
  assign_weights(named_weights(model), values, source)
  working = keras.models.clone_model(model)
  working.set_weights(model.get_weights())
  units = learner.units(ChannelGraph(model)).units
  unit = units[0]
  images = [batch[0] for batch in learner.refit_batches()]
  method = dataclasses.replace(learner.refit_method(), selection='lasso', refit_all=False)
  _, (record,) = prune(model, working, [unit], {unit.name: 3}, images, method)
  error, drop = (
    next(value for gone, value in found['lasso, refit'][unit.name][kind] if gone == 0.5)
    for kind in ('error', 'drop')
  )
  assert error == pytest.approx(record['error_after'], rel=1e-3)
  inputs, labels = judging_samples(learner.helper, 2000)
  right = [np.mean(m(inputs).numpy().argmax(-1) == labels) for m in (model, working)]
  assert drop == pytest.approx(right[0] - right[1], abs=1e-6)
  # A refit is never worse, by its own error, than what it refits.
  for name in ('thinet', 'l1', 'magnitude', 'random'):
    pairs = zip(found[f'{name}, refit'][unit.name]['error'], found[name][unit.name]['error'])
    assert all(refit[1] <= plain[1] + 1e-6 for refit, plain in pairs)


def test_sensitivity_is_a_command_for_any_learner(make, baseline, capsys):
  assert 'sensitivity' in cli.MODES
  for name, config in (('chn-pruned', {}), ('filter-pruned', {**SHORT, 'criterion': 'apoz'})):
    learner = make(name, name, run={'warm_start_path': baseline}, **config)
    found = analyse(learner)
    assert list(found['curves']) == ['conv1', 'conv2', 'dense1', 'dense2']
    assert found['split'] == 'train'
    assert found['criterion'] == config.get('criterion', 'l1')
    written = json.loads((learner.files.log_dir / 'sensitivity.json').read_text())
    assert list(written['table']['conv1']) == [f'{tenth}0%' for tenth in range(1, 10)]
    page = (learner.files.log_dir / 'sensitivity.html').read_text()
    assert '<svg' in page
    assert 'conv2' in page
  assert 'Ratios are judged on training images' in capsys.readouterr().out


def test_each_of_many_processes_scores_a_batch(make, monkeypatch):
  learner = make('filter-pruned', nb_batches=2)
  monkeypatch.setattr(distributed, 'size', lambda: 5)
  for number in range(5):
    monkeypatch.setattr(distributed, 'shard', lambda number=number: (number, 5))
    assert len(type(learner)._score_samples.func(learner)) == 1


@pytest.fixture
def scanned(monkeypatch):
  """Graph and keys that a scan is asked for, in place of one that takes time."""
  found = {}

  def sensitivity(graph, units, keys, helper, nb_samples):
    del helper, nb_samples
    found.update(graph=graph, keys=keys)
    return {unit.name: [(0.0, 0.0), (0.5, 0.1)] for unit in units}, 10

  monkeypatch.setattr(filter_scan, 'sensitivity', sensitivity)
  return found


@pytest.mark.parametrize('name', ['filter-pruned', 'chn-pruned', 'weight-sparse'])
def test_sensitivity_obeys_layers(make, baseline, scanned, tmp_path, name):
  path = tmp_path / 'layers.yaml'
  run = {'warm_start_path': baseline, 'layers': str(path)}
  path.write_text('skip: [conv1, dense*]')
  found = analyse(make(name, run=run))
  assert list(found['curves']) == list(scanned['keys']) == ['conv2']
  assert 'conv1: named by --layers' in found['left_whole']
  path.write_text('skip: [nope]')
  with pytest.raises(UserError, match=r"--layers .* names 'nope'"):
    analyse(make(name, run=run))


@pytest.mark.parametrize('name', ['filter-pruned', 'chn-pruned'])
def test_sensitivity_names_the_flags_of_the_learner(make, baseline, name):
  prefix = {'filter-pruned': 'fp_', 'chn-pruned': 'cp_'}[name]
  with pytest.raises(UserError, match=f"--{prefix}skip .*'nope'"):
    analyse(make(name, run={'warm_start_path': baseline}, skip='nope'))


def test_sensitivity_ranks_as_the_run_does(make, residual, residual_weights, scanned, monkeypatch):
  """By the maps that the shortcut alone makes, before additions; of all processes' batches."""
  learner = make(
    'filter-pruned',
    run={'warm_start_path': residual_weights},
    helper=residual,
    criterion='rank',
    trunk='follow',
    normalize='none',
    nb_batches=2,
  )
  analyse(learner)
  learner.resume()
  gather = {'stem': 0.0}

  def two_processes(value):
    gather.update({name: ranks.mean() for name, ranks in value.items()})
    return [value, {name: ranks + 10 for name, ranks in value.items()}]

  monkeypatch.setattr(distributed, 'gather_objects', two_processes)
  keys = learner.ranked(scanned['graph']).keys
  assert 'stem' in keys
  for unit, ranks in keys.items():
    np.testing.assert_array_equal(scanned['keys'][unit], ranks)
  stability = learner.state.ranks['rank_stability']
  assert stability['stem']['mean_rank'] == pytest.approx(gather['stem'] + 5)


@pytest.mark.parametrize(('repair', 'refits'), [('least-squares', True), ('batch-norm', False)])
def test_what_refits_take_is_counted_before_the_run(make, repair, refits):
  learner = make('filter-pruned', repair=repair)
  learner.resume()
  assert ('least squares' in [need.work for need in learner.memory_needs()]) is refits
