"""Exported files against Keras, layer by layer."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import tf_keras as keras

from secateurs.learners.run import modes
from secateurs.nets.lenet import lenet
from secateurs.utils.deploy import int8_bytes, tflite_bytes
from secateurs.utils.deploy.files.verification import verify
from secateurs.utils.deploy.lowbits.writer import quantized_bytes

L = keras.layers


def test_each_layer_is_compared(tmp_path):
  model = lenet()
  images = np.random.default_rng(0).standard_normal((20, 32, 32, 3)).astype(np.float32)
  files = {'tflite': tmp_path / 'm.tflite', 'tflite_int8': tmp_path / 'm_int8.tflite'}
  files['tflite'].write_bytes(tflite_bytes(model))
  files['tflite_int8'].write_bytes(int8_bytes(model, images))
  found = verify(model, files, images[:4])
  for kind in files:
    assert {'relu1', 'relu2', 'relu4', 'logits'} <= {one.layer for one in found.layers[kind]}
  assert max(one.share for one in found.layers['tflite']) < 1e-4
  assert all(one.steps is None for one in found.layers['tflite'])
  assert all(0 <= one.steps < 20 for one in found.layers['tflite_int8'])
  assert found.integers
  assert max(found.integers.values()) <= 1
  wrong = lenet()  # Other weights: every layer differs.
  far = verify(wrong, {'tflite': files['tflite']}, images[:4])
  assert min(one.share for one in far.layers['tflite']) > 0.1
  assert far.integers is None
  assert far.integers_refusal is None


def test_the_output_of_several_that_is_not_made_last_is_compared_with_its_own_layer(tmp_path):
  inputs = L.Input((4, 4, 3))
  maps = L.Conv2D(5, 3, padding='same', activation='relu', name='conv')(inputs)
  first = L.Dense(3, name='first')(L.GlobalAveragePooling2D()(maps))
  deeper = L.Conv2D(4, 3, activation='relu', name='deeper')(maps)
  second = L.Dense(3, name='second')(L.GlobalMaxPooling2D()(deeper))
  model = keras.Model(inputs, [first, second])
  images = np.random.default_rng(0).standard_normal((4, 4, 4, 3)).astype(np.float32)
  (tmp_path / 'm.tflite').write_bytes(tflite_bytes(model))
  found = verify(model, {'tflite': tmp_path / 'm.tflite'}, images).layers['tflite']
  assert 'first' in {one.layer for one in found}
  assert max(one.share for one in found) < 1e-4


def small_net():
  """Convolutions and a depthwise one whose kernel has the shape of its outputs, on grids of 4 bits."""
  x = inputs = L.Input((3, 3, 4))
  x = L.Conv2D(6, 3, padding='same', activation='relu', name='conv')(x)
  x = L.DepthwiseConv2D(3, padding='same', name='dw')(x)
  x = L.Concatenate(name='both')([x, L.Conv2D(2, 1, name='side')(inputs)])
  model = keras.Model(inputs, L.Dense(3, name='logits')(L.Flatten()(x)))
  for weight in model.trainable_weights:
    if 'kernel' in weight.name:
      values = weight.numpy()
      axes = tuple(range(values.ndim - 1))
      if 'dw' in weight.name:
        axes = (0, 1)
      step = np.abs(values).max(axis=axes, keepdims=True) / 7
      weight.assign(np.rint(values / step) * step)
  return model, np.random.default_rng(0).standard_normal((16, 3, 3, 4)).astype(np.float32)


def test_operators_that_the_integer_model_lacks_leave_the_comparison_with_keras(tmp_path, capsys):
  model, images = small_net()
  path = tmp_path / 'm_int8.tflite'
  path.write_bytes(int8_bytes(model, images))
  helper = SimpleNamespace(calibration_images=lambda number: images[:number])
  files = SimpleNamespace(exported=lambda: {'tflite_int8': path}, log_dir=tmp_path)
  found = modes.verify(SimpleNamespace(helper=helper), files, model)
  assert {'conv', 'dw', 'both', 'logits'} <= {one.layer for one in found.layers['tflite_int8']}
  assert max(one.steps for one in found.layers['tflite_int8']) < 20
  assert 'operators that the integer model lacks (CONCATENATION)' in found.integers_refusal
  written = json.loads((tmp_path / 'verification.json').read_text())
  assert written['integers'] is None
  assert written['integers_refusal'] == found.integers_refusal
  printed = capsys.readouterr().out
  assert 'tflite_int8: largest difference from Keras by layer, over 8 images' in printed
  assert f'tflite_int8 was not run in whole numbers: {found.integers_refusal}' in printed


@pytest.mark.parametrize(('bits', 'most'), [(16, 5e-3), (32, 1e-5)])
def test_weights_of_4_bits_are_compared_by_what_layers_make_of_them(tmp_path, bits, most):
  pytest.importorskip('ai_edge_quantizer')
  model, images = small_net()
  model.get_layer('dw').bias.assign(np.full(6, 50.0))
  path = tmp_path / 'm_quant.tflite'
  content, by_layer = quantized_bytes(tflite_bytes(model), bits, images)
  assert sorted(by_layer.values()) == [4, 4, 4, 8]
  path.write_bytes(content)
  found = {one.layer: one for one in verify(model, {'quant': path}, images[:4]).layers['quant']}
  assert {'conv', 'dw', 'both', 'logits'} <= set(found)
  assert max(one.share for one in found.values()) < most
  assert (found['conv'].steps is None) == (bits == 32)
  # The kernel of `dw`, a constant of that name and shape, is not taken for what it makes.
  model.get_layer('dw').bias.assign(np.zeros(6))
  far = {one.layer: one for one in verify(model, {'quant': path}, images[:4]).layers['quant']}
  assert far['dw'].largest > 40
