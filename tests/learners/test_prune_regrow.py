"""Channels that are pruned and regrow while the network trains, on handwritten digits."""

import numpy as np
import pytest
from killing import killed

from secateurs.learners.run.results.plans import read_plan
from secateurs.utils.errors import UserError
from secateurs.utils.training.models.weight_files import read_weights


@pytest.fixture
def run(make, residual, residual_weights):
  def train(folder='run', epochs=2.0, rat=0.05, weights=residual_weights, **config):
    learner = make(
      'prune-regrow',
      folder,
      run={'warm_start_path': weights, 'save_step': 4},
      training={'nb_epochs_ft': epochs, 'nb_epochs_rat': rat},
      helper=residual,
      **({'criterion': 'bn_gamma'} | config),
    )
    return learner, learner.train()

  return train


def test_the_structure_changes_until_it_is_final(run, capsys):
  learner, result = run(preserve_ratio=0.5, every=0.25)
  report, state = result.report, learner.state
  assert report['achieved']['macs_ratio'] == pytest.approx(0.5, abs=0.03)
  assert report['parity']['slim_vs_masked'] < 1e-5
  assert report['pruned'] is None  # No training follows the slice.
  assert 'Sliced, after all training: ' in capsys.readouterr().out
  steps = [change['step'] for change in state.changes]
  assert steps == sorted(set(steps))
  assert steps[-1] == round(0.5 * learner.rates.fine_tune_steps())
  channels = [sum(change['kept'].values()) for change in state.changes]
  assert channels[0] > channels[-1] == sum(map(len, state.kept.values()))
  drawn = report['extra']['structure']['b0_conv1']
  assert list(drawn[0]) == [0.0, 1.0]
  assert list(drawn[-1]) == [1.0, len(state.kept['b0_conv1']) / 12]


@pytest.fixture(scope='session')
def sparse_weights(residual_weights, tmp_path_factory):
  """The same with two thirds of the weights of each convolution at zero."""
  rng, weights = np.random.default_rng(0), read_weights(residual_weights)
  for name, value in weights.items():
    if value.ndim == 4:
      weights[name] = value * (rng.random(value.shape) > 2 / 3)
  path = tmp_path_factory.mktemp('sparse') / 'sparse.npz'
  np.savez(path, **weights)
  return str(path)


def test_structured_zeros_in_place_of_a_slice(run, sparse_weights):
  config = {'slice': False, 'prune_option': 'uniform', 'first': 'random', 'trunk': 'couple'}
  learner, result = run(weights=sparse_weights, **config)
  report, kept = result.report, learner.state.kept['b1_conv1']
  assert report['achieved']['macs_ratio'] == 1
  assert report['achieved']['sparsity'] > 0.8
  kernel = result.model.get_layer('b1_conv1').kernel.numpy()
  filters = kernel.any(axis=(0, 1, 2))
  assert np.flatnonzero(filters).tolist() == kept
  # Channels that were pruned at first are read again; zeros that the network came with stay.
  rows = result.model.get_layer('b1_conv2').kernel.numpy()
  assert np.flatnonzero(rows.any(axis=(0, 1, 3))).tolist() == kept
  given = read_weights(sparse_weights)['b1_conv2/kernel']
  assert not rows[given == 0].any()
  assert 'tflite_sparse' in result.files
  assert learner.state.changes[0]['step'] == 0
  cuts = {cut.layer: cut.kept for cut in read_plan(result.plan).channels}
  assert cuts['b1_conv1'] == kept


@pytest.mark.slow
@pytest.mark.exhaustive
def test_from_scratch_trains_the_whole_schedule(run):
  learner, result = run(start='scratch', rat=0.03)
  phase = next(p for p in result.report['phases'] if p['name'] == 'explore')
  assert phase['iters'] == learner.rates.baseline_steps()
  assert learner.augmentation == 'all'


def test_no_steps_are_refused(run):
  with pytest.raises(UserError, match='prunes while it trains'):
    run(epochs=0.0)


@pytest.mark.slow
def test_a_run_killed_between_changes_ends_like_one_that_was_not(run, monkeypatch):
  config = {'preserve_ratio': 0.5, 'every': 0.2}
  whole = run('whole', **config)[1]
  with killed(monkeypatch, lambda steps: sum(steps) > 12):
    run('killed', **config)
  learner, resumed = run('killed', **config)
  for one, other in zip(whole.model.get_weights(), resumed.model.get_weights(), strict=True):
    np.testing.assert_array_equal(one, other)
  assert len(learner.state.changes) > 1
