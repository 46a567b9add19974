import numpy as np
import pytest
import tf_keras as keras

from secateurs.learners.measuring import layer_sparsities, prunable_kernels
from secateurs.learners.weight_sparse import (
  WsConfig,
  dense_kernels,
  sparsity_at,
  update_steps,
)
from secateurs.nets.resnet import cifar_resnet
from secateurs.utils.errors import UserError
from secateurs.utils.training.masks import nb_kept


def zeros(path):
  model = keras.models.load_model(path, compile=False)
  return {n: (k.numpy() == 0).sum() for n, k in prunable_kernels(model).items()}


def test_golden_schedule():
  """s_t = 0.8 * (1 - (1 - (t - 10) / 40) ^ 3), by hand."""
  config = WsConfig(prune_ratio=0.8, mask_update_step=10)
  steps = update_steps(100, config)
  assert steps == [10, 20, 30, 40, 50]
  expected = [0.0, 0.8 * (1 - 27 / 64), 0.8 * (1 - 8 / 64), 0.8 * (1 - 1 / 64), 0.8]
  np.testing.assert_allclose([sparsity_at(s, steps, config) for s in steps], expected, rtol=1e-6)
  assert sparsity_at(9, steps, config) == 0
  assert sparsity_at(99, steps, config) == 0.8


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
  sizes = {n: k.shape.num_elements() for n, k in prunable_kernels(cifar_resnet(20)).items()}
  shortcuts = {f'stage{s}_block1_shortcut_conv' for s in (2, 3)}
  assert dense_kernels(sizes, WsConfig().dense_share) == {'stem_conv', 'logits', *shortcuts}


def test_all_kernels_can_be_made_sparse(make, baseline):
  run = {'warm_start_path': baseline}
  result = make('weight-sparse', run=run, prune_ratio=0.9, dense_share=0.0).train()
  assert min(layer_sparsities(result.model).values()) > 0.89


def test_exponent_and_initial_ratio():
  config = WsConfig(prune_ratio=0.9, prune_ratio_init=0.5, prune_ratio_exp=1.0)
  steps = update_steps(1000, config)
  assert sparsity_at(steps[0], steps, config) == pytest.approx(0.5)
  middle = (steps[0] + steps[-1]) // 2
  assert sparsity_at(middle, steps, config) == pytest.approx(0.7)


@pytest.mark.parametrize('nb_steps', [1, 2, 10, 30, 60, 500, 5000, 100_000])
def test_update_steps(nb_steps):
  steps = update_steps(nb_steps, WsConfig())
  assert steps == sorted(set(steps))
  assert steps[0] >= 1
  assert steps[-1] <= max(nb_steps, 1)
  span = steps[-1] - steps[0]
  assert len(steps) >= min(21, span + 1)
  assert max(np.diff(steps), default=0) <= 100
  sparsities = [sparsity_at(s, steps, WsConfig()) for s in steps]
  assert sparsities == sorted(sparsities)
  assert sparsities[-1] == 0.75


@pytest.mark.parametrize('ratio', [0.5, 0.77, 0.999])
def test_thirty_steps_reach_the_target_to_one_weight(make, baseline, ratio):
  training = {'nb_epochs_ft': 30 * 64 / 1437}
  learner = make(
    'weight-sparse', run={'warm_start_path': baseline}, training=training, prune_ratio=ratio
  )
  result = learner.train()
  assert result.report['phases'][1]['iters'] == 30
  for name, kernel in learner.prunable(result.model).items():
    size = kernel.numpy().size
    assert zeros(result.files['keras'])[name] == size - nb_kept(size, ratio), name
  assert result.report['achieved']['sparsity'] == pytest.approx(ratio, abs=1e-3)


def test_ratio_zero_changes_no_bit(make, baseline):
  learner = make('weight-sparse', run={'warm_start_path': baseline}, prune_ratio=0.0)
  result = learner.train()
  original = keras.models.load_model(learner.original_keras, compile=False)
  for a, b in zip(original.get_weights(), result.model.get_weights(), strict=True):
    assert a.tobytes() == b.tobytes()
  assert 'prunes nothing' in result.report['notes'][0]


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
    ({'prune_ratio': float('nan')}, r'--ws_prune_ratio takes a number'),
    ({'prune_ratio_init': 0.9}, r'--ws_prune_ratio_init must not exceed --ws_prune_ratio'),
    ({'iter_ratio_beg': 0.7}, r'--ws_iter_ratio_beg must not exceed --ws_iter_ratio_end'),
    ({'prune_ratio_prtl': 'best'}, r'--ws_prune_ratio_prtl takes one of uniform'),
    ({'mask_update_step': 0}, r'--ws_mask_update_step takes a value of at least 1, but 0'),
  ],
)
def test_bad_values(options, text):
  with pytest.raises(UserError, match=text):
    WsConfig(**options)
