"""Networks that a runtime computes wrongly: rewritten where an equal form is known, else named."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from secateurs.utils.deploy.faults import repair as repair_module
from secateurs.utils.deploy.faults.known import known_faults
from secateurs.utils.deploy.faults.rewritings import REWRITINGS, rewritten, same_padding
from secateurs.utils.deploy.files import export_files
from secateurs.utils.deploy.files.export import export_model
from secateurs.utils.deploy.files.float_operators import float_operators
from secateurs.utils.deploy.runtime import interpreter
from secateurs.utils.deploy.runtime.interpreter import TFLiteModel
from secateurs.utils.training.models.quantization import quantized_twin

L = keras.layers


def network():
  """The runtime of TensorFlow 2.21 errs at its two strided layers with narrow kernels."""
  keras.utils.set_random_seed(0)
  x = inputs = L.Input((17, 18, 3))
  x = L.Conv2D(8, 3, padding='same', activation='relu', name='first')(x)
  x = L.DepthwiseConv2D((3, 1), 2, padding='same', name='narrow')(x)
  x = L.Conv2D(8, 1, activation='relu', name='middle')(x)
  x = L.Conv2D(8, (1, 2), (1, 3), padding='same', name='wide')(x)
  return keras.Model(inputs, L.Dense(3)(L.Flatten()(x)), name='net')


@pytest.fixture(scope='module')
def images():
  return np.random.default_rng(0).standard_normal((8, 17, 18, 3), np.float32)


@pytest.fixture
def faulty(monkeypatch):
  """The runtime that errs, and no knowledge of its faults."""
  monkeypatch.setattr(interpreter, '_interpreter_class', lambda: tf.lite.Interpreter)
  monkeypatch.setattr(export_files, 'known_faults', lambda _: {})


def test_layers_are_found_and_rewritten(images, tmp_path, faulty):
  model = network()
  result = export_model(model, tmp_path / 'm', calibration=images, int8=True)
  assert result.left_out == {}
  assert [note.partition(' (')[0] for note in result.notes] == [
    'TensorFlow Lite computes layer narrow',
    'TensorFlow Lite computes layer wide',
  ]
  assert (
    'DepthwiseConv2D, kernel size 3x1, strides 2x2, same padding, input 17x18x8'
    in (result.notes[0])
  )
  assert result.tflite.parity.max_rel_diff < 1e-5
  assert result.tflite_int8.parity.max_diff_steps < 8
  assert model.get_layer('narrow').padding == 'same'
  assert 'call' not in vars(model.get_layer('narrow'))


def test_a_layer_without_an_equal_form_leaves_out_its_file(images, tmp_path, faulty, monkeypatch):
  monkeypatch.setattr(repair_module, 'REWRITINGS', {})
  result = export_model(network(), tmp_path / 'm')
  assert sorted(result.files) == ['keras', 'pb']
  assert 'computes layer narrow (DepthwiseConv2D' in result.left_out['tflite']
  assert result.notes == []


def test_recurrent_convolutions_stay_as_they_are():
  inputs = L.Input((3, 7, 7, 2))
  x = L.ConvLSTM2D(4, (3, 1), 2, padding='same')(inputs)
  assert known_faults(keras.Model(inputs, x)) == {}


def test_known_faults_are_avoided_whatever_the_runtime(images, tmp_path, monkeypatch):
  model = network()
  assert {layer.name for layer in known_faults(model)} == {'narrow', 'wide'}
  twin = quantized_twin(model)
  result = export_model(model, tmp_path / 'm', quantized=twin)
  assert (result.left_out, result.notes) == ({}, [])
  for file, reference in ((result.tflite, model), (result.tflite_int8, twin)):
    for runtime in (tf.lite.Interpreter, interpreter._interpreter_class()):
      monkeypatch.setattr(interpreter, '_interpreter_class', lambda runtime=runtime: runtime)
      lite = TFLiteModel(file.path)
      atol = 8 * lite.output_step if lite.is_quantized else 1e-4
      np.testing.assert_allclose(lite.predict(images), reference(images), atol=atol)


@pytest.mark.parametrize('strides', [1, 2, 3, 6])
@pytest.mark.parametrize('kernel', [(1, 1), (2, 3), (3, 1), (4, 5)])
@pytest.mark.parametrize('kind', [L.Conv2D, L.DepthwiseConv2D, L.SeparableConv2D])
def test_rewritings_equal_the_layer(kind, kernel, strides, images):
  filters = {} if kind is L.DepthwiseConv2D else {'filters': 4}
  for dilation in (1, 2) if strides == 1 else (1,):
    layer = kind(
      **filters, kernel_size=kernel, strides=strides, dilation_rate=dilation, padding='same'
    )
    layer.activation = tf.nn.relu
    expected = layer(images)
    for name, rewriting in REWRITINGS.items():
      call = rewriting(layer)
      if call is None:
        assert 'groups' in name
        continue
      with rewritten({layer: call}):
        np.testing.assert_allclose(layer(images), expected, atol=1e-5)
    np.testing.assert_array_equal(layer(images), expected)


def test_same_padding_by_hand():
  # 18 places, stride 2: 9 windows. Of width 3 they need 19 places, of width 1 they need 17.
  assert same_padding((18, 18), (3, 1), (2, 2), (1, 1)) == [(0, 1), (0, 0)]
  assert same_padding((5, 5), (3, 3), (1, 1), (1, 2)) == [(1, 1), (2, 2)]


def test_operators_that_stayed_float_are_named(images, tmp_path):
  result = export_model(network(), tmp_path / 'm', calibration=images, int8=True)
  assert float_operators(result.tflite_int8.path.read_bytes()) is None
  text = float_operators(result.tflite.path.read_bytes())
  assert 'DEPTHWISE_CONV_2D' in text
  assert '3 CONV_2D' in text
