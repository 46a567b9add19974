import importlib.util
import sys

import numpy as np
import pytest
import tf_keras as keras

from secateurs.utils.deploy.files.export import export_model
from secateurs.utils.deploy.files.format_names import parsed_formats
from secateurs.utils.deploy.files.other_files import FURTHER, onnx_function
from secateurs.utils.deploy.runtime.interpreter import TFLiteModel
from secateurs.utils.errors import UserError

ONNX = all(importlib.util.find_spec(one) for one in ('onnx', 'onnxruntime', 'tf2onnx'))


@pytest.fixture(scope='module')
def model():
  keras.utils.set_random_seed(0)
  x = inputs = keras.Input((8, 8, 3))
  x = keras.layers.Conv2D(16, 3, activation='relu')(x)
  x = keras.layers.Conv2D(64, 3, activation='relu')(x)
  x = keras.layers.GlobalAveragePooling2D()(x)
  return keras.Model(inputs, keras.layers.Dense(5, 'softmax')(x))


@pytest.fixture
def images():
  return np.random.default_rng(0).standard_normal((6, 8, 8, 3)).astype(np.float32)


def chosen(*kinds):
  return {kind: FURTHER[kind] for kind in kinds}


def test_lighter_files_are_smaller_and_close(model, images, tmp_path):
  further = chosen('tflite_fp16', 'tflite_dynamic')
  found = export_model(
    model, tmp_path / 'net', formats=('keras', 'tflite'), parity_images=images, further=further
  )
  assert found.left_out == {}
  assert sorted(path.name for path in tmp_path.iterdir()) == [
    'net.keras',
    'net.tflite',
    'net_dynamic.tflite',
    'net_fp16.tflite',
  ]
  sizes = {kind: file.bytes for kind, file in found.files.items()}
  assert sizes['tflite_dynamic'] < sizes['tflite_fp16'] < sizes['tflite']
  wanted = model(images).numpy()
  for kind in further:
    np.testing.assert_allclose(
      TFLiteModel(found.files[kind].path).predict(images), wanted, atol=0.02
    )


def test_a_saved_model_is_a_folder_that_is_written_again(model, images, tmp_path):
  for _ in range(2):
    found = export_model(
      model, tmp_path / 'net', formats=(), parity_images=images, further=chosen('saved_model')
    )
    assert found.left_out == {}
  folder = tmp_path / 'net_saved_model'
  assert (folder / 'saved_model.pb').is_file()
  assert found.files['saved_model'].bytes > (folder / 'saved_model.pb').stat().st_size
  assert sorted(path.name for path in tmp_path.iterdir()) == ['net.keras', 'net_saved_model']


@pytest.mark.skipif(not ONNX, reason='onnx, onnxruntime or tf2onnx is not installed')
def test_onnx_computes_the_same(model, images, tmp_path):
  found = export_model(
    model, tmp_path / 'net', formats=(), parity_images=images, further=chosen('onnx')
  )
  assert found.left_out == {}
  outputs = onnx_function(found.files['onnx'].path)(images)
  np.testing.assert_allclose(outputs, model(images).numpy(), atol=1e-5)
  assert sorted(path.name for path in tmp_path.iterdir()) == ['net.keras', 'net.onnx']


def test_without_the_libraries_the_onnx_file_is_left_out(model, images, tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, 'tf2onnx', None)
  found = export_model(
    model, tmp_path / 'net', formats=(), parity_images=images, further=chosen('onnx')
  )
  assert "pip install -e '.[onnx]'" in found.left_out['onnx']


def test_formats_are_names():
  assert parsed_formats('onnx, pb') == ['keras', 'tflite', 'pb', 'onnx']
  assert parsed_formats('') == ['keras', 'tflite']
  with pytest.raises(
    UserError, match=r'--export_formats takes some of keras, .* but .h5. was given'
  ):
    parsed_formats('keras,h5')
