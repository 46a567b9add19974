"""Which weights belong to a channel, what is chosen by their norms, and blocks that go as a whole."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from networks import (
  NETS,
  bottleneck_net,
  depthwise_net,
  images,
  pre_activation_net,
  randomize,
  residual_net,
)

from secateurs.learners.channels.allocation.ranked import Ranked
from secateurs.learners.channels.cuts.filter_units import filter_units
from secateurs.learners.pressure import deciding, places
from secateurs.learners.pressure.blocks import BlockMasks, find_branches
from secateurs.learners.pressure.kinds import groups_of
from secateurs.learners.pressure.masking import PassMasks
from secateurs.learners.pressure.owners import layers_of, offsets, weight_owners
from secateurs.learners.pressure.pressed import Pressed
from secateurs.learners.pressure.rp_config import RpConfig
from secateurs.learners.pressure.selections import with_selections
from secateurs.learners.pressure.submodel import SubModel
from secateurs.utils.errors import UserError
from secateurs.utils.graph import ChannelGraph, ChannelSelection, apply_plan, masked, plan_slice
from secateurs.utils.graph.slicing.planning import Plan

L = keras.layers


def setting(build, trunk='couple'):
  model = randomize(build())
  graph = ChannelGraph(model)
  return model, graph, filter_units(graph, trunk).units


@pytest.mark.parametrize('name', sorted(NETS))
def test_slices_belong_to_the_channels_that_slicing_drops(name):
  model, graph, units = setting(NETS[name])
  places, owned = offsets(units), weight_owners(graph, units)
  for unit in units:
    for element in (0, unit.size - 1):
      keep = {unit.key: np.arange(unit.size) != element}
      slim = apply_plan(plan_slice(graph, keep))
      number = places[unit.name].start + element
      slices = {}
      for one in owned:
        slices.setdefault((one.layer, one.weight), []).append(
          (one.axis, int((one.owners == number).sum()))
        )
      whole, small = layers_of(model), layers_of(slim)
      for (layer, weight), lost in slices.items():
        before, after = (getattr(net[layer], weight) for net in (whole, small))
        expected = list(before.shape)
        for axis, count in lost:
          expected[axis] -= count
        assert list(after.shape) == expected, (layer, weight)


def test_sides_of_a_channel():
  _, graph, units = setting(depthwise_net)
  sides = {(one.layer, one.weight, one.axis): one.side for one in weight_owners(graph, units)}
  assert sides['pw0', 'kernel', 3] == sides['dw1', 'depthwise_kernel', 2] == 'made'
  assert sides['pw1', 'kernel', 2] == 'read'
  assert sides['pw1', 'kernel', 3] == 'made'


def separable_net():
  x = inputs = L.Input((8, 8, 3))
  x = L.Conv2D(6, 3, padding='same', activation='relu', name='conv')(x)
  x = L.SeparableConv2D(5, 3, depth_multiplier=2, activation='relu', name='separable')(x)
  return keras.Model(inputs, L.Dense(4, name='logits')(L.GlobalAveragePooling2D()(x)))


def grouped_net():
  x = inputs = L.Input((8, 8, 3))
  x = L.Conv2D(16, 3, use_bias=False, name='conv')(x)
  x = L.ReLU()(L.GroupNormalization(16, name='norm')(x))
  x = L.Conv2D(12, 3, groups=2, activation='relu', name='grouped')(x)
  return keras.Model(inputs, L.Dense(4, name='logits')(L.GlobalAveragePooling2D()(x)))


def summed_net():
  x = inputs = L.Input((8, 8, 3))
  x = L.Conv2D(5, 3, activation='relu', name='read')(x)
  x = L.Conv2D(6, 3, activation='relu', name='summed')(x)
  return keras.Model(inputs, L.Dense(4, name='logits')(L.Flatten()(tf.reduce_sum(x, -1))))


def test_both_kernels_of_a_separable_convolution_read():
  model, graph, units = setting(separable_net)
  sides = {(one.layer, one.weight, one.axis): one.side for one in weight_owners(graph, units)}
  assert sides['separable', 'depthwise_kernel', 2] == 'read'
  assert sides['separable', 'pointwise_kernel', 2] == 'read'
  assert sides['separable', 'pointwise_kernel', 3] == 'made'
  kernel = model.get_layer('conv').kernel.numpy().reshape(-1, 6)
  made = SubModel(model, graph, units).columns(units[0])
  assert made.fan_in == len(kernel)
  np.testing.assert_allclose(made.sums, np.abs(kernel).sum(axis=0), rtol=1e-6)


def test_what_grouped_layers_have_of_a_channel_belongs_to_it():
  _, graph, units = setting(grouped_net)
  owned = {(one.layer, one.weight, one.axis): one for one in weight_owners(graph, units)}
  slots = np.arange(8)  # Both groups of the convolution lose the same of their channels.
  for weight in ('gamma', 'beta'):
    assert owned['norm', weight, 0].side == 'made'
    np.testing.assert_array_equal(owned['norm', weight, 0].owners, np.tile(slots, 2))
  assert owned['grouped', 'kernel', 2].side == 'read'
  np.testing.assert_array_equal(owned['grouped', 'kernel', 2].owners, slots)


def test_only_what_a_penalty_has_emptied_is_zero():
  for build in (grouped_net, separable_net, summed_net):
    model, graph, units = setting(build)
    config = RpConfig(penalty='group_lasso', groups='filters,channels', prune_option='zeros')
    pressed = Pressed(model, graph, units, config, 1)
    assert not any(found.any() for found in pressed.zeros().values())
    filters = pressed.pressure.groups['filters']
    filters.scale(tf.constant(np.arange(filters.size) != 1, tf.float32))
    assert np.flatnonzero(pressed.zeros()[units[0].name]).tolist() == [1]


def test_channels_without_weights_of_the_groups_are_not_ranked_by_them():
  model, graph, units = setting(summed_net)
  for groups in ('filters', 'filters,channels'):
    Pressed(model, graph, units, RpConfig(penalty='group_lasso', groups=groups), 1)
  with pytest.raises(UserError, match=r'no weights of the channels of summed.*add filters'):
    Pressed(model, graph, units, RpConfig(penalty='group_lasso', groups='channels'), 1)
  model, graph, units = setting(residual_net, 'gather')
  for groups in ('channels', 'filters,channels'):
    Pressed(model, graph, units, RpConfig(penalty='group_lasso', groups=groups), 1)
  with pytest.raises(UserError, match=r'channels of b0_conv1:input: add .* or channels'):
    Pressed(model, graph, units, RpConfig(penalty='group_lasso', groups='filters'), 1)


def test_kinds_of_groups_by_slow_sums():
  model, graph, units = setting(residual_net, 'keep')
  owned = weight_owners(graph, units)
  numbers = np.repeat(np.arange(3), 12)
  kinds = ('bn_gamma', 'filters', 'channels', 'dependency', 'shapes', 'kernels')
  gamma, filters, channels, whole, shapes, squares = groups_of(kinds, model, owned, numbers)
  layers = layers_of(model)
  first, second = layers['b1_conv1'], layers['b1_conv2']
  norm = next(c.layer for c in graph.traced.flat.calls if c.inputs == _outputs(graph, 'b1_conv1'))
  place = offsets(units)['b1_conv1'].start + 5
  made = sum((w.numpy()[..., 5] ** 2).sum() for w in (first.kernel, norm.gamma, norm.beta))
  read = (second.kernel.numpy()[:, :, 5] ** 2).sum()
  assert filters.norms().numpy()[place] == pytest.approx(made**0.5)
  assert channels.norms().numpy()[place] == pytest.approx(read**0.5)
  assert whole.norms().numpy()[place] == pytest.approx((made + read) ** 0.5)
  assert gamma.norms().numpy()[place] == pytest.approx(abs(norm.gamma.numpy()[5]))
  kernel = first.kernel.numpy()
  nb_positions = [
    np.prod(layers[f'b{b}_conv{c}'].kernel.shape[:3]) for b in range(3) for c in (1, 2)
  ]
  assert shapes.size == sum(nb_positions)
  expected = np.sqrt((kernel**2).sum(axis=-1)).reshape(-1)
  found, length = shapes.norms().numpy(), expected.size
  starts = [
    i for i in range(len(found) - length + 1) if np.allclose(found[i : i + length], expected)
  ]
  assert len(starts) == 1
  squared = np.sqrt((kernel**2).sum(axis=(0, 1))).reshape(-1)
  found = squares.norms().numpy()
  assert squares.size == sum(
    np.prod(layers[f'b{b}_conv{c}'].kernel.shape[2:]) for b in range(3) for c in (1, 2)
  )
  places = range(0, len(found), len(squared))
  assert any(np.allclose(found[i : i + len(squared)], squared) for i in places)


@pytest.mark.parametrize(
  'config',
  [
    {'penalty': 'bn_gamma'},
    {'penalty': 'growing'},
    {'penalty': 'group_lasso', 'groups': 'filters,shapes,kernels'},
  ],
  ids=['bn_gamma', 'growing', 'inside'],
)
def test_frozen_layers_are_ranked_but_not_changed(config):
  model = randomize(residual_net())
  conv = model.get_layer('b1_conv1')
  norm = model.layers[model.layers.index(conv) + 1]
  conv.trainable = norm.trainable = False
  graph = ChannelGraph(model)
  units = filter_units(graph, 'keep').units
  pressed = Pressed(model, graph, units, RpConfig(**config), 1)
  before, trained = [*conv.get_weights(), *norm.get_weights()], model.trainable_weights
  values = [weight.numpy() for weight in trained]
  pressed.pressure.begin(0.5, None, 1.0, pressed.free({}), 1.0)
  for constraint in pressed.pressure.constraints():
    constraint.apply(tf.constant(1.0))
  for old, new in zip(before, [*conv.get_weights(), *norm.get_weights()], strict=True):
    np.testing.assert_array_equal(old, new)
  assert any((old != new.numpy()).any() for old, new in zip(values, trained, strict=True))
  assert pressed.ranked({}).keys['b1_conv1'].min() > 0
  assert not pressed.zeros()['b1_conv1'].any()


def test_a_channel_with_several_normalisations_counts_with_their_mean():
  model, graph, units = setting(residual_net)
  pressed = Pressed(model, graph, units, RpConfig(penalty='bn_gamma', trunk='couple'), 1)
  trunk = units[0].name
  norms = [model.layers[2], *(model.get_layer(f'b{number}_bn2') for number in range(3))]
  expected = np.mean([np.abs(norm.gamma.numpy()) for norm in norms], axis=0)
  np.testing.assert_allclose(
    pressed.by_unit(pressed.pressure.worth(np.ones(44, bool)))[trunk], expected, rtol=1e-6
  )
  sub = SubModel(model, graph, units)
  np.testing.assert_allclose(sub.scores('bn_gamma')[trunk], expected, rtol=1e-6)


def test_without_any_strength_norms_are_ranked_in_units_of_their_layer():
  model, graph, units = setting(residual_net, 'keep')
  model.get_layer('b1_conv2').kernel.assign(model.get_layer('b1_conv2').kernel * 100)
  config = RpConfig(penalty='group_lasso', groups='channels')
  pressed = Pressed(model, graph, units, config, 1)
  pressed.pressure.begin(0.0, None, 1.0, pressed.free({}), 1.0)
  means = [
    worth.mean() for worth in pressed.by_unit(pressed.pressure.worth(np.ones(36, bool))).values()
  ]
  np.testing.assert_allclose(means, np.full(3, max(means)), rtol=1e-5)


@pytest.mark.parametrize('strength', [0.5, 0.0])
def test_channels_that_have_gone_do_not_count_in_the_norms_of_their_layer(strength):
  model, graph, units = setting(residual_net, 'keep')
  for block in ('b1', 'b2'):  # Three layers of equal filters and readers.
    for conv in ('conv1', 'conv2'):
      first = model.get_layer(f'b0_{conv}')
      model.get_layer(f'{block}_{conv}').set_weights(first.get_weights())
  norms = [model.layers[model.layers.index(model.get_layer(f'b{b}_conv1')) + 1] for b in range(3)]
  for norm in norms[1:]:
    norm.set_weights(norms[0].get_weights())
  config = RpConfig(penalty='group_lasso', groups='filters,channels', nb_passes=2)
  pressed = Pressed(model, graph, units, config, 10)
  kept = {unit.name: list(range(4 if unit is units[0] else 12)) for unit in units}
  masks = {name: np.isin(np.arange(12), places) for name, places in kept.items()}
  PassMasks(model, graph, units, masks, [], [])
  pressed.pressure.begin(strength, None, 1.0, pressed.free(kept), 1.0)
  first, second, _ = pressed.ranked(kept).keys.values()
  finite = np.isfinite(first) & np.isfinite(second)
  # Means of four and of twelve channels differ, but by little.
  np.testing.assert_allclose(first[finite], second[finite], rtol=0.3)
  strengths = pressed.pressure.strengths['channels'].numpy()[:12]
  assert not strengths[4:].any()


def _dense_and_up():
  x = inputs = L.Input((4, 4, 3))
  x = L.Conv2DTranspose(6, 2, name='up')(L.Conv2D(5, 3, name='conv')(x))
  return keras.Model(inputs, L.Dense(4, name='dense')(L.GlobalAveragePooling2D()(x)))


def test_places_inside_of_kernels():
  model = randomize(_dense_and_up())
  up, conv, dense = (model.get_layer(name).kernel for name in ('up', 'conv', 'dense'))
  assert up.shape == (2, 2, 6, 5)  # Its filters come before its inputs.
  up.assign(up * tf.reshape(tf.constant([0.0, 1, 1, 1, 1]), (1, 1, 1, 5)))
  conv.assign(
    conv * tf.cast(tf.range(9) > 1, tf.float32)[:, None, None].numpy().reshape(3, 3, 1, 1)
  )
  dense.assign(dense * tf.constant([[0.0], [1], [1], [1], [1], [1]]))
  zeros = places.zero_places(model, ['filters', 'shapes', 'kernels'])
  assert zeros['shapes'] == pytest.approx((4 + 2 * 3 + 1) / (2 * 2 * 5 + 9 * 3 + 6))
  assert zeros['kernels'] == pytest.approx(6 / (6 * 5 + 3 * 5))
  masks = places.within_masks(model, ['shapes'])
  for kernel in (up, conv, dense):
    gone = kernel.numpy() == 0
    kernel.assign(kernel + 1)
    masks.apply()
    np.testing.assert_array_equal(kernel.numpy() == 0, gone)
  assert places.within_masks(model, ['filters']) is None
  graph = ChannelGraph(model)
  owned = weight_owners(graph, filter_units(graph, 'keep').units)
  (shapes,) = groups_of(('shapes',), model, owned, np.zeros(11, int))
  assert (shapes.norms().numpy() == 0).sum() == 4 + 2 * 3 + 1


def _outputs(graph, name):
  return graph.traced.flat.calls_by_layer()[name][0].outputs


def test_zeros_and_floors_decide():
  _, graph, units = setting(residual_net, 'keep')
  keys = {unit.name: np.arange(12.0) for unit in units}
  keys['b1_conv1'] = np.full(12, 0.5)
  stays = {unit.name: np.zeros(12, bool) for unit in units}
  ranked = Ranked(graph, units, keys, stays)
  zeros = {unit.name: np.arange(12) < 4 for unit in units}
  zeros['b2_conv1'] = np.ones(12, bool)
  kept = deciding.by_zeros(ranked, zeros)
  assert [int(kept[unit.name].sum()) for unit in units] == [8, 8, 1]
  assert not kept['b0_conv1'][:4].any()
  kept = deciding.by_zeros(ranked, zeros, 0.25)
  assert [int(kept[unit.name].sum()) for unit in units] == [8, 8, 3]
  uniform = RpConfig(prune_option='uniform', floor=0.25)
  assert not deciding.saved_by_floor(uniform, ranked, kept)
  counts = {'b0_conv1': 9, 'b1_conv1': 3, 'b2_conv1': 9}
  kept = deciding.by_counts(ranked, counts)
  (note,) = deciding.below_floor(ranked, kept, 0.25, 'rp_')
  assert note == (
    'b1_conv1: 0 of 12 channels lie above the threshold of the network (2), but 3 stay by '
    '--rp_floor 0.25'
  )


def test_channels_that_have_gone_do_not_come_back():
  _, graph, units = setting(residual_net, 'keep')
  keys = {unit.name: np.where(np.arange(12) < 6, -np.inf, 1.0) for unit in units}
  kept = deciding.by_counts(Ranked(graph, units, keys, {}), {unit.name: 9 for unit in units})
  assert all(mask.sum() == 6 and not mask[:6].any() for mask in kept.values())


@pytest.mark.parametrize('trunk', ['keep', 'couple', 'gather'])
def test_a_block_whose_channels_are_gone_disappears(trunk):
  model, graph, units = setting(residual_net, trunk)
  branches = find_branches(graph, units)
  assert [branch.block for branch in branches] == ['b0_add', 'b1_add', 'b2_add']
  assert branches[1].units == ('b1_conv1',)
  assert branches[1].last == ('b1_bn2',)
  gone = deciding.lost_blocks(branches, np.array([3.0, 1.0, 2.0]), 2)
  assert gone == ['b1_add', 'b2_add']
  assert deciding.lost_blocks(branches, np.array([0.0, 1.0, 2.0]), None) == ['b0_add']
  kept = {unit.name: np.arange(unit.size) > 0 for unit in units}
  kept = deciding.without_blocks(kept, branches, gone)
  masks = PassMasks(model, graph, units, kept, branches, gone)
  masks.apply()
  plan = plan_slice(graph, {u.key: kept[u.name] for u in units}, min_channels=0)
  slim = apply_plan(plan)
  x = images(1)[0]
  np.testing.assert_allclose(slim(x), model(x), atol=1e-5)
  kinds = [type(layer).__name__ for layer in slim.layers]
  assert kinds.count('Add') == 1
  assert kinds.count('Conv2D') == 3
  assert not any('Lambda' in kind for kind in kinds)  # No constants are added in their place.


def test_branches_with_several_inner_layers():
  _, graph, units = setting(bottleneck_net)
  assert find_branches(graph, units) == []  # Its shortcut is a projection.


def test_block_masks_silence_what_shifts_the_branch():
  model, graph, units = setting(residual_net, 'keep')
  BlockMasks(model, find_branches(graph, units), ['b0_add'])
  norm = model.get_layer('b0_bn2')
  assert not norm.gamma.numpy().any()
  assert not norm.beta.numpy().any()
  assert model.get_layer('b1_bn2').gamma.numpy().all()


def test_a_branch_that_ends_in_a_bias_is_silenced():
  x = inputs = L.Input((8, 8, 3))
  x = L.Conv2D(4, 3, padding='same', name='stem')(x)
  y = L.Conv2D(6, 3, padding='same', activation='relu', name='inner')(x)
  y = L.Conv2D(4, 3, padding='same', name='end')(y)
  x = L.Add(name='add')([y, x])
  model = keras.Model(inputs, L.Dense(4, name='logits')(L.GlobalAveragePooling2D()(x)))
  randomize(model).get_layer('end').trainable = False
  graph = ChannelGraph(model)
  units = filter_units(graph, 'keep').units
  (branch,) = find_branches(graph, units)
  assert branch.last == ('end',)
  kept = deciding.without_blocks({u.name: np.ones(u.size, bool) for u in units}, [branch], ['add'])
  PassMasks(model, graph, units, kept, [branch], ['add']).apply()
  slim = apply_plan(plan_slice(graph, {u.key: kept[u.name] for u in units}, min_channels=0))
  x = images(1)[0]
  np.testing.assert_allclose(slim(x), model(x), atol=1e-5)
  assert 'Add' not in [type(layer).__name__ for layer in slim.layers]


def test_pre_activation_networks_select_before_a_narrow_norm():
  model, graph, _ = setting(pre_activation_net, 'gather')
  selecting = with_selections(model)
  inserted = [one.name for one in selecting.layers if isinstance(one, ChannelSelection)]
  assert inserted == ['b0_bn1_selection', 'b1_bn1_selection']
  x = images(1)[0]
  np.testing.assert_allclose(selecting(x), model(x), atol=1e-6)
  for net in (model, selecting):
    graph = ChannelGraph(net)
    keep = {('b0_conv1', 'input'): [0, 2, 5], ('b1_conv1', 'input'): range(8)}
    plan = plan_slice(graph, keep)
    slim = apply_plan(plan)
    with masked(plan):
      expected = net(x).numpy()
    np.testing.assert_allclose(slim(x), expected, atol=1e-5)
    left = [one for one in slim.layers if isinstance(one, ChannelSelection)]
    assert [one.indices for one in left] == [[0, 2, 5]]
    assert slim.get_layer('b0_bn1').gamma.shape == (3,)
    assert slim.get_layer('b1_bn1').gamma.shape == (8,)
    assert plan.graph.own_chains['b0_bn1'] == 'b0_conv1'


def test_scales_of_a_narrow_norm_belong_to_its_reader():
  model, graph, units = setting(pre_activation_net, 'gather')
  pressed = Pressed(model, graph, units, RpConfig(penalty='bn_gamma', trunk='gather'), 10)
  worth = pressed.ranked({}).keys['b0_conv1:input']
  np.testing.assert_allclose(worth, np.abs(model.get_layer('b0_bn1').gamma), rtol=1e-6)


def test_a_plain_network_has_no_selections():
  model = residual_net()
  assert with_selections(model) is model
  assert isinstance(plan_slice(ChannelGraph(model), {}), Plan)


def test_what_cannot_be_penalised_is_refused():
  for build, config, said in (
    (bottleneck_net, {'penalty': 'bn_gamma'}, 'but the channels of stem have none'),
    (
      bottleneck_net,
      {'penalty': 'group_lasso', 'groups': 'layers', 'prune_option': 'zeros'},
      'no residual block with an identity shortcut',
    ),
  ):
    model, graph, units = setting(build)
    with pytest.raises(UserError, match=said):
      Pressed(model, graph, units, RpConfig(**config), 10)


@pytest.mark.parametrize(
  ('config', 'said'),
  [
    ({'penalty': 'group_lasso', 'groups': 'rows'}, '--rp_groups takes some of filters, channels'),
    ({'penalty': 'group_lasso', 'groups': 'layers'}, 'needs --rp_prune_option zeros'),
    ({'penalty': 'growing', 'prune_option': 'zeros'}, 'a --rp_penalty other than growing'),
    ({'prune_option': 'zeros', 'preserve_ratio': 0.5}, 'cuts what is zero'),
    ({'prune_option': 'zeros', 'nb_blocks': 2}, 'add layers to --rp_groups'),
    ({'preserve_ratio': 0.5, 'target_latency': 0.5}, 'both say how much stays'),
  ],
)
def test_flags_that_do_not_fit(config, said):
  with pytest.raises(UserError, match=said):
    RpConfig(**config)
