from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from small_files import file_of, images, separable
from tensorflow.lite.python import schema_py_generated as schema

from secateurs.utils.deploy.files.convert import int8_bytes
from secateurs.utils.deploy.int8 import repair as repair_module
from secateurs.utils.deploy.int8 import rounding
from secateurs.utils.deploy.int8.equalise import equalised, scales
from secateurs.utils.deploy.int8.layer_errors import mean, relative_error
from secateurs.utils.deploy.int8.maths import Product, product_of
from secateurs.utils.deploy.int8.opened import OpenFile, with_kernels
from secateurs.utils.deploy.int8.ranges import clipped_ranges, mse_range, percentile_range
from secateurs.utils.deploy.int8.recipes import FLOAT, quantized
from secateurs.utils.deploy.int8.refit import refitted
from secateurs.utils.deploy.int8.repair import Repairer
from secateurs.utils.deploy.int8.rounding import Squares, adaptive_rounding, squares_of
from secateurs.utils.deploy.int8.running import Runner
from secateurs.utils.deploy.int8.steps import parsed_steps
from secateurs.utils.deploy.lowbits.ranges import activation_ranges
from secateurs.utils.errors import UserError

library = pytest.importorskip('ai_edge_quantizer')


@pytest.fixture(scope='module')
def uneven():
  """Content of a float file whose channels differ by orders of magnitude, and held-out inputs."""
  return file_of(separable(uneven=2.0)), images(32, seed=7)


def apart(content, other, inputs):
  return mean(relative_error(Runner(content, inputs).outputs(), Runner(other, inputs).outputs()))


@pytest.mark.parametrize('by', ['activations', 'weights'])
def test_equalising_keeps_the_outputs_and_saves_the_integers(uneven, by):
  content, inputs = uneven
  found = equalised(content, images(), by)
  assert found.nb_channels > 8
  assert apart(content, found.content, inputs) < 1e-9
  files = [quantized(one, activation_ranges(one, images())) for one in (content, found.content)]
  before, after = (apart(content, one, inputs) for one in files)
  assert after < before / 100


def test_residual_channels_are_scaled_together():
  keras.utils.set_random_seed(3)
  x = inputs = keras.Input((12, 12, 3))
  x = first = keras.layers.Conv2D(6, 3, padding='same', activation='relu', name='a')(x)
  x = keras.layers.Conv2D(6, 3, padding='same', name='b')(x)
  x = keras.layers.ReLU()(keras.layers.Add()([x, first]))
  x = keras.layers.Flatten()(keras.layers.MaxPooling2D(2)(x))
  model = keras.Model(inputs, keras.layers.Dense(3)(x))
  kernel, bias = model.get_layer('a').get_weights()
  model.get_layer('a').set_weights([kernel * 10.0 ** np.arange(-2, 4), bias])
  content, given = file_of(model), images(8, seed=3)
  found = equalised(content, images(), 'activations')
  assert 4 <= found.nb_channels <= 6  # One space: the sum and both of its sides.
  assert apart(content, found.content, given) < 1e-9


def test_relu6_is_left_where_it_is_reached():
  def six(name):
    return keras.layers.ReLU(6.0, name=name)

  model = separable(relu=six)
  content = file_of(model)
  assert equalised(content, images(), 'weights').nb_relu6 == 3  # All values are small.
  kernel, bias = model.get_layer('first').get_weights()
  model.get_layer('first').set_weights([kernel * 50, bias])
  reached = file_of(model)
  found = equalised(reached, images(), 'weights')
  assert found.nb_relu6 < 3
  assert apart(reached, found.content, images(8, seed=9)) < 1e-9


def test_scales_by_hand():
  found = scales(np.array([4.0, 1.0, 0.0]), np.array([1.0, 4.0, 1.0]))
  np.testing.assert_allclose(found, [2.0, 0.5, 1.0])


def test_bias_correction_centres_the_outputs():
  model, inputs = separable(), images(64)
  content = file_of(model)
  ranges = activation_ranges(content, inputs)
  plain = quantized(content, ranges)
  # A kernel that was rounded down everywhere shifts what its layer gives.
  file = OpenFile(plain)
  op = with_kernels(file)[2]
  kernel = file.constant(op.inputs[1])
  file.set_input(op, 1, np.maximum(kernel.astype(int) - 2, -127).astype(np.int8))
  wrong = file.content()
  corrected = refitted(content, wrong, inputs, rounding=False, bias=True)
  held_out = images(64, seed=4)
  wanted, before, after = (Runner(one, held_out).outputs() for one in (content, wrong, corrected))
  assert (
    np.abs((after - wanted).mean(axis=0)).max() < 0.2 * np.abs((before - wanted).mean(axis=0)).max()
  )


def test_rounding_beats_the_nearest():
  rng = np.random.default_rng(0)
  inputs = rng.standard_normal((200, 1, 24)) @ rng.standard_normal((24, 24))  # Correlated.
  weights, step = rng.standard_normal((1, 24, 5)), np.full((1, 1, 5), 0.4)
  squares = squares_of(inputs)
  products = squares.times(weights)
  found = adaptive_rounding(weights, step, squares, products)
  places = weights / step
  assert np.all((found == np.floor(places)) | (found == np.ceil(places)))

  def error(integers):
    rest = integers * step - weights
    return float(np.sum(rest * squares.times(rest)))

  assert error(found) < 0.6 * error(np.rint(places))


def test_few_samples_of_many_values_are_no_matrix_and_channels_are_rounded_in_pieces(monkeypatch):
  rng = np.random.default_rng(0)
  inputs, weights = rng.standard_normal((7, 2, 40)), rng.standard_normal((2, 40, 5))
  factored = squares_of(inputs)
  assert factored.values.shape == (2, 7, 40)
  whole = Squares(np.einsum('pgk,pgl->gkl', inputs, inputs) / 7)
  np.testing.assert_allclose(factored.times(weights), whole.times(weights))
  np.testing.assert_allclose(factored.power(), whole.power())
  np.testing.assert_allclose(squares_of(np.tile(inputs, (12, 1, 1))).values, whole.values)
  step, products = np.full((1, 1, 5), 0.4), whole.times(weights)
  wanted = adaptive_rounding(weights, step, whole, products)
  monkeypatch.setattr(rounding, '_AT_ONCE', 160)  # Two channels of two groups of 40.
  np.testing.assert_array_equal(adaptive_rounding(weights, step, whole, products), wanted)
  found = adaptive_rounding(weights, step, factored, products)
  assert np.mean(found == wanted) > 0.9  # Seven samples leave some undecided.


@pytest.mark.parametrize('kind', ['CONV_2D', 'DEPTHWISE_CONV_2D', 'FULLY_CONNECTED'])
def test_some_patches_are_evenly_many_of_all(kind):
  inputs = images(4, (9, 7, 6))
  shape = {'CONV_2D': (5, 3, 2, 6), 'DEPTHWISE_CONV_2D': (1, 3, 2, 6)}.get(kind, (5, 6))
  groups = 6 if kind == 'DEPTHWISE_CONV_2D' else 1
  product = Product(kind, shape, groups, (2, 1), (1, 2), 'SAME')
  every = product.patches(inputs)
  some = product.patches(inputs, every.size // 3)
  np.testing.assert_array_equal(some, every[::3])
  if kind == 'CONV_2D':
    sizes = (1, 3, 2, 1), (1, 2, 1, 1), (1, 1, 2, 1)
    wanted = tf.image.extract_patches(inputs, *sizes, 'SAME').numpy()
    np.testing.assert_array_equal(every, wanted.reshape(len(every), 1, -1))


def test_products_are_the_layers():
  model, inputs = separable(), images(3)
  file = OpenFile(file_of(model))
  runner = Runner(file.content(), inputs)
  kinds = []
  for op in with_kernels(file):
    product = product_of(file, op)
    kernel = file.constant(op.inputs[1])
    weights = product.weights(kernel)
    np.testing.assert_array_equal(product.kernel(weights), kernel)
    patches = product.patches(runner.tensor(file.name(op.inputs[0])))
    sums = np.einsum('pgk,gko->pgo', patches, weights).reshape(len(patches), -1)
    bias = file.constant(op.inputs[2]) if len(op.inputs) > 2 else None  # None where it is zero.
    sums = sums if bias is None else sums + bias
    found = np.maximum(sums, 0) if op.fused else sums
    wanted = runner.tensor(file.name(op.outputs[0]))
    np.testing.assert_allclose(found.reshape(wanted.shape), wanted, atol=1e-4)
    kinds.append(op.kind)
  assert kinds == ['CONV_2D', 'DEPTHWISE_CONV_2D', 'CONV_2D', 'FULLY_CONNECTED']


def test_ranges_leave_rare_extremes_out():
  counts = np.zeros(1000)
  counts[0], counts[999], counts[490:510] = 1, 1, 10**5  # Of -10 to 10, nearly all in [-0.2, 0.2].
  low, high = percentile_range(counts, -10.0, 10.0)
  assert low == pytest.approx(-0.2)
  assert high == pytest.approx(0.2)
  low, high = mse_range(counts, -10.0, 10.0)
  assert -10 < low < 0 < high < 10
  even = np.ones(1000)
  assert mse_range(even, 0.0, 10.0) == pytest.approx((0.0, 10.0), rel=0.03)


def test_clipped_ranges_keep_inputs_and_outputs():
  content, inputs = file_of(separable()), images()
  inputs[0, 0, 0, 0] = 100.0
  ranges, file = activation_ranges(content, inputs), OpenFile(content)
  found = clipped_ranges(content, ranges, inputs, 'mse')
  ends = file.name(file.inputs[0]), file.name(file.outputs[0])
  assert all(found[name]['max'] == ranges[name]['max'] for name in ends)
  inner = file.name(file.operators[0].outputs[0])
  assert found[inner]['max'] < ranges[inner]['max']


def test_layers_stay_float_where_asked():
  content = file_of(separable())
  file = OpenFile(content)
  scope = file.scope(file.operators[1])
  made = OpenFile(quantized(content, activation_ranges(content, images()), {scope: FLOAT}))
  kinds = {
    op.kind: made.type(op.outputs[0]) for op in made.operators if op.kind.endswith('CONV_2D')
  }
  assert kinds == {'CONV_2D': np.int8, 'DEPTHWISE_CONV_2D': np.float32}


def drop_of(inputs):
  """A drop of a score that is how often the largest output is another."""

  def drop(original, changed):
    both = [Runner(one, inputs).outputs().argmax(-1) for one in (original, changed)]
    return float(np.mean(both[0] != both[1]))

  return drop


def test_large_files_hold_their_weights_where_small_runtimes_look():
  model = keras.Sequential([keras.Input((512,)), keras.layers.Dense(520)])  # 256 KiB and more.
  content = file_of(model)
  made = quantized(content, activation_ranges(content, images(4, (512,))))
  found = schema.Model.GetRootAs(made, 0)
  buffers = [found.Buffers(number) for number in range(found.BuffersLength())]
  assert max(buffer.DataLength() for buffer in buffers) == 512 * 520
  assert {buffer.Offset() for buffer in buffers} == {0}  # None lies after the flatbuffer.


def test_auto_repairs_what_is_wrong_and_stops(uneven, monkeypatch):
  content, held_out = uneven
  plain = int8_bytes(separable(uneven=2.0), images())
  repair = Repairer(['auto'], drop_of(held_out), 0.05)
  made = repair(content, plain, images())
  drops = {one.step: one.drop for one in repair.steps}
  assert drops['plain'] > 0.05
  assert repair.steps[1].step == 'equalise'
  assert repair.steps[1].kept
  assert drop_of(held_out)(content, made) <= 0.05
  assert len(repair.steps) == 2  # Equalising is enough: nothing else was tried.
  assert 'was repaired (equalise)' in repair.sentence()
  seen = []
  monkeypatch.setattr(repair_module, 'errors_alone', lambda *given: seen.append(given) or [])
  for _ in range(2):
    assert repair.layer_errors().all > 0.1  # Of the file without repair.
  repair._alone(repair._state)  # After equalising it is another file.
  assert [given[0] == content for given in seen] == [True, False]


@pytest.mark.parametrize('holds', [True, False])
def test_more_bits_are_taken_where_they_hold_though_the_outputs_lie_no_nearer(holds, monkeypatch):
  said, layers = [], [SimpleNamespace(scope=name, layer=name) for name in 'ab']
  monkeypatch.setattr(repair_module, 'errors_alone', lambda *_: layers)
  repair = Repairer(['auto'], lambda *_: 0.001 if holds else 0.01, 0.005, say=said.append)
  state = repair_module._State(b'', {}, bits={'b': 16})
  repair._content, repair._images, repair._state = b'', None, state
  repair._best, repair._best_apart = b'plain', 0.1
  monkeypatch.setattr(repair, '_apart', lambda made: 0.2)
  monkeypatch.setattr(repair, '_build', lambda state: str(sorted(state.bits.items())).encode())
  repair._note('plain', True, 0.1, 0.01, '')
  repair._try('float')
  assert repair._best == (b"[('a', 32), ('b', 16)]" if holds else b'plain')  # In 16 bits still.
  assert ('does not hold' in repair.sentence()) is False
  assert ('was repaired (float)' in repair.sentence()) is holds


@pytest.mark.parametrize(
  ('drop', 'most'),
  [(drop_of(images(32, seed=7)), 0.2), (lambda *_: 1.0 - 0.997, 0.003)],
  ids=['better', 'equal but for its rounding'],
)
def test_auto_leaves_a_good_file_as_it_is(drop, most):
  model = separable()
  content, plain = file_of(model), int8_bytes(model, images())
  repair = Repairer(['auto'], drop, most)
  assert repair(content, plain, images()) == plain
  assert 'needs no repair' in repair.sentence()


def test_every_step_can_be_asked_for(uneven):
  content, held_out = uneven
  plain = int8_bytes(separable(uneven=2.0), images())
  repair = Repairer(['bias', 'mse', 'rounding', 'int16', 'float'], drop_of(held_out), 0.0)
  made = repair(content, plain, images())
  assert [one.step for one in repair.steps][:4] == ['plain', 'bias', 'mse', 'rounding']
  assert {'int16', 'float'} & {one.step for one in repair.steps}
  assert apart(content, made, held_out) < apart(content, plain, held_out)
  assert all(set(one) == {'step', 'kept', 'divergence', 'drop', 'detail'} for one in repair.block())


def test_unknown_steps_are_refused():
  assert parsed_steps('auto') == ['auto']
  assert parsed_steps('none') == []
  assert parsed_steps('bias, mse') == ['bias', 'mse']
  with pytest.raises(UserError, match='--int8_repair takes auto, none, or some of equalise'):
    parsed_steps('magic')
