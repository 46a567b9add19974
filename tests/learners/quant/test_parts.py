"""Grids, codebooks, shadows and bits by layer, each against a slow oracle."""

import itertools

import kmeans1d
import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from hypothesis import given, settings
from hypothesis import strategies as st

from secateurs.learners.quant.bits import BitTable, container, equal, losses_of, propose, solve
from secateurs.learners.quant.clusters import codebook_of, lloyd, nearest
from secateurs.learners.quant.codebooks import MODES, CodebookProjection
from secateurs.learners.quant.configs import NuqlConfig, UqlConfig
from secateurs.learners.quant.containers import container_of, larger_note, wider_note
from secateurs.learners.quant.grids import BinaryProjection, GridProjection, rounded_kernel
from secateurs.learners.quant.pruning import quality
from secateurs.utils.buckets import KINDS, Buckets, buckets_of
from secateurs.utils.errors import UserError
from secateurs.utils.training.engine.shadow import ShadowWeights
from secateurs.utils.training.models.uniform_grids import (
  fit_grid,
  grid_of,
  integer_range,
  rounded,
  rounded_tensor,
)

L = keras.layers
RNG = np.random.default_rng(0)


# Buckets.


@pytest.mark.parametrize('kind', KINDS)
@pytest.mark.parametrize('shape', [(3, 3, 2, 5), (7, 3), (3, 3, 4, 2)])
def test_buckets_are_turned_round(kind, shape):
  kernel = RNG.standard_normal(shape).astype(np.float32)
  buckets = buckets_of('x/depthwise_kernel' if shape[2:] == (4, 2) else 'x/kernel', shape, kind, 4)
  rows = buckets.rows(kernel)
  assert rows.shape == buckets.filled.shape == (buckets.nb_rows, rows.shape[1])
  assert buckets.filled.sum() == kernel.size
  np.testing.assert_array_equal(buckets.kernel(rows), kernel)
  np.testing.assert_array_equal(buckets.rows(tf.constant(kernel)).numpy(), rows)
  np.testing.assert_array_equal(buckets.kernel(tf.constant(rows)).numpy(), kernel)


def test_a_channel_is_a_row():
  kernel = RNG.standard_normal((3, 3, 2, 5))
  np.testing.assert_array_equal(
    Buckets(kernel.shape, 'channel').rows(kernel)[4], kernel[..., 4].ravel()
  )
  depthwise = buckets_of('depthwise_kernel', kernel.shape, 'channel', 1)
  np.testing.assert_array_equal(depthwise.rows(kernel)[7], kernel[..., 1, 2].ravel())


# Grids.


@settings(max_examples=60, deadline=None)
@given(
  st.lists(st.floats(-9, 9, width=32), min_size=1, max_size=8),
  st.integers(2, 8),
  st.booleans(),
)
def test_rounding_is_to_the_nearest_point_and_zero_stays(values, bits, symmetric):
  values = np.array(values)
  steps, zeros = grid_of(values.min(), values.max(), bits, symmetric)
  first, last = integer_range(bits, symmetric)
  points = (np.arange(first, last + 1) - zeros) * steps
  assert 0.0 in points
  found = rounded(values, steps, zeros, bits, symmetric)
  nearest_points = np.abs(points[:, None] - values).min(axis=0)
  np.testing.assert_allclose(np.abs(found - values), nearest_points, atol=1e-6)
  assert np.abs(found - values).max() <= steps / 2 * 1.001 or not symmetric


def test_a_grid_by_hand():
  steps, zeros = grid_of(np.array(-1.0), np.array(2.0), 2, False)
  assert (steps, zeros) == (1.0, 1)
  assert rounded(np.array([-0.6, 0.4, 1.6, 9.0]), steps, zeros, 2, False).tolist() == [-1, 0, 2, 2]
  assert integer_range(4, True) == (-7, 7)


def test_clipping_leaves_the_least_error():
  rows = RNG.standard_normal((3, 400)).astype(np.float32)
  errors = []
  for clip in (False, True):
    steps, zeros = fit_grid(rows, 3, True, clip=clip)
    near = rounded(rows, steps, zeros, 3, True)
    errors.append(np.square(near - rows).sum(axis=1))
    np.testing.assert_allclose(rounded_tensor(rows, steps, zeros, (-3, 3)), near, atol=1e-6)
  assert (errors[1] < 0.8 * errors[0]).all()


# Shadows.


def slow_steps(start, changes, steps, last):
  """Straight-through training of one weight list, step by step in plain Python."""
  shadow, seen = list(start), []
  for change in changes:
    rounded_before = [round(w / steps) * steps if w else 0.0 for w in shadow]
    seen.append(rounded_before)
    shadow = [
      min(max(w + c, -last * steps), last * steps) if s else 0.0
      for w, c, s in zip(shadow, change, start, strict=True)
    ]
  return [round(w / steps) * steps if w else 0.0 for w in shadow]


def test_the_optimizer_moves_exact_weights_through_rounded_ones():
  start = np.array([[0.9, -0.31], [0.0, 0.12]], np.float32)
  kernel = tf.Variable(start)
  projection = GridProjection(Buckets((2, 2)), 3, symmetric=True, clip=False)
  shadows = ShadowWeights({'k': kernel}, {'k': projection})
  shadows.start()
  changes = [RNG.uniform(-0.2, 0.2, (2, 2)).astype(np.float32) for _ in range(6)]
  apply = tf.function(shadows.apply)
  for change in changes:
    kernel.assign_add(change)
    apply()
  expected = slow_steps(start.ravel(), [c.ravel() for c in changes], 0.3, 3)
  np.testing.assert_allclose(kernel.numpy().ravel(), expected, atol=1e-5)
  assert kernel.numpy()[1, 0] == 0  # Was zero, and stays zero.
  assert set(shadows.tensors()) >= {'stays/k', 'shadow/k', 'steps/k'}


@pytest.mark.parametrize('symmetric', [True, False])
def test_a_kernel_lies_on_its_grids(symmetric):
  kernel = RNG.standard_normal((3, 3, 4, 6)).astype(np.float32)
  kernel[0] = 0
  buckets = Buckets(kernel.shape, 'channel')
  found = rounded_kernel(kernel, buckets, 3, symmetric=symmetric, clip=True)
  assert (found[0] == 0).all()
  assert all(len(np.unique(row)) <= 8 for row in buckets.rows(found))


# Codebooks.


@pytest.mark.parametrize('size', [2, 4, 16])
def test_kmeans_is_near_the_optimum(size):
  values = np.concatenate([RNG.normal(-2, 0.3, 500), RNG.normal(0, 1, 900)])
  found = lloyd(values, np.linspace(values.min(), values.max(), size))
  labels, centroids = kmeans1d.cluster(values, size)
  best = np.square(values - np.array(centroids)[labels]).sum()
  mine = np.square(values - found[nearest(found, values)]).sum()
  assert best <= mine * (1 + 1e-9)
  assert mine < 1.25 * best
  # A fixed point: each centroid is the mean of what is nearest to it.
  owners = nearest(found, values)
  for number in np.unique(owners):
    assert found[number] == pytest.approx(values[owners == number].mean())


def test_starts_of_codebooks():
  values = np.array([0.0, 1.0, 2.0, 9.0], np.float32)
  assert codebook_of(values, 4, 'uniform').tolist() == [0, 3, 6, 9]
  assert codebook_of(values, 2, 'quantile').tolist() == [0.75, 3.75]
  assert codebook_of(values, 2, 'kmeans').tolist() == [1, 9]
  assert codebook_of(values[:0], 2, 'kmeans').tolist() == [0, 0]


@pytest.mark.parametrize('mode', MODES)
@pytest.mark.parametrize('step', ['mean', 'sum'])
def test_codebooks_move_as_a_slow_oracle_does(mode, step):
  start = RNG.standard_normal((4, 6)).astype(np.float32)
  start[0, :2] = 0
  kernel = tf.Variable(start)
  projection = CodebookProjection(Buckets((4, 6)), 2, init='kmeans', mode=mode, step=step)
  shadows = ShadowWeights({'k': kernel}, {'k': projection})
  shadows.start()
  flat, stays = start.ravel(), start.ravel() != 0
  book = codebook_of(flat[stays], 4, 'kmeans').astype(np.float64)
  exact, owner = flat.astype(np.float64), nearest(book, flat)
  for _ in range(3):
    change = RNG.uniform(-0.1, 0.1, (4, 6)).astype(np.float32)
    kernel.assign_add(change)
    shadows.apply()
    if mode != 'weights':
      for number in range(4):
        mine = change.ravel()[stays & (owner == number)]
        if len(mine):
          book[number] += mine.mean() if step == 'mean' else mine.sum()
    if mode != 'centroids':
      book = np.sort(book)
      exact[stays] += change.ravel()[stays]
      owner = nearest(book, exact)
  np.testing.assert_allclose(kernel.numpy().ravel(), np.where(stays, book[owner], 0), atol=1e-5)


def test_each_bucket_has_its_own_codebook():
  kernel = tf.Variable(RNG.standard_normal((3, 3, 4, 5)).astype(np.float32))
  buckets = Buckets((3, 3, 4, 5), 'channel')
  projection = CodebookProjection(buckets, 1, init='kmeans', mode='both')
  ShadowWeights({'k': kernel}, {'k': projection}).start()
  rows = buckets.rows(kernel.numpy())
  assert [len(np.unique(row)) for row in rows] == [2] * 5
  assert len(np.unique(rows)) == 10


# Bits.


def test_bits_are_those_of_all_combinations():
  options, names = (2, 3, 4), ('a', 'b', 'c')
  losses = np.sort(RNG.random((3, 3)), axis=1)[:, ::-1]
  costs = np.array([[10], [40], [25]]) * np.array(options, float)
  table = BitTable(names, options, losses, costs, 230.0)
  best = min(
    (sum(losses[k, i] for k, i in enumerate(pick)), pick)
    for pick in itertools.product(range(3), repeat=3)
    if sum(costs[k, i] for k, i in enumerate(pick)) <= 230
  )
  expected = {name: options[i] for name, i in zip(names, best[1], strict=True)}
  assert solve(table) == expected
  assert propose(table, dict.fromkeys(names, 1.0)).counts == expected
  assert propose(table, {}).counts == equal(table) == dict.fromkeys(names, 3)
  with pytest.raises(ValueError, match='At least 150'):
    solve(BitTable(names, options, losses, costs, 100.0))


def test_losses_do_not_rise_with_bits():
  curves = {'a': [(0.0, 0.0), (0.875, 0.2), (0.9, 0.1), (0.94, 0.5)]}
  assert losses_of(curves, ['a'], [2, 3, 4]).tolist() == [[0.5, 0.2, 0.2]]


def test_containers():
  assert [container(bits, True, True) for bits in (2, 4, 5, 8)] == [4, 4, 8, 8]
  assert [container(bits, False, True) for bits in (3, 4)] == [4, 8]
  assert container(2, True, False) == 8


@pytest.mark.parametrize(
  ('make', 'shape', 'weights', 'held', 'in_8', 'channels'),
  [
    (lambda: L.Conv2D(5, 3), (8, 8, 4), (3, 3, 4, 5), 4, 4, 5),
    (lambda: L.DepthwiseConv2D(3, depth_multiplier=2), (8, 8, 4), (3, 3, 4, 2), 8, 8, 8),
    (lambda: L.Conv2DTranspose(5, 3), (8, 8, 4), (3, 3, 5, 4), 8, 8, 5),
    (lambda: L.TimeDistributed(L.Dense(5)), (6, 4), (4, 5), 4, 4, 5),
    (lambda: L.LSTM(5), (6, 4), (4, 20), 4, 4, 20),
    (lambda: L.Bidirectional(L.GRU(5)), (6, 4), (4, 15), 4, 4, 15),
    (lambda: L.Embedding(9, 4), (3,), (9, 4), 32, 8, 9),
    (lambda: L.Conv3D(5, 3), (8, 8, 8, 4), (3, 3, 3, 4, 5), 32, 8, 5),
  ],
)
def test_what_a_file_holds_kernels_in(make, shape, weights, held, in_8, channels):
  layer = make()
  layer.build((None, *shape))
  found = container_of(layer, layer.weights[0])
  assert tuple(layer.weights[0].shape) == weights
  assert found.bits(4, UqlConfig(activation_bits=32)) == held
  assert found.bits(4, UqlConfig()) == in_8
  assert found.channels == channels
  assert found.bits(4, UqlConfig(bucket_type='split')) == 8


def test_kernels_that_the_file_holds_wider_than_4_bits_are_noted():
  held = {'conv': 4, 'up': 8, 'deep': 8, 'six': 8}
  bits = {'conv': 4, 'up': 3, 'deep': 4, 'six': 6}
  note = wider_note(held, bits, UqlConfig())
  assert 'no weights of 4 bits for the operators of up, deep: the file holds them in 8 bits' in note
  assert wider_note({'conv': 4, 'six': 8}, bits, UqlConfig()) is None


def test_a_file_that_is_larger_than_asked_for_is_noted():
  assert larger_note(100, 100) is None
  assert 'has 120 bytes, more than the 100 of --uql_target_bytes' in larger_note(100, 120)
  assert 'There is no quantised file' in larger_note(100, None)


def test_quality_is_the_threshold_in_standard_deviations():
  weights = np.array([1.0, -2.0, 3.0, -4.0])
  assert quality(weights, 2) == pytest.approx(2 / weights.std())
  assert quality(weights, 4) == 0


@pytest.mark.parametrize(
  ('values', 'message'),
  [
    ({'activation_bits': 20}, '--uql_activation_bits takes 2 to 16, or 32'),
    ({'equivalent_bits': 6.0, 'w_bit_min': 5, 'w_bit_max': 4}, '--uql_w_bit_min must not exceed'),
    ({'equivalent_bits': 4.0, 'target_bytes': 9}, 'are two budgets'),
    ({'equivalent_bits': 2.5, 'w_bit_min': 3}, 'cannot be met'),
    ({'weight_bits': 1, 'symmetric': False}, '--uql_weight_bits 1 makes all weights two'),
    ({'weight_bits': 1, 'clip': False}, '--nouql_clip out'),
    ({'weight_bits': 4, 'target_bytes': 9}, '--uql_target_bytes chooses them by layer'),
    ({'enbl_search': True}, '--uql_enbl_search needs a budget'),
    ({'bucket_type': 'row'}, '--uql_bucket_type takes one of channel, split'),
  ],
)
def test_settings_that_contradict_are_refused(values, message):
  with pytest.raises(UserError, match=message):
    UqlConfig(**values)


@pytest.mark.parametrize(
  ('config', 'values', 'remedy'),
  [
    (UqlConfig, {'nb_rlouts': 9}, '--uql_enbl_search'),
    (UqlConfig, {'nb_rlouts_min': 9, 'equivalent_bits': 4.0}, '--uql_enbl_search'),
    (UqlConfig, {'nb_iters_ft': 9}, '--uql_enbl_search'),
    (UqlConfig, {'lrn_rate_ft': 0.1}, '--uql_enbl_search'),
    (UqlConfig, {'nb_smpls_scan': 9, 'target_bytes': 9}, '--uql_enbl_search'),
    (UqlConfig, {'w_bit_min': 3}, '--uql_equivalent_bits or --uql_target_bytes'),
    (UqlConfig, {'w_bit_max': 6}, '--uql_equivalent_bits or --uql_target_bytes'),
    (UqlConfig, {'use_buckets': False, 'bucket_type': 'split'}, '--uql_use_buckets'),
    (UqlConfig, {'bucket_size': 64}, '--uql_bucket_type split'),
    (NuqlConfig, {'bucket_type': 'channel'}, '--nuql_use_buckets'),
    (NuqlConfig, {'bucket_size': 64}, '--nuql_use_buckets'),
    (NuqlConfig, {'nb_rounds': 2}, '--nuql_prune_ratio above 0'),
    (NuqlConfig, {'prune_share': 0.3}, '--nuql_prune_ratio above 0'),
    (NuqlConfig, {'nb_smpls_scan': 9}, '--nuql_prune_ratio above 0'),
    (NuqlConfig, {'opt_mode': 'weights', 'centroid_step': 'sum'}, '--nuql_opt_mode both'),
  ],
)
def test_flags_without_an_effect_are_refused(config, values, remedy):
  with pytest.raises(UserError) as raised:
    config(**values)
  assert f' has an effect only with {remedy}' in str(raised.value)


def test_flags_with_an_effect_are_taken():
  UqlConfig(equivalent_bits=4.0, w_bit_min=3, enbl_search=True, nb_rlouts=9, nb_smpls_scan=9)
  UqlConfig(bucket_type='split', bucket_size=64)
  NuqlConfig(prune_ratio=0.5, nb_rounds=2, use_buckets=True, bucket_size=64)


def test_powers_of_two_must_stay():
  NuqlConfig(init_style='log', opt_mode='weights')
  with pytest.raises(UserError, match='add --nuql_opt_mode weights'):
    NuqlConfig(init_style='log')


def test_containers_of_activations():
  found = [UqlConfig(activation_bits=bits).container_bits for bits in (2, 8, 9, 16, 32)]
  assert found == [8, 8, 16, 16, 32]
  assert NuqlConfig(use_buckets=True).bucket_kind == 'split'


@pytest.mark.parametrize(('bits', 'sign'), [(1, 1), (2, 1), (3, -1), (4, 1)])
def test_logarithmic_codebooks_are_powers_of_two_by_a_slow_search(bits, sign):
  values = np.random.default_rng(bits).normal(size=200) * 0.3
  values[0] = sign * 1.1
  size = 2**bits
  book = codebook_of(values, size, 'log')
  assert (np.diff(book) > 0).all()
  powers = np.abs(book[book != 0])
  np.testing.assert_array_equal(np.log2(powers), np.round(np.log2(powers)))
  assert ((book == 0).sum(), (book > 0).sum()) == {
    1: (0, 1),
    2: (1, 2 if sign > 0 else 1),
    3: (1, 3 + (sign > 0)),
    4: (1, 8 - (sign < 0)),
  }[bits]
  errors = {}
  for top in (0, -1, -2):
    large = [sign * 2.0 ** (top - i) for i in range(size // 2)]
    entries = [-(2.0**top), 2.0**top] if bits == 1 else [*large, 0, *(-v for v in large[:-1])]
    errors[top] = sum(min((value - entry) ** 2 for entry in entries) for value in values)
  assert np.abs(book).max() == 2.0 ** min(errors, key=errors.get)


def test_weights_take_the_nearest_power_of_two_not_that_of_the_rounded_logarithm():
  book = codebook_of(np.array([1.0, -1.0, 0.3]), 8, 'log')
  weights = np.array([0.72, 0.74, 0.76, 0.36, 0.38])  # Logarithms are rounded up from 0.707 on.
  np.testing.assert_array_equal(book[nearest(book, weights)], [0.5, 0.5, 1.0, 0.25, 0.5])


def test_binary_weights_are_signs_times_mean_magnitudes_while_they_train():
  rng = np.random.default_rng(0)
  kernel = rng.normal(size=(3, 3, 4, 5)).astype(np.float32) * 0.1
  kernel[0, 0, 0, :2] = 0
  variable = tf.Variable(kernel, name='layer/kernel')
  buckets = buckets_of('layer/kernel', kernel.shape, 'channel', 1)
  shadow = ShadowWeights({'layer': variable}, {'layer': BinaryProjection(buckets)})
  shadow.start()
  exact = kernel.astype(np.float64)
  for step in range(3):
    for channel in range(5):
      mine = exact[..., channel]
      there = kernel[..., channel] != 0
      expected = np.where(mine < 0, -1, 1) * np.abs(mine[there]).mean() * there
      np.testing.assert_allclose(variable.numpy()[..., channel], expected, rtol=1e-5)
    change = rng.normal(size=kernel.shape).astype(np.float32) * 0.3 * (step + 1)
    variable.assign_add(change)
    shadow.apply()
    exact = np.clip(exact + change * (kernel != 0), -1, 1)


def test_halves_are_rounded_away_from_zero_as_the_runtime_does():
  import decimal

  values = np.array([-2.5, -1.5, -0.5, -0.2, 0.0, 0.5, 1.5, 2.5, 2.4999, 7.5])
  expected = [
    int(decimal.Decimal(float(v)).to_integral_value(decimal.ROUND_HALF_UP)) for v in values
  ]
  steps, zeros = np.array(1.0), np.array(0)
  assert rounded(values, steps, zeros, 8, True).tolist() == expected
  found = rounded_tensor(tf.constant(values, tf.float32), 1.0, 0.0, (-127.0, 127.0))
  assert found.numpy().tolist() == expected
