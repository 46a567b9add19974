import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from networks import NETS, images, randomize, residual_net, twin
from strided_networks import separable_net

from secateurs.learners.channels.allocation.ratios import nb_kept, read_ratios
from secateurs.learners.channels.cuts.cutting import dropped_inputs, keep_of, macs_form, plan_of
from secateurs.learners.channels.cuts.units import find_units
from secateurs.learners.channels.repair.method import Method
from secateurs.learners.channels.repair.reconstruct import prune
from secateurs.nets.resnet import cifar_resnet
from secateurs.utils.errors import UserError
from secateurs.utils.graph import ChannelGraph, apply_plan, count, plan_cost, plan_slice
from secateurs.utils.training.layerwise.features import Features
from secateurs.utils.training.layerwise.linear import kernel_matrix, row_channels
from secateurs.utils.training.layerwise.patches import patches

L = keras.layers
RNG = np.random.default_rng(0)


def macs_of(graph, units, counts):
  """By planning the whole network, not in closed form."""
  masks = [np.arange(unit.size) < count for unit, count in zip(units, counts)]
  return plan_cost(plan_of(graph, units, masks))[0]


def pruned(build, trunk='keep', ratio=0.5, size=8, **method):
  model = randomize(build())
  working = twin(model)
  units = find_units(ChannelGraph(model), trunk).units
  counts = {unit.name: nb_kept(unit.size, ratio, False) for unit in units}
  options = {'selection': 'backward', 'refit_all': True, 'nb_points': 20} | method
  kept, records = prune(model, working, units, counts, images(8, size=size), Method(**options))
  return model, working, units, kept, records


@pytest.mark.parametrize('name', NETS)
@pytest.mark.parametrize('trunk', ['keep', 'couple', 'gather'])
def test_slim_is_masked(name, trunk):
  model, working, units, kept, _ = pruned(NETS[name], trunk)
  graph = ChannelGraph(working)
  keep = keep_of(units, {n: np.flatnonzero(mask) for n, mask in kept.items()})
  slim = apply_plan(plan_slice(graph, keep))
  found, expected = (m(images(1)[0], training=False).numpy() for m in (slim, working))
  assert np.abs(found - expected).max() <= 1e-4 * np.ptp(expected)
  counted = count(slim).macs
  gone = [int((~kept[unit.name]).sum()) for unit in units]
  assert counted == macs_form(graph, units)(gone)
  assert counted < count(model).macs
  dropped = dropped_inputs(units, kept)
  assert dropped
  for layer, gone in dropped.items():
    assert not kernel_rows(working, layer, gone).any(), layer


def kernel_rows(model, layer, channels):
  kernel = model.get_layer(layer).kernel.numpy()
  owner = np.arange(kernel.shape[-2]) % len(channels)
  return kernel[..., channels[owner], :]


@pytest.mark.parametrize('name', NETS)
def test_refit_lowers_the_error_of_the_network(name):
  errors = {}
  for refit in (True, False):
    model, working, _, _, records = pruned(
      NETS[name], selection='magnitude', refit=refit, refit_all=refit
    )
    wanted, found = (m(images(2, seed=9)[0], training=False).numpy() for m in (model, working))
    errors[refit] = float(np.square(found - wanted).mean())
  assert errors[True] < errors[False]
  assert all(0 <= r.get('error_after', 0) <= r['error_before'] + 1e-9 for r in records)


def test_nothing_changes_at_ratio_one():
  model, working, _, _, records = pruned(residual_net, ratio=1.0)
  for a, b in zip(model.get_weights(), working.get_weights(), strict=True):
    np.testing.assert_allclose(a, b, atol=0.02)
  assert all(r['error_after'] < 1e-4 for r in records)


@pytest.mark.parametrize('name', ['b1', 'b2'])
def test_residual_compensation_lowers_the_error_behind_the_addition(name, monkeypatch):
  model = randomize(residual_net())
  errors = {}
  for compensate in (True, False):
    working = twin(model)
    units = find_units(ChannelGraph(model), 'keep').units
    counts = {unit.name: 4 for unit in units}
    first = [unit for unit in units if unit.name < f'{name}_conv2']
    last = [unit for unit in units if unit.name == f'{name}_conv2']
    prune(model, working, first, counts, images(4), Method(refit_all=False))
    with monkeypatch.context() as patch:
      if not compensate:
        patch.setattr(Features, '_lost', lambda self, target: [])
      prune(model, working, last, counts, images(8), Method(refit_all=False, nb_points=40))
    outs = [
      keras.Model(m.input, m.get_layer(f'{name}_add').output)(images(1, seed=9)[0]).numpy()
      for m in (model, working)
    ]
    errors[compensate] = float(np.square(outs[0] - outs[1]).mean())
  assert errors[True] < 0.99 * errors[False]


@pytest.mark.parametrize(
  'options',
  [
    {'kernel_size': 3, 'padding': 'same'},
    {'kernel_size': 3, 'padding': 'same', 'strides': 2},
    {'kernel_size': (1, 4), 'padding': 'same', 'strides': (1, 3)},
    {'kernel_size': 3, 'padding': 'valid', 'dilation_rate': 2},
    {'kernel_size': 3, 'padding': 'same', 'dilation_rate': 3},
    {'kernel_size': 1, 'strides': 2},
  ],
)
def test_patches_times_kernel_is_the_convolution(options):
  layer = L.Conv2D(5, use_bias=False, **options)
  maps = np.random.default_rng(0).normal(size=(2, 9, 11, 3)).astype(np.float32)
  expected = layer(maps).numpy()
  points = tuple(i.ravel() for i in np.indices(expected.shape[:3]))
  found = patches(maps, layer, points) @ kernel_matrix(layer)
  np.testing.assert_allclose(found.reshape(expected.shape), expected, atol=1e-5)


@pytest.mark.parametrize(
  'options',
  [
    {'kernel_size': 3, 'padding': 'same', 'depth_multiplier': 2},
    {'kernel_size': 3, 'padding': 'same', 'strides': 2},
    {'kernel_size': 3, 'padding': 'valid', 'dilation_rate': 2},
  ],
)
def test_what_a_depthwise_kernel_makes_times_the_pointwise_one_is_a_separable_convolution(options):
  layer = L.SeparableConv2D(5, use_bias=False, **options)
  maps = np.random.default_rng(0).normal(size=(2, 9, 11, 3)).astype(np.float32)
  expected = layer(maps).numpy()
  points = tuple(i.ravel() for i in np.indices(expected.shape[:3]))
  rows = patches(maps, layer, points)
  np.testing.assert_allclose(
    (rows @ kernel_matrix(layer)).reshape(expected.shape), expected, atol=1e-5
  )
  for channel in range(3):  # Rows belong to the channels that they are made of.
    one = maps * (np.arange(3) == channel)
    mine = row_channels(layer) == channel
    assert np.any(patches(one, layer, points)[:, mine])
    assert not np.any(patches(one, layer, points)[:, ~mine])


def test_separable_convolutions_over_sequences_are_refit_as_well():
  layer = L.SeparableConv1D(5, 3, padding='causal', use_bias=False)
  maps = np.random.default_rng(0).normal(size=(2, 9, 3)).astype(np.float32)
  expected = layer(maps).numpy()
  points = tuple(i.ravel() for i in np.indices(expected.shape[:2]))
  found = patches(maps, layer, points) @ kernel_matrix(layer)
  np.testing.assert_allclose(found.reshape(expected.shape), expected, atol=1e-5)


@pytest.mark.parametrize(('trunk', 'multiplier'), [('keep', 1), ('gather', 2)])
def test_separable_convolutions_are_cut_and_refit_by_least_squares(trunk, multiplier):
  def build():
    return separable_net(32, multiplier)

  model, working, units, kept, records = pruned(build, trunk, size=32, refit_all=False)
  assert {'b0_sep2', 'b1_sep2'} <= {record['name'] for record in records}
  graph = ChannelGraph(working)
  keep = keep_of(units, {n: np.flatnonzero(mask) for n, mask in kept.items()})
  slim = apply_plan(plan_slice(graph, keep))
  found, expected = (m(images(1, size=32)[0], training=False).numpy() for m in (slim, working))
  assert np.abs(found - expected).max() <= 1e-4 * np.ptp(expected)
  assert all(r['error_after'] <= r['error_before'] + 1e-9 for r in records)
  # The first layer that is cut reads what the original gives: by hand, over all points.
  (unit,) = (one for one in units if one.name == records[0]['name'])
  mask, layer = kept[unit.name], model.get_layer(unit.name)
  maps = keras.Model(model.input, layer.input)(np.concatenate(images(8, size=32))).numpy()
  wanted = layer(maps).numpy().reshape(-1, layer.filters)
  points = tuple(i.ravel() for i in np.indices((len(maps), *layer.output_shape[1:3])))
  rows = patches(maps, layer, points)[:, mask[row_channels(layer)]]
  centred = wanted - wanted.mean(0)
  best = np.linalg.lstsq(rows - rows.mean(0), centred, rcond=None)[0]
  left = np.square(centred - (rows - rows.mean(0)) @ best).sum() / np.square(centred).sum()
  assert records[0]['error_after'] == pytest.approx(left, rel=0.3, abs=0.02)


def test_the_target_is_what_the_original_gives_behind_other_normalisation():
  """With changed BN in the pruned network, an exact refit still gives the original's sum."""
  model = randomize(residual_net())
  working = twin(model)
  for layer in working.layers:
    if isinstance(layer, L.BatchNormalization):
      layer.gamma.assign(layer.gamma * 1.3)
      layer.moving_mean.assign_add(tf.ones_like(layer.moving_mean) * 0.2)
  units = find_units(ChannelGraph(model), 'keep').units
  counts = {unit.name: unit.size for unit in units}
  before = [m(images(1)[0], training=False).numpy() for m in (model, working)]
  prune(model, working, units, counts, images(4), Method(nb_points=30, refit_all=True, ridge=1e-9))
  after = working(images(1)[0], training=False).numpy()
  assert np.square(after - before[0]).mean() < 0.05 * np.square(before[1] - before[0]).mean()


def test_choices_made_elsewhere_are_kept_and_refit():
  model = randomize(residual_net())
  units = find_units(ChannelGraph(model), 'keep').units
  given = {unit.name: RNG.permutation(unit.size) < unit.size // 2 for unit in units}
  errors = {}
  for refit in (False, True):
    working = twin(model)
    method = Method(refit=refit, refit_all=refit)
    kept, records = prune(model, working, units, {}, images(8), method, given=given)
    for unit in units:
      np.testing.assert_array_equal(kept[unit.name], given[unit.name])
    for name, gone in dropped_inputs(units, given).items():
      assert not working.get_layer(name).kernel.numpy()[..., gone, :].any()
    assert {record['name'] for record in records} >= {n for unit in units for n in unit.readers}
    batch = images(1)[0]
    errors[refit] = float(np.square(working(batch) - model(batch)).mean())
  assert errors[True] < 0.5 * errors[False]


def test_units_of_resnet20():
  graph = ChannelGraph(cifar_resnet(20))
  keep = find_units(graph, 'keep')
  assert [unit.size for unit in keep.units] == [16] * 3 + [32] * 3 + [64] * 3
  assert all(unit.name.endswith('conv2') for unit in keep.units)
  assert len(keep.left) == 3
  couple = find_units(graph, 'couple').units
  assert len(couple) == 12
  assert max(len(unit.readers) for unit in couple) == 5
  gather = find_units(graph, 'gather').units
  assert len(gather) == 9 + 9 + 2
  half = [unit.size // 2 for unit in keep.units]
  assert macs_of(graph, keep.units, half) / graph.counts().macs == pytest.approx(0.5086, abs=1e-3)


def test_skipping():
  graph = ChannelGraph(cifar_resnet(20))
  found = find_units(graph, 'keep', ['stage1_*', 'stage3_block1_conv1'])
  assert [unit.name for unit in found.units] == [
    *(f'stage2_block{i}_conv2' for i in (1, 2, 3)),
    *(f'stage3_block{i}_conv2' for i in (2, 3)),
  ]
  assert sum('named by --cp_skip' in text for text in found.left) == 4
  with pytest.raises(UserError, match=r"--cp_skip names 'stage4_.'"):
    find_units(graph, 'keep', ['stage4_*'])


def test_protected_and_odd_layers_stay_whole():
  x = inputs = L.Input((8, 8, 3))
  x = L.Conv2D(8, 3, name='a')(x)
  x = L.Conv2D(8, 3, groups=2, name='grouped')(x)
  shared = L.Conv2D(8, 3, padding='same', name='shared')
  x = shared(shared(x))
  x = L.Conv2D(4, 1, name='last')(x)
  found = find_units(ChannelGraph(keras.Model(inputs, x)), 'couple')
  assert not {'grouped', 'shared'} & {name for unit in found.units for name in unit.readers}
  assert found.left


@pytest.mark.parametrize(
  ('size', 'ratio', 'quadruple', 'expected'),
  [(16, 0.5, False, 8), (16, 0, False, 1), (16, 1, False, 16), (15, 0.5, False, 8)]
  + [(16, 0.3, True, 8), (16, 0.01, True, 4), (3, 0.5, True, 3), (18, 0.95, True, 18)],
)
def test_nb_kept(size, ratio, quadruple, expected):
  assert nb_kept(size, ratio, quadruple) == expected


def test_ratio_lists(tmp_path):
  units = find_units(ChannelGraph(cifar_resnet(20)), 'keep').units
  path = tmp_path / 'ratio.list'
  path.write_text('0.1, 0.2 0.3  # stage 1\n0.4\n0.5\n\n0.6\n0.7\n1\n0\n')
  assert read_ratios(str(path), units, 'cp_prune_list_file') == [
    0.1,
    0.2,
    0.3,
    0.4,
    0.5,
    0.6,
    0.7,
    1.0,
    0.0,
  ]
  for text, error in [
    (
      '0.5\n' * 8,
      'holds 8 ratios, but 9 were expected, one for the inputs of each of ',
    ),
    ('1.5\n' * 9, r"takes numbers in \[0, 1\], but it contains '1.5'"),
    ('half\n' * 9, "but it contains 'half'"),
  ]:
    path.write_text(text)
    with pytest.raises(UserError, match=error):
      read_ratios(str(path), units, 'cp_prune_list_file')
  with pytest.raises(UserError, match='cannot be read'):
    read_ratios(str(tmp_path / 'none'), units, 'cp_prune_list_file')
