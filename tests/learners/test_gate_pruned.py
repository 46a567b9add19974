"""Gates that learn which channels go, on handwritten digits."""

import numpy as np
import pytest
import tf_keras as keras
from killing import killed

from secateurs.learners.run.results.plan_cuts import apply_plan
from secateurs.nets.model_helper import ModelHelper


@pytest.fixture
def run(make, residual, residual_weights):
  def train(folder='run', epochs=2.0, **config):
    learner = make(
      'gate-pruned',
      folder,
      run={'warm_start_path': residual_weights, 'save_step': 4},
      training={'nb_epochs_ft': epochs, 'nb_epochs_rat': 0.05},
      helper=residual,
      **({'nb_batches': 2} | config),
    )
    return learner, learner.train()

  return train


def test_gates_of_all_layers_jointly(run):
  learner, result = run(preserve_ratio=0.5)
  report = result.report
  assert report['achieved']['macs_ratio'] == pytest.approx(0.5, abs=0.03)
  assert report['parity']['gated_vs_masked'] < 1e-5
  assert report['parity']['slim_vs_masked'] < 1e-5
  assert sum(phase['iters'] for phase in report['phases']) == learner.rates.fine_tune_steps()
  for name, kept in learner.state.kept.items():
    gates = np.array(learner.state.gates[name])
    gone = np.setdiff1d(np.arange(len(gates)), kept)
    assert gates[kept].min() >= gates[gone].max()
  assert set(report['extra']['gates']) == set(learner.state.kept)
  applied = apply_plan(learner.original(), str(result.plan))
  assert applied.count_params() == result.model.count_params()


@pytest.mark.slow
def test_groups_are_gated_one_after_another(run):
  learner, result = run(
    groups='b0_*,b*', prune_ratio=0.25, repair='none', pull=10.0, init='variance'
  )
  names = [phase['name'] for phase in result.report['phases']]
  assert [n for n in names if n.startswith(('gate', 'cut'))] == ['gate1', 'cut1', 'gate2', 'cut2']
  assert [len(kept) for kept in learner.state.kept.values()] == [9, 9, 9]
  assert result.report['parity']['gated_vs_masked'] < 1e-5


@pytest.mark.slow
@pytest.mark.exhaustive
def test_a_run_killed_among_its_gates_ends_like_one_that_was_not(run, monkeypatch):
  config = {'groups': 'b0_*,b*', 'nb_updates': 4}
  whole = run('whole', **config)[1]
  with killed(monkeypatch, lambda steps: len(steps) > 9):
    run('killed', **config)
  resumed = run('killed', **config)[1]
  for one, other in zip(whole.model.get_weights(), resumed.model.get_weights(), strict=True):
    np.testing.assert_array_equal(one, other)
  assert whole.report['extra']['gates'] == resumed.report['extra']['gates']


def test_layers_of_one_name_in_two_nested_models(make, helper):
  def branch(name):
    inputs = keras.Input((32, 32, 3))
    x = keras.layers.Conv2D(8, 3, strides=4, activation='relu', name='first')(inputs)
    return keras.Model(inputs, keras.layers.Conv2D(8, 3, name='second')(x), name=name)

  def build():
    inputs = keras.Input((32, 32, 3))
    x = keras.layers.Add()([branch('one')(inputs), branch('two')(inputs)])
    x = keras.layers.GlobalMaxPooling2D()(x)
    return keras.Model(inputs, keras.layers.Dense(10, name='logits')(x))

  own = ModelHelper('branches', build, helper.dataset, helper.recipe)
  result = make('gate-pruned', helper=own, nb_batches=2).train()
  assert {'first', 'two_first'} <= {layer.name for layer in result.model.layers}
  assert result.report['parity']['gated_vs_masked'] < 1e-5
