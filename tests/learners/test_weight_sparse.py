import itertools
import json

import numpy as np
import pytest
import tf_keras as keras

from secateurs.learners.run.results.measuring import layer_sparsities
from secateurs.learners.weights.allocation import MeasuredAllocation, Site
from secateurs.learners.weights.configs import WsConfig
from secateurs.learners.weights.patterns import parse_pattern
from secateurs.learners.weights.ratios import dense_kernels
from secateurs.learners.weights.regression import Regression
from secateurs.learners.weights.schedule import round_density
from secateurs.learners.weights.xnnpack import xnnpack_kernels
from secateurs.nets import lstm
from secateurs.nets.model_helper import ModelHelper
from secateurs.nets.resnet import cifar_resnet
from secateurs.utils.errors import UserError
from secateurs.utils.training.engine.loop import TrainStep
from secateurs.utils.training.engine.masks import nb_kept
from secateurs.utils.training.engine.muon import Muon
from secateurs.utils.training.engine.patterns import Blocks, MByN, OneByN, Unstructured, top_k_mask
from secateurs.utils.training.models.weights import kernels_by_name


def zeros(path):
  model = keras.models.load_model(path, compile=False)
  return {n: (k.numpy() == 0).sum() for n, k in kernels_by_name(model).items()}


def test_layers_of_several_kernels():
  layers = keras.layers
  inputs = keras.Input((8, 8, 4))
  x = layers.SeparableConv2D(4, 3, name='separable')(inputs)
  x = layers.Reshape((36, 4))(x)
  model = keras.Model(inputs, layers.MultiHeadAttention(2, 2, name='attention')(x, x))
  kernels = kernels_by_name(model)
  assert list(kernels) == [
    'separable', 'separable/pointwise_kernel', 'attention', 'attention/key/kernel',
    'attention/value/kernel', 'attention/attention_output/kernel',
  ]  # fmt: skip
  assert len({kernel.ref() for kernel in kernels.values()}) == 6
  pointwise = kernels['separable/pointwise_kernel']
  pointwise.assign(pointwise * 0)
  assert layer_sparsities(model) == {'separable': 16 / (36 + 16), 'attention': 0.0}


def test_golden_schedule():
  """s_t = 0.8 * (1 - (1 - (t - 10) / 40) ^ 3), by hand."""
  config = WsConfig(prune_ratio=0.8, mask_update_step=10)
  steps = config.rise.update_steps(100)
  assert steps == [10, 20, 30, 40, 50]
  expected = [0.0, 0.8 * (1 - 27 / 64), 0.8 * (1 - 8 / 64), 0.8 * (1 - 1 / 64), 0.8]
  np.testing.assert_allclose(
    [config.rise.sparsity_at(s, steps) for s in steps], expected, rtol=1e-6
  )
  assert config.rise.sparsity_at(9, steps) == 0
  assert config.rise.sparsity_at(99, steps) == 0.8


@pytest.mark.parametrize(
  ('sizes', 'share', 'dense'),
  [
    ({'a': 1, 'b': 2, 'c': 97}, 0.03, {'a', 'b'}),
    ({'a': 1, 'b': 2, 'c': 97}, 0.029, {'a'}),
    ({'a': 1, 'b': 2, 'c': 97}, 0.0, set()),
    ({'a': 1, 'b': 1, 'c': 98}, 0.015, set()),  # Alike: both or none.
    ({'a': 1, 'b': 1, 'c': 98}, 0.02, {'a', 'b'}),
    ({'a': 5}, 1.0, set()),  # Never all of them.
  ],
)
def test_dense_kernels(sizes, share, dense):
  assert dense_kernels(sizes, share) == dense


def test_dense_kernels_of_resnet20():
  sizes = {n: k.shape.num_elements() for n, k in kernels_by_name(cifar_resnet(20)).items()}
  shortcuts = {f'stage{s}_block1_shortcut_conv' for s in (2, 3)}
  assert dense_kernels(sizes, WsConfig().dense_share) == {'stem_conv', 'logits', *shortcuts}


def test_all_kernels_can_be_made_sparse(make, baseline):
  run = {'warm_start_path': baseline}
  result = make('weight-sparse', run=run, prune_ratio=0.9, dense_share=0.0).train()
  assert min(layer_sparsities(result.model).values()) > 0.89


def test_exponent_and_initial_ratio():
  config = WsConfig(prune_ratio=0.9, prune_ratio_init=0.5, prune_ratio_exp=1.0)
  steps = config.rise.update_steps(1000)
  assert config.rise.sparsity_at(steps[0], steps) == pytest.approx(0.5)
  middle = (steps[0] + steps[-1]) // 2
  assert config.rise.sparsity_at(middle, steps) == pytest.approx(0.7)


@pytest.mark.parametrize('nb_steps', [1, 2, 10, 30, 60, 500, 5000, 100_000])
def test_update_steps(nb_steps):
  steps = WsConfig().rise.update_steps(nb_steps)
  assert steps == sorted(set(steps))
  assert steps[0] >= 1
  assert steps[-1] <= max(nb_steps, 1)
  span = steps[-1] - steps[0]
  assert len(steps) >= min(21, span + 1)
  assert max(np.diff(steps), default=0) <= 100
  sparsities = [WsConfig().rise.sparsity_at(s, steps) for s in steps]
  assert sparsities == sorted(sparsities)
  assert sparsities[-1] == 0.75


@pytest.mark.parametrize('ratio', [0.5, 0.77, 0.999])
def test_thirty_steps_reach_the_target_to_one_weight(make, baseline, ratio):
  training = {'nb_epochs_ft': 30 * 64 / 1437}
  learner = make(
    'weight-sparse', run={'warm_start_path': baseline}, training=training, prune_ratio=ratio
  )
  result = learner.train()
  assert {p['name']: p for p in result.report['phases']}['sparsify']['iters'] == 30
  for name, kernel in learner.prunable(result.model).items():
    size = kernel.numpy().size
    assert zeros(result.files['keras'])[name] == size - nb_kept(size, ratio), name
  assert result.report['achieved']['sparsity'] == pytest.approx(ratio, abs=1e-3)


def test_ratio_zero_changes_no_bit(make, baseline):
  learner = make('weight-sparse', run={'warm_start_path': baseline}, prune_ratio=0.0)
  result = learner.train()
  original = keras.models.load_model(learner.files.original_keras, compile=False)
  for a, b in zip(original.get_weights(), result.model.get_weights(), strict=True):
    assert a.tobytes() == b.tobytes()
  assert 'removes nothing' in result.report['notes'][0]


def test_ratio_one_keeps_one_weight_a_kernel(make, baseline, capsys):
  learner = make('weight-sparse', run={'warm_start_path': baseline}, prune_ratio=1.0)
  result = learner.train()
  kernels = learner.prunable(result.model).values()
  assert all((k.numpy() != 0).sum() == 1 for k in kernels)
  assert 'Warning: --ws_prune_ratio 1 leaves one weight' in capsys.readouterr().out


def test_zeros_survive_bfloat16_and_int8(make, baseline):
  run = {'warm_start_path': baseline, 'enbl_bf16': True, 'export_int8': True}
  learner = make('weight-sparse', run=run, prune_ratio=0.9)
  result = learner.train()
  shares = layer_sparsities(result.model)
  assert all(shares[name] >= 0.89 for name in learner.prunable(result.model))
  block = result.report['compressed']
  assert block['tflite_gzip_bytes'] < 0.45 * block['tflite_bytes']
  assert block['int8']['gzip_bytes'] < 0.7 * block['int8']['bytes']


@pytest.mark.parametrize(
  ('options', 'text'),
  [
    ({'prune_ratio': 1.5}, r'--ws_prune_ratio takes a value in \[0.0, 1.0\], but 1.5 was given'),
    ({'prune_ratio': -0.1}, r'--ws_prune_ratio takes'),
    ({'prune_ratio': float('nan')}, r'--ws_prune_ratio takes a finite number'),
    ({'prune_ratio_init': 0.9}, r'--ws_prune_ratio_init must not exceed --ws_prune_ratio'),
    ({'iter_ratio_beg': 0.7}, r'--ws_iter_ratio_beg must not exceed --ws_iter_ratio_end'),
    ({'prune_ratio_prtl': 'best'}, r'--ws_prune_ratio_prtl takes one of uniform'),
    ({'prune_ratio': 0.75, 'm_by_n': '2,4'}, r'--ws_m_by_n 2,4 makes 0.5 of the weights zero'),
    ({'m_by_n': '4,2'}, r'--ws_m_by_n takes how many of how many'),
    ({'block_size': '1by4'}, r'--ws_block_size takes <inputs>x<outputs>'),
    ({'block_size': '1x4', 'm_by_n': '2,4'}, r'two patterns: give only one'),
    ({'m_by_n': '2,4', 'prune_ratio_prtl': 'heurist'}, r'--ws_m_by_n 2,4 makes the same fraction'),
    ({'m_by_n': '2,4', 'prune_ratio_prtl': 'optimal'}, r'--ws_prune_ratio_prtl optimal was given'),
    ({'rearrange': False}, r'--nows_rearrange has an effect only with --ws_pattern 1x'),
    ({'rearrange': False, 'pattern': 'kernel'}, r'has an effect only with --ws_pattern 1x'),
    ({'policy': 'gpu'}, r'--ws_policy takes one of xnnpack'),
    ({'mask_update_step': 0}, r'--ws_mask_update_step takes a value of at least 1, but 0'),
  ],
)
def test_bad_values(options, text):
  with pytest.raises(UserError, match=text):
    WsConfig(**options)


def test_patterns_from_flags():
  assert parse_pattern('1x1', None) == Unstructured()
  assert parse_pattern('2x4', None) == Blocks(2, 4)
  assert parse_pattern('1x1', '2, 4') == MByN(2, 4)
  assert parse_pattern('1x1', None, 'kernel') == OneByN(1)
  with pytest.raises(UserError, match='--ws_pattern sets where zeros lie'):
    parse_pattern('1x1', '2,4', 'kernel')
  for block, m_by_n in (('0x4', None), ('x', None), ('1x1', '4,4'), ('1x1', '0,4'), ('1x2', '2,4')):
    with pytest.raises(UserError):
      parse_pattern(block, m_by_n)


# Protocols, schedules and patterns, end to end.


def kept_weights(learner, model):
  return {n: int((k.numpy() != 0).sum()) for n, k in learner.prunable(model).items()}


@pytest.mark.parametrize('protocol', ['heurist', 'sensitivity', 'optimal'])
def test_protocols_meet_the_total(make, baseline, protocol, capsys):
  scan = {'nb_smpls_scan': 200}
  search = {'nb_rlouts': 4, 'nb_rlouts_min': 3, 'nb_iters_ft': 2}
  own = {'heurist': {}, 'sensitivity': scan, 'optimal': scan | search}[protocol]
  options = {'prune_ratio': 0.9, 'prune_ratio_prtl': protocol, **own}
  learner = make('weight-sparse', run={'warm_start_path': baseline}, **options)
  result = learner.train()
  kept = kept_weights(learner, result.model)
  assert kept == result.report['extra']['kept']
  sizes = {n: k.numpy().size for n, k in learner.prunable(result.model).items()}
  assert sum(kept.values()) == nb_kept(sum(sizes.values()), 0.9)
  shares = [kept[name] / size for name, size in sizes.items()]
  assert max(shares) > min(shares) + 0.005
  out = capsys.readouterr().out
  if protocol == 'optimal':
    assert result.report['extra']['search']['trials'] == 4
    assert 'trial 1/4' in out
    assert len(learner.files.save_path.with_name('search.jsonl').read_text().splitlines()) == 4
  if protocol == 'sensitivity':
    assert set(result.report['extra']['sensitivity']) == set(sizes)
    page = (learner.files.log_dir / 'report.html').read_text()
    assert 'Sensitivity' in page
  if protocol != 'heurist':
    assert any('--nb_smpls_val holds others out' in note for note in result.report['notes'])


@pytest.mark.slow
@pytest.mark.parametrize('protocol', ['sensitivity', 'optimal'])
def test_what_two_networks_measure_is_what_one_does(make, baseline, protocol):
  search = {'nb_rlouts': 3, 'nb_rlouts_min': 2, 'nb_iters_ft': 2}
  found = []
  for jobs in (1, 2):
    learner = make(
      'weight-sparse',
      f'jobs{jobs}',
      run={'warm_start_path': baseline},
      prune_ratio=0.8,
      prune_ratio_prtl=protocol,
      nb_smpls_scan=100,
      jobs=jobs,
      **(search if protocol == 'optimal' else {}),
    )
    learner.run_phases(until='allocate')
    state, file = learner.state, learner.files.trials
    text = file.read_text() if protocol == 'optimal' else ''
    found.append((state.sensitivity, state.divergence, state.kept, text))
  assert found[0] == found[1]
  assert len(found[0][-1].splitlines()) == (3 if protocol == 'optimal' else 0)


def test_multi_objective_may_keep_fewer_weights(make, baseline):
  search = {'nb_rlouts': 6, 'nb_rlouts_min': 6, 'nb_iters_ft': 0, 'nb_smpls_scan': 200}
  options = {
    'prune_ratio': 0.5,
    'prune_ratio_prtl': 'optimal',
    'reward_type': 'multi-obj',
    **search,
  }
  learner = make('weight-sparse', run={'warm_start_path': baseline}, **options)
  result = learner.train()
  sizes = {n: k.numpy().size for n, k in learner.prunable(result.model).items()}
  assert sum(kept_weights(learner, result.model).values()) <= nb_kept(sum(sizes.values()), 0.5)
  costs = [
    json.loads(line)['cost']
    for line in learner.files.save_path.with_name('search.jsonl').read_text().splitlines()
  ]
  assert min(costs) < max(costs)


def test_no_trial_leaks_into_the_run(make, baseline):
  """Searches that can only give one result lead to the same weights, whatever their trials do."""
  shared = {'prune_ratio': 0.9, 'prune_ratio_prtl': 'optimal', 'nb_rlouts': 1, 'nb_smpls_scan': 100}
  run = {'warm_start_path': baseline}
  found = make('weight-sparse', 'a', run=run, nb_iters_ft=3, **shared).train()
  given = make('weight-sparse', 'b', run=run, nb_iters_ft=0, **shared).train()
  for a, b in zip(found.model.get_weights(), given.model.get_weights(), strict=True):
    np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize('optimizer', [keras.optimizers.SGD, Muon])
def test_trials_train_as_the_run_does(make, baseline, optimizer):
  kind = optimizer.__name__.lower()
  options = {
    'prune_ratio': 0.9,
    'prune_ratio_prtl': 'optimal',
    'nb_iters_ft': 7,
    'lrn_rate_ft': 0.02,
  }
  learner = make(
    'weight-sparse', run={'warm_start_path': baseline}, training={'optimizer_ft': kind}, **options
  )
  learner.model = learner.helper.build_model(0)
  learner.prepare()
  site = Site.of(learner, learner.prunable, lambda: learner.files.trials)
  measured = MeasuredAllocation(site, learner.config, learner.state, lambda: None)
  (reward,) = measured._rewards([learner.model], Regression({}, 0, 1.0))._judges
  trial = reward._step.optimizer
  assert type(trial) is optimizer
  rates = [float(trial._learning_rate(step)) for step in (0, 7)]  # Down to zero within the trial.
  assert rates == pytest.approx([0.02, 0.0])


def test_iterative_rounds_only_ever_prune(make, baseline):
  options = {'prune_ratio': 0.9, 'schedule': 'iterative', 'nb_rounds': 3, 'nb_smpls_scan': 200}
  learner = make('weight-sparse', run={'warm_start_path': baseline}, **options)
  sparsities, zero = [], []
  train = learner._train

  def watch(*args, **options):
    zero.append([k.numpy() == 0 for k in learner._kernels.values()])
    train(*args, **options)
    sparsities.append(learner._masks.sparsity())

  learner._train = watch
  result = learner.train()
  assert [p['name'] for p in result.report['phases']] == [
    'baseline', 'allocate', 'round1', 'round2', 'round3', 'measure', 'other',
  ]  # fmt: skip
  assert sparsities == sorted(sparsities)
  assert sparsities[-1] == pytest.approx(0.9, abs=1e-3)
  for before, after in itertools.pairwise(zero):
    assert all((b | ~a).all() for a, b in zip(before, after, strict=True))
  assert round_density(3, 3, 0.1) == pytest.approx(0.1)
  assert round_density(1, 2, 0.25) == pytest.approx(0.5)


def test_one_shot_trains_the_survivors_only(make, baseline):
  options = {'prune_ratio': 0.8, 'schedule': 'one-shot'}
  learner = make('weight-sparse', run={'warm_start_path': baseline}, **options)
  result = learner.train()
  original = keras.models.load_model(learner.files.original_keras, compile=False)
  old, new = learner.prunable(original), learner.prunable(result.model)
  for name, kernel in new.items():
    survivors = top_k_mask(np.abs(old[name].numpy()), nb_kept(old[name].numpy().size, 0.8))
    np.testing.assert_array_equal(kernel.numpy() != 0, survivors)


def test_a_killed_iterative_run_goes_on(make, baseline, monkeypatch):
  options = {
    'run': {'warm_start_path': baseline, 'save_step': 3},
    'prune_ratio': 0.9,
    'schedule': 'iterative',
    'nb_rounds': 2,
    'nb_smpls_scan': 100,
  }
  whole = make('weight-sparse', 'whole', **options).train()
  learner, run, calls = make('weight-sparse', 'killed', **options), TrainStep.run, []

  def die(self, batches, nb_steps):
    calls.append(nb_steps)
    if sum(calls) > 20:
      raise KeyboardInterrupt
    return run(self, batches, nb_steps)

  with monkeypatch.context() as patch:
    patch.setattr(TrainStep, 'run', die)
    with pytest.raises(KeyboardInterrupt):
      learner.train()
  resumed = make('weight-sparse', 'killed', **options).train()
  for a, b in zip(whole.model.get_weights(), resumed.model.get_weights(), strict=True):
    np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize(
  ('options', 'group'), [({'block_size': '1x4'}, (1, 4)), ({'m_by_n': '2,4'}, None)]
)
def test_patterns(make, baseline, options, group):
  learner = make('weight-sparse', run={'warm_start_path': baseline}, **options)
  result = learner.train()
  ratio = 0.75 if group else 0.5
  for kernel in learner.prunable(result.model).values():
    values = kernel.numpy()
    assert np.mean(values == 0) == pytest.approx(ratio, abs=8 / values.size)
    if group:
      flat = values.reshape(-1, values.shape[-1])
      whole = flat[:, : flat.shape[1] // 4 * 4].reshape(len(flat), -1, 4) == 0
      assert (whole.all(-1) | ~whole.any(-1)).all()
    else:
      zeros = (values == 0).reshape(*values.shape[:-2], -1, 4, values.shape[-1]).sum(-2)
      assert (zeros == 2).all()


def test_recurrent_kernels_and_embeddings_are_pruned(make, helper):
  network = lstm.network(lstm.LstmConfig(lstm_units=8))

  def build():
    return network.build((32, 32, 3), 10)

  layers = keras.layers
  x = inputs = layers.Input((5,))
  x = layers.LSTM(4, name='reader')(layers.Embedding(30, 6, name='words')(x))
  named = kernels_by_name(keras.Model(inputs, layers.Dense(3, name='logits')(x)))
  assert list(named) == ['words', 'reader', 'reader/recurrent_kernel', 'logits']
  own = ModelHelper('lstm', build, helper.dataset, helper.recipe)
  learner = make('weight-sparse', helper=own, schedule='one-shot', prune_ratio=0.5)
  result = learner.train()
  for name in ('lstm1', 'lstm1/recurrent_kernel', 'lstm2/recurrent_kernel'):
    values = kernels_by_name(result.model)[name].numpy()
    assert np.mean(values == 0) == pytest.approx(0.5, abs=1 / values.size)
  assert result.report['achieved']['sparsity'] == pytest.approx(0.5, abs=1e-3)


def test_single_kernels_go_as_a_whole(make, baseline):
  learner = make(
    'weight-sparse', run={'warm_start_path': baseline}, pattern='kernel', schedule='one-shot'
  )
  result = learner.train()
  assert not learner.session.is_done('rearrange')
  kernel = kernels_by_name(result.model)['conv2'].numpy()
  zero = (kernel == 0).all(axis=(0, 1))
  assert ((kernel == 0).any(axis=(0, 1)) == zero).all()
  assert zero.mean() == pytest.approx(0.75, abs=1 / zero.size)


def test_blocks_that_fit_no_kernel(make, baseline):
  learner = make('weight-sparse', run={'warm_start_path': baseline}, block_size='9999x1')
  with pytest.raises(UserError, match='No kernel of lenet can have zeros'):
    learner.train()


def test_1xn_blocks_of_sorted_channels(make, baseline, capsys):
  learner = make('weight-sparse', run={'warm_start_path': baseline}, pattern='1x2', prune_ratio=0.5)
  result = learner.train()
  assert 'rearrange  4 of 5 channel groups' in capsys.readouterr().out
  assert result.report['phases'][1]['name'] == 'rearrange'
  assert any('blocks of whole kernels' in note for note in result.report['notes'])
  for name in learner.state.kept:
    values = kernels_by_name(result.model)[name].numpy()
    pairs = (values != 0).reshape(-1, *values.shape[-2:-1], values.shape[-1] // 2, 2)
    whole = pairs.any(axis=(0, 3))
    assert (pairs.all(axis=(0, 3)) == whole).all()
    assert whole.mean() == pytest.approx(0.5, abs=0.02)
  for given, message in (
    (('4x4', {}), 'takes 1x'),
    (('1x4', {'block_size': '1x2'}), 'sets where zeros lie'),
  ):
    with pytest.raises(UserError, match=message):
      WsConfig(pattern=given[0], **given[1])


def test_given_zeros_move_with_sorted_channels(make, baseline):
  sparse = make('weight-sparse', 'sparse', run={'warm_start_path': baseline}, prune_ratio=0.5)
  warm = str(sparse.train().files['keras'])
  learner = make('weight-sparse', run={'warm_start_path': warm}, pattern='1x2')
  learner.run_phases(until='rearrange')
  for kernel, mask in zip(learner._kernels.values(), learner._masks.masks, strict=True):
    np.testing.assert_array_equal(kernel.numpy() != 0, mask.numpy() != 0)
    assert 0.4 < np.mean(mask.numpy()) < 0.6


def test_the_xnnpack_policy_names_what_stands_in_the_way(make, baseline):
  learner = make('weight-sparse', run={'warm_start_path': baseline}, policy='xnnpack')
  with pytest.raises(UserError, match=r'--ws_policy xnnpack does not fit .* \(Could not find'):
    learner.train()


def sparse_ready(activation='relu6'):
  layers = keras.layers
  inputs = keras.Input((32, 32, 3))
  x = layers.ZeroPadding2D(1)(inputs)
  x = layers.Conv2D(8, 3, 2, 'valid', name='stem')(x)
  x = layers.Conv2D(16, 1, name='point')(x)
  x = layers.Activation(activation, name='act')(x)
  x = layers.DepthwiseConv2D(3, padding='same', name='depth')(x)
  x = layers.Conv2D(16, 1, name='point2')(x)
  x = layers.GlobalAveragePooling2D(keepdims=True)(x)
  return keras.Model(inputs, layers.Flatten()(layers.Conv2D(10, 1, name='head')(x)))


def test_the_xnnpack_policy_tells_where_it_pays(make, baseline):
  learner = make('weight-sparse', run={'warm_start_path': baseline}, policy='xnnpack')
  learner.model = sparse_ready()
  learner.prepare()
  notes = learner._notes()
  assert 'XNNPACK takes its sparse kernels on ARM' in notes[0]
  assert not any('unstructured' in note for note in notes)


def test_xnnpack_kernels():
  model = sparse_ready()
  names = kernels_by_name(model)
  assert xnnpack_kernels(model, names) == {'point', 'point2', 'head'}
  with pytest.raises(UserError, match=r'layer act \(Activation\) has no sparse kernel'):
    xnnpack_kernels(sparse_ready('tanh'), names)
