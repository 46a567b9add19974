"""Training under pressure on handwritten digits: penalties, passes, zeros, and blocks that go."""

import numpy as np
import pytest
import tf_keras as keras
from alike import alike
from killing import killed
from networks import pre_activation_net

from secateurs.learners.run.results.plan_cuts import apply_plan

SHORT = {'nb_batches': 2}


@pytest.fixture
def run(make, residual, residual_weights):
  def train(folder='run', epochs=2.0, learner='reg-pruned', run=None, **config):
    made = make(
      learner,
      folder,
      run={'warm_start_path': residual_weights, 'save_step': 5, **(run or {})},
      training={'nb_epochs_ft': epochs, 'nb_epochs_rat': 0.05},
      helper=residual,
      **(SHORT | config),
    )
    return made, made.train()

  return train


def kinds(model):
  return [type(layer).__name__ for layer in model.layers]


def test_slimming_in_two_passes_and_its_plan(run):
  learner, result = run(penalty='bn_gamma', nb_passes=2, preserve_ratio=0.5)
  report = result.report
  assert report['achieved']['macs_ratio'] == pytest.approx(0.5, abs=0.03)
  assert report['parity']['slim_vs_masked'] < 1e-5
  names = [phase.name for phase in learner.compression_phases()]
  assert names == ['press1', 'cut1', 'tune1', 'press2', 'cut2', 'slice', 'finetune']
  assert sum(phase['iters'] for phase in report['phases']) == learner.rates.fine_tune_steps()
  first, second = report['extra']['passes']
  assert sum(first['before']['bn_gamma']['counts']) == 36
  assert (
    0.3 < second['before']['bn_gamma']['largest'] < first['before']['bn_gamma']['largest'] * 1.5
  )
  assert set(report['extra']['norms']) == {
    f'pass {n}, {when}, bn_gamma' for n in (1, 2) for when in ('before', 'after')
  }
  again, same = run('again', epochs=0.1, run={'plan': str(result.plan)})
  assert same.model.count_params() == result.model.count_params()
  assert again.state.kept == learner.state.kept
  applied = apply_plan(learner.original(), str(result.plan))
  assert applied.count_params() == result.model.count_params()


def test_growing_factors_empty_the_channels_that_go(run):
  learner, result = run(penalty='growing', preserve_ratio=0.5, press_ratio=0.5, strength=10.0)
  assert result.report['achieved']['macs_ratio'] == pytest.approx(0.5, abs=0.03)
  assert learner.state.kept == learner.state.doomed
  before, after = (learner.state.passes[0][when]['dependency'] for when in ('before', 'after'))
  gone = sum(12 - len(kept) for kept in learner.state.kept.values())
  assert after['counts'][0] >= before['counts'][0] + gone // 2
  # What went had next to nothing left: the refit finds no error.
  assert all(layer['error'] < 0.02 for layer in learner.state.layers if 'error' in layer)


def test_blocks_that_go_take_their_additions_along(run):
  learner, result = run(penalty='group_lasso', groups='layers', prune_option='zeros', nb_blocks=2)
  assert kinds(result.model).count('Add') == 1
  assert kinds(result.model).count('Conv2D') == 3
  assert result.report['parity']['slim_vs_masked'] < 1e-5
  assert len(learner.state.blocks) == 2
  assert 'Residual branches that went as a whole' in ' '.join(result.report['notes'])
  assert result.report['achieved']['macs_ratio'] < 0.5
  applied = apply_plan(learner.original(), str(result.plan))
  assert kinds(applied).count('Conv2D') == 3


@pytest.mark.slow
def test_zeros_are_cut_and_those_of_shapes_stay_zeros(run):
  learner, result = run(
    penalty='group_lasso',
    groups='filters,shapes',
    prune_option='zeros',
    factor=6.0,
    press_ratio=0.5,
  )
  assert result.report['requested'] == {'penalty': 'filters, shapes'}
  assert result.report['parity']['slim_vs_masked'] < 1e-5
  zeros = learner.state.zero_shapes
  assert 0 < zeros < 1
  kernels = [w for w in result.model.get_weights() if w.ndim == 4]
  shapes = np.concatenate([(k == 0).all(axis=-1).reshape(-1) for k in kernels])
  assert shapes.mean() >= zeros - 1e-9
  assert any('zero over all filters' in note for note in result.report['notes'])


@pytest.mark.slow
@pytest.mark.exhaustive
def test_from_scratch_starts_with_scales_of_a_half(run):
  learner, result = run(
    penalty='bn_gamma', update='subgradient', factor=1e-3, from_scratch=True, epochs=0.5
  )
  before = learner.state.passes[0]['before']['bn_gamma']
  assert before['largest'] == 0.5
  assert before['counts'][-1] == before['of']
  iters = {phase['name']: phase['iters'] for phase in result.report['phases']}
  assert iters['press1'] == learner.rates.baseline_steps()
  assert iters['finetune'] == learner.rates.fine_tune_steps()


@pytest.mark.slow
def test_channels_of_a_trunk_are_selected_by_their_readers(run):
  _, result = run(trunk='gather', preserve_ratio=0.4, prune_option='auto', epochs=0.5)
  assert 'ChannelSelection' in kinds(result.model) or 'SlicingOpLambda' in kinds(result.model)
  assert result.report['parity']['slim_vs_masked'] < 1e-5


@pytest.mark.parametrize(
  'config',
  [
    {'penalty': 'growing', 'nb_passes': 2},
    *alike(
      {
        'penalty': 'group_lasso',
        'groups': 'filters,layers',
        'prune_option': 'zeros',
        'nb_blocks': 1,
      }
    ),
  ],
  ids=['growing', 'blocks'],
)
@pytest.mark.slow
def test_a_run_killed_under_pressure_ends_like_one_that_was_not(config, run, monkeypatch):
  whole = run('whole', **config)[1]
  with killed(monkeypatch, lambda steps: len(steps) > 4):
    run('killed', **config)
  resumed = run('killed', **config)[1]
  for one, other in zip(whole.model.get_weights(), resumed.model.get_weights(), strict=True):
    np.testing.assert_array_equal(one, other)
  assert whole.report['extra']['passes'] == resumed.report['extra']['passes']


def test_a_pre_activation_network_is_slimmed(make, helper):
  def build():
    return keras.models.clone_model(pre_activation_net(size=32, classes=10))

  net = type(helper)('pre_activation', build, helper.dataset, helper.recipe)
  learner = make(
    'reg-pruned',
    helper=net,
    training={'nb_epochs_ft': 0.3, 'nb_epochs_rat': 0.02},
    trunk='gather',
    penalty='bn_gamma',
    preserve_ratio=0.5,
    repair='batch-norm',
    skip='bn',
  )
  assert kinds(learner.build()).count('ChannelSelection') == 2
  result = learner.train()
  assert result.report['parity']['slim_vs_masked'] < 1e-5
  narrow = result.model.get_layer('b0_bn1').gamma.shape[0]
  assert narrow == len(learner.state.kept['b0_conv1:input']) < 8
