"""What can be kept and dropped, by which key, and what is refused."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from graph_helpers import (
  TOLERANCE,
  check_slice,
  conv,
  difference,
  outputs,
  random_inputs,
  randomize,
)

from secateurs.utils.errors import UserError
from secateurs.utils.graph import (
  ChannelGraph,
  ChannelSelection,
  apply_plan,
  count,
  masked,
  plan_slice,
  slice_model,
)

L = keras.layers


def residual_net():
  """stem(6) -> [a(8) -> b(6)] + shortcut -> [c(4) -> d(6)] + shortcut -> head."""
  x = keras.Input((8, 8, 3))
  y = L.ReLU()(L.BatchNormalization(name='stem_bn')(conv(6, 'stem')(x)))
  for inner, outer, width in (('a', 'b', 8), ('c', 'd', 4)):
    z = L.ReLU()(L.BatchNormalization(name=f'{inner}_bn')(conv(width, inner)(y)))
    z = L.BatchNormalization(name=f'{outer}_bn')(conv(6, outer)(z))
    y = L.ReLU()(L.Add(name=f'{outer}_add')([y, z]))
  y = L.GlobalAveragePooling2D()(y)
  return randomize(keras.Model(x, L.Dense(3, name='head')(y)))


def test_groups_of_a_residual_net():
  graph = ChannelGraph(residual_net())
  golden = [
    ('stem', 6, ['stem', 'b', 'd'], ['stem_bn', 'b_bn', 'd_bn'], ['a', 'c', 'head']),
    ('a', 8, ['a'], ['a_bn'], ['b']),
    ('c', 4, ['c'], ['c_bn'], ['d']),
    ('head', 3, ['head'], [], []),
  ]
  found = [
    (g.name, g.size, g.layers('produces'), g.layers('follows'), g.layers('consumes'))
    for g in graph.groups
  ]
  assert found == golden
  assert [g.prunable for g in graph.groups] == [True, True, True, False]
  assert graph.groups[3].reasons == ['model output']
  assert graph.prunable_share() == 1.0
  text = str(graph)
  assert "Channel groups of 'model" in text
  assert 'protected: model output' in text


def test_offsets_of_a_concatenation():
  x = keras.Input((8, 8, 3))
  a, b = conv(4, 'a')(x), conv(5, 'b')(x)
  y = conv(2, 'c')(L.Concatenate()([a, b, a]))
  graph = ChannelGraph(keras.Model(x, L.GlobalAveragePooling2D()(y)))
  c = [m for g in graph.groups for m in g.members if m.layer == 'c' and m.role == 'consumes']
  assert [m.positions.tolist() for m in c] == [[0, 1, 2, 3, 9, 10, 11, 12], [4, 5, 6, 7, 8]]
  assert [m.offset for m in c] == [0, 4]
  assert c[0].elements.tolist() == [0, 1, 2, 3, 0, 1, 2, 3]
  placed = graph.inputs('c')
  assert placed.group.tolist() == [0] * 4 + [1] * 5 + [0] * 4
  assert graph.group('b').index == 1


def test_keys_by_group_index_name_and_mask_agree():
  model = residual_net()
  graph = ChannelGraph(model)
  by_group = check_slice(model, {graph.groups[1]: [1, 3, 4]})
  mask = np.isin(np.arange(8), [1, 3, 4])
  for keep in ({1: mask}, {'a': [1, 3, 4]}, {('a', 'output'): mask}, {('b', 'input'): mask}):
    other = check_slice(model, keep)
    for left, right in zip(by_group.get_weights(), other.get_weights(), strict=True):
      np.testing.assert_array_equal(left, right)
  assert by_group.get_layer('a').filters == 3
  assert [w.name for w in by_group.weights] == [w.name for w in model.weights]
  # Dropped by hand, element by element.
  old, new = model.get_layer('b').kernel.numpy(), by_group.get_layer('b').kernel.numpy()
  np.testing.assert_array_equal(old[:, :, mask], new)


def test_input_of_one_consumer_gets_a_selection():
  model = residual_net()
  gathered = check_slice(model, {('c', 'input'): [0, 2, 5]})
  layer = gathered.get_layer('c_selection')
  assert isinstance(layer, ChannelSelection)
  assert layer.indices == [0, 2, 5] and layer.bounds is None  # noqa: PT018
  assert gathered.get_layer('stem').filters == 6
  sliced = check_slice(model, {('c', 'input'): [1, 2, 3], 'stem': [1, 2, 3, 5]})
  assert sliced.get_layer('c_selection').bounds == (0, 3)
  # Once every consumer has dropped a channel it goes at its source.
  rest = [0, 1, 2, 4, 5]
  whole = check_slice(model, {(name, 'input'): rest for name in ('a', 'c', 'head')})
  assert whole.get_layer('stem').filters == 5
  assert not any(isinstance(one, ChannelSelection) for one in whole.layers)
  # Slicing once more through the selection.
  check_slice(gathered, {'stem': [0, 1, 2, 3, 5]})


def test_rows_behind_flatten():
  x = keras.Input((4, 4, 3))
  y = L.Flatten()(conv(5, 'a')(x))
  model = randomize(keras.Model(x, L.Dense(3, name='d')(y)))
  rows = np.ones(80, bool)
  rows[3::5] = False  # channel 3 at all positions
  small = check_slice(model, {('d', 'input'): rows})
  assert small.get_layer('a').filters == 4
  rows[7] = False  # and channel 2 at one position
  small = check_slice(model, {('d', 'input'): rows})
  assert small.get_layer('d').kernel.shape == (63, 3)


def test_several_inputs_outputs_and_nesting():
  a, b = keras.Input((8, 8, 3), name='left'), keras.Input((8, 8, 2), name='right')
  inner_in = keras.Input((8, 8, 4))
  frozen = L.BatchNormalization(name='norm')
  inner = keras.Model(inner_in, L.ReLU()(frozen(conv(6, 'deep')(inner_in))), name='inner')
  y = L.Add()([inner(conv(4, 'a')(a), training=False), inner(conv(4, 'b')(b), training=False)])
  seq = keras.Sequential([L.Conv2D(5, 1, name='seq'), L.ReLU()], name='tail')
  y = L.GlobalAveragePooling2D()(seq(y))
  model = keras.Model({'l': a, 'r': b}, {'one': L.Dense(2, name='o1')(y), 'two': L.Dense(3)(y)})
  randomize(model)
  graph = ChannelGraph(model)
  assert sorted(graph.group('a').layers('produces')) == [
    'a',
    'b',
  ]  # the shared layer ties its inputs
  small = slice_model(graph, {'a': [0, 3], 'deep': [1, 2, 5], 'seq': [0, 4]})
  left, right = (np.ones((2, 8, 8, c), np.float32) for c in (3, 2))
  result = small({'l': left, 'r': right}, training=True)
  assert set(result) == {'one', 'two'}
  plan = plan_slice(graph, {'a': [0, 3], 'deep': [1, 2, 5], 'seq': [0, 4]})
  with masked(plan):
    want = model({'l': left, 'r': right}, training=True)  # the nested BN stays at inference
  assert difference([want['one'].numpy()], [result['one'].numpy()]) <= TOLERANCE


def test_round_to_puts_the_largest_filters_back():
  model = residual_net()
  kernel = model.get_layer('a').kernel
  kernel.assign(kernel * np.array([1, 9, 1, 1, 8, 1, 1, 1.0]))
  small = check_slice(model, {'a': [0, 2]}, round_to=4)
  np.testing.assert_array_equal(small.get_layer('a').kernel, kernel.numpy()[..., [0, 1, 2, 4]])
  assert check_slice(model, {'stem': [0]}, round_to=4).get_layer('stem').filters == 4
  # 6 is no multiple of 4: five cannot be rounded to anything but the full width.
  assert check_slice(model, {'stem': range(5)}, round_to=4).get_layer('stem').filters == 6
  rows = check_slice(model, {('c', 'input'): [0]}, round_to=4)
  assert rows.get_layer('c').kernel.shape[2] == 4


@pytest.mark.parametrize(
  ('keep', 'options', 'words'),
  [
    ({'a': []}, {}, "'a' would keep 0 of its 8 output channels"),
    ({'a': [1]}, {'min_channels': 2}, "'a' would keep 1 of its 8"),
    ({('c', 'input'): []}, {}, "'c' would keep 0 of its 6 input"),
    ({'head': [0, 1]}, {}, 'protected (model output)'),
    ({'stem': [0], 'b': [1]}, {}, 'both go together'),
    ({'a': [9]}, {}, 'lie in 0..7'),
    ({'a': [1, 1]}, {}, 'distinct'),
    ({'a': [0.5]}, {}, 'list of integers'),
    ({'a': np.ones(7, bool)}, {}, 'expected (8,)'),
    ({'aa': [0]}, {}, "no layer 'aa': did you mean 'a'?"),
    ({9: [0]}, {}, 'no channel group 9'),
    ({('a', 'sideways'): [0]}, {}, "'input' or 'output'"),
    ({'a': [0]}, {'round_to': 0}, 'round_to must be at least 1'),
  ],
)
def test_refusals_name_the_layer(keep, options, words):
  with pytest.raises(UserError) as error:
    slice_model(residual_net(), keep, **options)
  assert words in str(error.value)


def test_a_whole_branch_may_go():
  model = residual_net()
  small = check_slice(model, {'a': []}, min_channels=0)
  assert not {'a', 'b', 'a_bn', 'b_bn', 'b_add'} & {one.name for one in small.layers}
  # The branch emitted its beta; without one the addition is the bare shortcut.
  for name in ('b_bn', 'b'):
    layer = model.get_layer(name)
    for weight in layer.weights:
      if any(word in weight.name for word in ('beta', 'mean', 'bias')):
        weight.assign(tf.zeros_like(weight))
  bare = check_slice(model, {'a': []}, min_channels=0)
  assert not any('tf.' in one.name for one in bare.layers)
  with pytest.raises(UserError, match='would no longer depend on its input'):
    slice_model(model, {'stem': [], 'a': [], 'c': []}, min_channels=0)


def test_an_excitation_without_channels_becomes_a_constant():
  x = keras.Input((6, 6, 3))
  y = conv(6, 'body')(x)
  s = L.Dense(4, activation='relu', name='squeeze')(L.GlobalAveragePooling2D(keepdims=True)(y))
  y = L.Multiply()([y, L.Dense(6, activation='sigmoid', name='excite')(s)])
  model = randomize(keras.Model(x, L.Dense(2)(L.Flatten()(y))))
  small = check_slice(model, {'squeeze': [], 'body': [0, 1, 4]}, min_channels=0)
  assert 'excite' not in {one.name for one in small.layers}


def producer_net(window, padding, zero):
  x = keras.Input((8, 8, 3))
  y = L.BatchNormalization(name='bn')(conv(5, 'a')(x))
  y = L.Conv2D(4, window, padding=padding, use_bias=False, name='b')(L.ReLU()(y))
  model = randomize(keras.Model(x, L.Dense(3)(L.GlobalAveragePooling2D()(L.ReLU()(y)))))
  if zero == 'filter':
    kernel = model.get_layer('a').kernel
    kernel.assign(kernel * np.array([1, 1, 0, 1, 1.0]))
  elif zero == 'gamma':
    gamma = model.get_layer('bn').gamma
    gamma.assign(gamma * np.array([1, 1, 0, 1, 1.0]))
  beta = model.get_layer('bn').beta
  beta.assign(tf.abs(beta) + 1.0)  # passes the ReLU
  return model


@pytest.mark.parametrize('zero', ['filter', 'gamma'])
@pytest.mark.parametrize(('window', 'padding'), [(1, 'same'), (3, 'valid')])
def test_constants_of_zeroed_producers_are_folded(zero, window, padding):
  model = producer_net(window, padding, zero)
  inputs = random_inputs(model)
  small = slice_model(model, {'a': [0, 1, 3, 4]})
  assert small.get_layer('a').filters == 4
  assert small.get_layer('b').use_bias
  assert difference(outputs(model, inputs), outputs(small, inputs)) <= TOLERANCE
  # The control: without folding the output would be another.
  plan = plan_slice(ChannelGraph(model), {'a': [0, 1, 3, 4]})
  plan.added_bias.clear()
  assert difference(outputs(model, inputs), outputs(apply_plan(plan), inputs)) > 100 * TOLERANCE


@pytest.mark.parametrize('zero', ['filter', 'gamma'])
def test_constants_that_meet_padding_are_kept_with_a_reason(zero):
  model = producer_net(3, 'same', zero)
  plan = plan_slice(ChannelGraph(model), {'a': [0, 1, 3]})
  assert [(one.group, one.element) for one in plan.held_back] == [(0, 2)]
  assert "does not fold into 'b', which pads" in plan.held_back[0].reason
  assert apply_plan(plan).get_layer('a').filters == 4  # channel 4 went, 2 stayed
  # A constant of zero folds anywhere.
  beta = model.get_layer('bn').beta
  beta.assign(beta * 0.0 - 5.0)
  moving = model.get_layer('bn').moving_mean
  moving.assign(tf.zeros_like(moving) + 100.0)
  plan = plan_slice(ChannelGraph(model), {'a': [0, 1, 3, 4]})
  assert not plan.held_back
  inputs = random_inputs(model)
  assert difference(outputs(model, inputs), outputs(apply_plan(plan), inputs)) <= TOLERANCE


def test_folding_through_grouped_depthwise_and_dense():
  x = keras.Input((8, 8, 3))
  y = L.DepthwiseConv2D(3, padding='valid', name='dw')(conv(6, 'a')(x))
  y = L.Concatenate()([L.MaxPooling2D()(L.LeakyReLU()(y)), L.AveragePooling2D()(y)])
  model = randomize(keras.Model(x, L.Dense(3, name='d')(L.Flatten()(y))))
  kernel = model.get_layer('a').kernel
  kernel.assign(kernel * np.array([1, 0, 1, 1, 0, 1.0]))
  small = slice_model(model, {'a': [0, 2, 3, 5]})
  inputs = random_inputs(model)
  assert small.get_layer('a').filters == 4
  assert difference(outputs(model, inputs), outputs(small, inputs)) <= TOLERANCE


def test_sabotaged_slice_is_noticed():
  model = residual_net()
  plan = plan_slice(ChannelGraph(model), {'stem': [0, 2, 3], 'a': [0, 1, 5, 6]})
  small = apply_plan(plan)
  inputs = random_inputs(model)
  with masked(plan):
    want = outputs(model, inputs)
  assert difference(want, outputs(small, inputs)) <= TOLERANCE
  kernel = small.get_layer('c').kernel
  kernel.assign(np.roll(kernel.numpy(), 1, axis=2))
  assert difference(want, outputs(small, inputs)) > 10 * TOLERANCE


def test_keeping_everything_changes_nothing():
  model = residual_net()
  small = check_slice(model, {})
  assert count(small) == count(model)
  assert [one.get_config() for one in small.layers] == [one.get_config() for one in model.layers]


def test_initialisers_regularisers_and_custom_activations_survive():
  def doubled(x):
    return 2.0 * x

  x = keras.Input((8, 8, 3))
  y = conv(4, 'a', kernel_initializer='he_normal', kernel_regularizer=keras.regularizers.L2(0.1))(x)
  y = conv(4, 'b', activation=doubled, kernel_constraint=keras.constraints.MaxNorm(2.0))(y)
  model = keras.Model(x, L.GlobalAveragePooling2D()(conv(2)(y)))
  graph = ChannelGraph(model)
  assert 'may mix channels' in graph.group('b').reasons[0]
  small = check_slice(randomize(model), {'a': [0, 1]})
  layer = small.get_layer('a')
  assert isinstance(layer.kernel_initializer, keras.initializers.HeNormal)
  assert float(layer.kernel_regularizer.l2) == pytest.approx(0.1)
  assert small.get_layer('b').activation is doubled
  assert len(small.losses) == 1


def test_mixed_precision_and_frozen_layers():
  policy = keras.mixed_precision.Policy('mixed_bfloat16')
  x = keras.Input((8, 8, 3))
  y = conv(4, 'a', dtype=policy, trainable=False)(x)
  model = keras.Model(x, L.GlobalAveragePooling2D(dtype='float32')(conv(2, 'b', dtype=policy)(y)))
  small = slice_model(model, {'a': [0, 3]})
  assert small.get_layer('a').compute_dtype == 'bfloat16'
  assert small.get_layer('a').kernel.dtype == tf.float32
  assert [w.name for w in small.trainable_weights] == ['b/kernel:0', 'b/bias:0']
