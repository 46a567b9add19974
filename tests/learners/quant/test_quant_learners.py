"""uniform-quant and non-uniform-quant on digits."""

import numpy as np
import pytest
from alike import alike

from secateurs.learners.run.training.judging import Judge
from secateurs.utils.buckets import Buckets
from secateurs.utils.deploy.lowbits.grids import recover_steps
from secateurs.utils.deploy.packed.network import read
from secateurs.utils.errors import UserError
from secateurs.utils.model_files import load_model
from secateurs.utils.training.models.weights import kernels_by_name


@pytest.fixture
def run(make, baseline):
  """Runs a learner from the trained baseline; returns learner and result."""

  def train(name, folder='run', training=None, warm=baseline, **config):
    learner = make(
      name, folder, run={'warm_start_path': str(warm)}, training=training or {}, **config
    )
    return learner, learner.train()

  return train


def distinct(row):
  return len(np.unique(row[row != 0]))


def test_bits_meet_their_mean_and_the_file_holds_them(run):
  learner, result = run('uniform-quant', equivalent_bits=4.5, w_bit_max=6)
  extra = result.report['extra']
  assert 4.0 < extra['mean_bits'] <= 4.5
  assert len(set(extra['bits'].values())) > 1
  assert set(extra['file_bits'].values()) <= {4, 8}
  assert any('4.5 were asked for' in note for note in result.report['notes'])
  for name, kernel in kernels_by_name(result.model).items():
    rows = Buckets(tuple(kernel.shape), 'channel').rows(kernel.numpy())
    assert max(map(distinct, rows)) <= 2 ** extra['bits'][name] - 2
  quant = result.report['compressed']['quant']
  assert quant['bytes'] < 0.35 * result.report['original']['tflite_bytes']
  assert quant['score']['value'] > 0.85
  assert quant['latency'][0]['p50_ms'] > 0
  assert 'quant_top1_agreement' in result.report['parity']
  assert 'quantised file size' in (learner.files.log_dir / 'report.html').read_text()


@pytest.mark.exhaustive
def test_a_file_meets_its_bytes(run):
  _, result = run('uniform-quant', target_bytes=60_000, training={'nb_epochs_rat': 0.0})
  found = result.report['compressed']['quant']['bytes']
  assert found <= 60_000
  assert result.report['requested'] == {'max_bytes': 60_000}
  assert result.report['achieved']['max_bytes'] == found
  with pytest.raises(UserError, match='--uql_target_bytes 9000 cannot be met'):
    run('uniform-quant', 'other', target_bytes=9000)


class Killed(BaseException):
  """Stands for a kill."""


def test_a_search_resumes_and_is_reported(make, baseline, monkeypatch):
  config = {'equivalent_bits': 4.0, 'enbl_search': True, 'nb_iters_ft': 2, 'nb_smpls_scan': 200}

  def started(folder, jobs=1):
    given = config | {'nb_rlouts': 4, 'nb_rlouts_min': 2, 'jobs': jobs}
    return make('uniform-quant', folder, run={'warm_start_path': baseline}, **given)

  whole = started('whole', jobs=2)  # The same search as one after another.
  whole.run_phases(until='allocate')
  goodness, judged, most = Judge.goodness, [], 2

  def noted(self):
    if len(judged) == most:
      raise Killed
    judged.append(goodness(self))
    return judged[-1]

  monkeypatch.setattr(Judge, 'goodness', noted)
  killed = started('killed')
  with pytest.raises(Killed):
    killed.run_phases(until='allocate')
  assert len(killed.files.trials.read_text().splitlines()) == 2
  most = 4  # Another call would judge a trial twice.
  learner = started('killed')
  result = learner.train()
  search = result.report['extra']['search']
  assert search['trials'] == 4
  assert len(judged) == 4
  assert search['reward'] == max(judged)
  assert search['reward_by_curves'] == judged[0]
  assert result.report['extra']['bits'] == whole.state.bits
  assert learner.state.divergence == whole.state.divergence
  assert learner.files.trials.read_text() == whole.files.trials.read_text()


def test_integers_of_16_bits_and_floats(run):
  config = {'weight_bits': 4, 'activation_bits': 16}
  learner, result = run('uniform-quant', **config, training={'nb_epochs_rat': 0.0})
  assert result.report['parity']['quant_top1_agreement'] > 0.95
  layers = learner.verify().layers['tflite_quant']
  assert {'conv1', 'conv2', 'logits'} <= {one.layer.replace('relu', 'conv') for one in layers}
  # Images that a range was not taken from may exceed it.
  assert np.median([one.share for one in layers]) < 0.01
  assert max(one.share for one in layers) < 0.1
  _, result = run('uniform-quant', 'b', activation_bits=32, training={'nb_epochs_rat': 0.0})
  assert result.report['parity']['quant_top1_agreement'] == 1.0


def test_asymmetric_grids_that_the_file_rounds_again_are_named(run):
  _, result = run('uniform-quant', symmetric=False, training={'nb_epochs_rat': 0.0})
  kernel = kernels_by_name(result.model)['conv2'].numpy()
  _, greatest = recover_steps(kernel.reshape(-1, kernel.shape[-1]).T, 255)
  assert greatest.max() > 127  # More steps from zero than the file's integers reach.
  assert any('rounded once more' in note for note in result.report['notes'])


def test_8_bit_training_beside_it_is_refused(make, baseline):
  learner = make(
    'uniform-quant', run={'warm_start_path': baseline}, quantization={'enbl_qat': True}
  )
  with pytest.raises(UserError, match='--enbl_qat trains another 8-bit twin'):
    learner.train()


@pytest.mark.parametrize('name', ['uniform-quant', *alike('non-uniform-quant')])
def test_zeros_of_a_pruning_learner_stay(run, name):
  _, sparse = run('weight-sparse', 'sparse', prune_ratio=0.8)
  _, result = run(name, warm=sparse.files['keras'])
  before, after = kernels_by_name(sparse.model), kernels_by_name(result.model)
  for key, kernel in before.items():
    zeros = kernel.numpy() == 0
    assert (after[key].numpy()[zeros] == 0).all()
  key = 'sparsity_params'
  assert sparse.report['compressed'][key] <= result.report['compressed'][key]


def test_zeros_stay_where_fewer_are_pruned_than_there_are(run):
  _, sparse = run('weight-sparse', 'sparse', prune_ratio=0.8)
  _, result = run(
    'non-uniform-quant', warm=sparse.files['keras'], prune_ratio=0.5, nb_rounds=1, nb_smpls_scan=100
  )
  after = kernels_by_name(result.model)
  for name, kernel in kernels_by_name(sparse.model).items():
    assert (after[name].numpy()[kernel.numpy() == 0] == 0).all()


def test_deep_compression(run, baseline):
  learner, result = run(
    'non-uniform-quant',
    training={'nb_epochs_ft': 0.3},
    prune_ratio=0.7,
    nb_rounds=2,
    weight_bits=4,
    dense_bits=3,
    opt_mode='centroids',
  )
  extra = result.report['extra']
  assert set(extra['quality']) == set(extra['kept'])
  # Of the pruned kernels, as it was asked for: the smallest one stays dense.
  assert result.report['requested'] == {'sparsity': 0.7}
  assert result.report['achieved']['sparsity'] == pytest.approx(0.7, abs=1e-3)
  assert 'Left dense: conv1.' in result.report['notes']
  assert all(0 < factor < 4 for factor in extra['quality'].values())
  stages = list(extra['packed_bytes_by_stage'].values())
  assert stages == sorted(stages, reverse=True)
  assert result.report['compressed']['packed']['bytes'] == stages[-1]
  assert stages[-1] < stages[0] / 8
  for name, kernel in kernels_by_name(result.model).items():
    bits = extra['bits'][name]
    assert distinct(kernel.numpy()) <= 2**bits
    assert bits == (3 if kernel.shape.rank == 2 else 4)
  unpacked, saved = read(result.files['dc']).model(), load_model(result.files['keras'])
  for one, other in zip(unpacked.get_weights(), saved.get_weights(), strict=True):
    np.testing.assert_array_equal(one, other)
  assert 'packed file (.dc)' in (learner.files.log_dir / 'report.html').read_text()


def test_pruning_needs_steps(run):
  with pytest.raises(UserError, match='--nuql_prune_ratio prunes while the network trains'):
    run('non-uniform-quant', prune_ratio=0.5, training={'nb_epochs_rat': 0.0})
