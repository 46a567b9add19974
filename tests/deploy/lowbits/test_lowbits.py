"""Files with weights of few bits hold the grids that training left, exactly."""

import numpy as np
import pytest
import tf_keras as keras
from tensorflow.lite.python import schema_py_generated as schema

from secateurs.utils.deploy import tflite_bytes
from secateurs.utils.deploy.files.export_files import export_job
from secateurs.utils.deploy.lowbits.export import write_quantized
from secateurs.utils.deploy.lowbits.grids import recover_steps
from secateurs.utils.deploy.lowbits.ranges import activation_ranges
from secateurs.utils.deploy.lowbits.writer import quantized_bytes
from secateurs.utils.deploy.runtime.interpreter import TFLiteModel
from secateurs.utils.errors import UserError
from secateurs.utils.graph.counts.memory import all_bytes
from secateurs.utils.graph.flat.walk import flatten_model
from secateurs.utils.training.models import rounded_activations
from secateurs.utils.training.models.rounded_activations import calibrate, rounded_twin

L = keras.layers
RNG = np.random.default_rng(0)


def test_steps_are_recovered():
  integers = np.array([[3, -7, 2], [0, 0, 0], [100, -50, 25], [2, -4, 6]])
  steps, greatest = recover_steps(integers * 0.013, 127)
  np.testing.assert_allclose(steps, [0.013, 1, 0.325, 0.026])  # The coarsest grid.
  assert greatest.tolist() == [7, 0, 4, 3]
  steps, greatest = recover_steps(np.array([[0.3141592, 0.2718281, 1.0]]), 127)
  assert (steps[0], greatest[0]) == (pytest.approx(1 / 127), 127)  # On no grid.


@pytest.fixture(scope='module')
def model():
  """Kernels of 4, 8 (depthwise) and 6 bits, each layer on one grid, with normalisation to fold."""
  inputs = L.Input((10, 10, 3))
  x = L.Conv2D(8, 3, name='four', use_bias=False)(inputs)
  x = L.ReLU()(L.BatchNormalization(gamma_initializer='random_normal', name='norm')(x))
  x = L.DepthwiseConv2D(3, name='deep')(x)
  x = L.Conv2D(6, 1, name='six')(x)
  x = L.add([x, L.Conv2D(6, 1)(x)])
  model = keras.Model(inputs, L.Dense(4, name='head')(L.GlobalAveragePooling2D()(x)))
  for layer, last in (('four', 7), ('deep', 7), ('six', 31), ('head', 7)):
    kernel = model.get_layer(layer).weights[0]
    values = kernel.numpy()
    step = np.abs(values).max() / last
    kernel.assign(np.rint(values / step) * step)
  return model


def test_weights_are_exact_in_the_smallest_container(model, tmp_path):
  images = RNG.standard_normal((6, 10, 10, 3)).astype(np.float32)
  content, bits = quantized_bytes(tflite_bytes(model), 32)
  assert sorted(bits.values()) == [4, 4, 8, 8, 8]
  path = tmp_path / 'quant.tflite'
  path.write_bytes(content)
  found = TFLiteModel(path).predict(images)
  expected = model(images).numpy()
  # The second 1x1 convolution lies on no grid and is rounded to 8 bits.
  assert np.abs(found - expected).max() < 0.02 * np.ptp(expected)


@pytest.mark.parametrize(('bits', 'share'), [(8, 0.1), (16, 0.02)])
def test_activations_in_integers(model, tmp_path, bits, share):
  images = RNG.standard_normal((16, 10, 10, 3)).astype(np.float32)
  path = tmp_path / 'quant.tflite'
  path.write_bytes(quantized_bytes(tflite_bytes(model), bits, images)[0])
  file, expected = TFLiteModel(path), model(images).numpy()
  assert file.is_quantized
  assert np.abs(file.predict(images) - expected).max() < share * np.ptp(expected)


def test_impossible_requests_are_named(model):
  with pytest.raises(ValueError, match='must be in'):
    quantized_bytes(tflite_bytes(model), 4)
  with pytest.raises(ValueError, match='calibration images'):
    activation_ranges(tflite_bytes(model), None)


def test_ranges_are_those_of_the_values(model):
  images = RNG.standard_normal((20, 10, 10, 3)).astype(np.float32)
  found = activation_ranges(tflite_bytes(model), images)
  assert found['image']['min'].item() == images.min()
  assert found['image']['max'].item() == images.max()


def test_a_twin_rounds_what_an_integer_runtime_holds(model):
  images = RNG.standard_normal((60, 10, 10, 3)).astype(np.float32)
  twin = rounded_twin(model, 8)
  calibrate(twin, model, images)
  names = {layer.name for layer in twin.layers}
  assert {'input_range', 'deep_range', 'head_range'} <= names
  assert not {'four_range', 'norm_range'} & names  # Fused into the ReLU that follows.
  near, exact = twin(images).numpy(), model(images).numpy()
  assert 0 < np.abs(near - exact).max() < 0.05 * np.ptp(exact)
  coarse = rounded_twin(model, 3)
  calibrate(coarse, model, images)
  assert len(np.unique(coarse(images).numpy())) <= 8
  low = twin.get_layer('input_range').low
  before = float(low)
  twin(10 * images, training=True)
  assert float(low) == pytest.approx(0.99 * before + 0.01 * 10 * images.min(), rel=1e-4)


def test_ranges_do_not_depend_on_how_many_images_are_run_at_once(model, monkeypatch):
  images = RNG.standard_normal((7, 10, 10, 3)).astype(np.float32)
  twins = [rounded_twin(model, 8) for _ in range(2)]
  calibrate(twins[0], model, images)
  held, run = [], rounded_activations.run_calls

  def watched(calls, given, **options):
    held.extend(len(one) for one in given.values())
    return run(calls, given, **options)

  monkeypatch.setattr(rounded_activations, 'run_calls', watched)
  size = all_bytes(flatten_model(model))
  monkeypatch.setattr(rounded_activations, '_CALIBRATION_BYTES', 3 * size + 1)
  calibrate(twins[1], model, images)
  assert held == [3, 3, 1]
  for one, other in zip(twins[0].weights, twins[1].weights, strict=True):
    np.testing.assert_allclose(one, other, rtol=1e-6)


def test_a_twin_of_shared_layers_whatever_others_are_called():
  inputs, act = keras.Input((4, 4, 2)), keras.layers.ReLU(name='act')
  x = keras.layers.ReLU(name='act_1')(keras.layers.Conv2D(3, 1, name='input')(inputs))
  for number in range(2):
    x = act(keras.layers.Conv2D(3, 1, name=f'conv{number}')(x))
  names = [layer.name for layer in rounded_twin(keras.Model(inputs, x), 8).layers]
  assert {'input_range', 'act_range', 'act_1_range', 'act_2_range'} <= set(names)


def test_ranges_of_a_graph_for_single_samples():
  """A transposed convolution's file has its number of samples built in."""
  inputs = keras.Input((4, 4, 2))
  up = keras.layers.Conv2DTranspose(3, 2, 2)(inputs)
  x = keras.layers.Concatenate()([keras.layers.UpSampling2D()(inputs), up])
  model = keras.Model(inputs, keras.layers.Conv2D(2, 1)(x))
  images = np.random.default_rng(0).normal(size=(20, 4, 4, 2)).astype(np.float32)
  found = activation_ranges(tflite_bytes(model), images)
  ends = [(one['min'].item(), one['max'].item()) for one in found.values()]
  outputs = model(images).numpy()
  assert any(np.allclose(end, (outputs.min(), outputs.max()), atol=1e-5) for end in ends)


@pytest.mark.parametrize(('last', 'size'), [(127, 512 * 520), (7, 512 * 520 // 2)])
def test_large_files_hold_their_weights_where_small_runtimes_look(last, size, tmp_path):
  kernel = RNG.integers(-last, last + 1, (512, 520)) * np.float32(0.01)
  kernel[0] = last * np.float32(0.01)
  model = keras.Sequential([keras.Input((512,)), L.Dense(520)])  # 256 KiB and more at 8 bits.
  model.set_weights([kernel, np.zeros(520)])
  content, _ = quantized_bytes(tflite_bytes(model), 32)
  found = schema.Model.GetRootAs(content, 0)
  buffers = [found.Buffers(number) for number in range(found.BuffersLength())]
  assert max(buffer.DataLength() for buffer in buffers) == size
  assert {buffer.Offset() for buffer in buffers} == {0}  # None lies after the flatbuffer.
  path = tmp_path / 'quant.tflite'
  path.write_bytes(content)
  inputs = RNG.standard_normal((1, 512)).astype(np.float32)
  np.testing.assert_allclose(
    TFLiteModel(path).predict(inputs), inputs @ kernel, atol=0.02 * np.abs(inputs @ kernel).max()
  )


def recurrent(steps):
  """An LSTM with kernels of 4 bits."""
  inputs = keras.Input((steps, 8))
  model = keras.Model(inputs, L.Dense(3)(L.LSTM(4, name='reader')(inputs)))
  for kernel in model.get_layer('reader').weights[:2]:
    step = np.abs(kernel.numpy()).max() / 7
    kernel.assign(np.rint(kernel.numpy() / step) * step)
  return model, RNG.normal(size=(32, steps, 8)).astype(np.float32)


@pytest.mark.parametrize('bits', [8, 16])
def test_recurrent_layers_are_unrolled_for_integer_activations(bits, tmp_path):
  model, samples = recurrent(6)
  job = export_job(model, None, False, samples, samples)
  path = tmp_path / 'quant.tflite'
  write_quantized(job, path, 'quant', activation_bits=bits)
  file, expected = TFLiteModel(path), model(samples).numpy()
  assert 'WHILE' not in file.operator_names()
  assert np.abs(file.predict(samples) - expected).max() < 0.1 * np.ptp(expected)
  found = schema.ModelT.InitFromPackedBuf(path.read_bytes())
  held = {(tensor.buffer, tensor.type) for tensor in found.subgraphs[0].tensors}
  assert [kind for _, kind in held].count(schema.TensorType.INT4) == 2  # Once for all steps.


def test_loops_have_no_integer_activations(tmp_path):
  model, samples = recurrent(300)
  job = export_job(model, None, False, samples, samples)
  with pytest.raises(UserError, match='has a loop, inside of which no ranges'):
    write_quantized(job, tmp_path / 'quant.tflite', 'quant', activation_bits=8)


@pytest.mark.parametrize(('bits', 'share'), [(8, 0.05), (32, 1e-5)])
def test_transposed_convolutions_are_exact_in_8_bits(bits, share, tmp_path):
  inputs = keras.Input((8, 8, 3))
  model = keras.Model(inputs, L.Conv2DTranspose(16, 3, 2, name='up')(inputs))
  kernel = model.get_layer('up').kernel
  step = np.abs(kernel.numpy()).max() / 7
  kernel.assign(np.rint(kernel.numpy() / step) * step)
  images = RNG.standard_normal((16, 8, 8, 3)).astype(np.float32)
  content, found = quantized_bytes(tflite_bytes(model), bits, images)
  assert list(found.values()) == [8]
  path = tmp_path / 'quant.tflite'
  path.write_bytes(content)
  assert np.abs(TFLiteModel(path).predict(images) - model(images)).max() < share * np.ptp(
    model(images)
  )
  held = schema.ModelT.InitFromPackedBuf(content)
  (weights,) = [
    tensor
    for tensor in held.subgraphs[0].tensors
    if (tuple(tensor.shape), tensor.type) == ((16, 3, 3, 3), schema.TensorType.INT8)
  ]
  assert len(np.unique(held.buffers[weights.buffer].data)) <= 15
