"""Float and integer files look the same through TFLiteModel."""

from unittest import mock

import numpy as np
import pytest
import tf_keras as keras

from secateurs.utils.deploy import tflite_bytes
from secateurs.utils.deploy.int8.opened import OpenFile
from secateurs.utils.deploy.runtime.interpreter import (
  PREDICT_BATCH,
  TFLiteModel,
  dequantize,
  quantize,
)
from secateurs.utils.errors import UserError


@pytest.fixture
def files(exported):
  return exported('flatten')[1].files


@pytest.mark.parametrize('kind', ['tflite', 'tflite_int8'])
@pytest.mark.parametrize('threads', [1, 2])
def test_batches_give_what_single_images_give(files, images, kind, threads):
  model = TFLiteModel(files[kind].path, threads)
  single = np.concatenate([model.predict(image[np.newaxis]) for image in images[:20]])
  assert 20 % PREDICT_BATCH != 0  # the last batch is filled up
  together = model.predict(images[:20])
  assert together.dtype == np.float32
  step = model.output_step or 1e-5 * np.ptp(single)
  np.testing.assert_allclose(together, single, atol=step)
  np.testing.assert_allclose(model.predict(images[:3]), single[:3], atol=step)


def test_a_graph_for_single_samples_is_resized_once(tmp_path):
  """The states of a recurrent layer have the number of samples built in."""
  inputs = keras.Input((6, 4))
  model = keras.Model(inputs, keras.layers.LSTM(3)(inputs))
  path = tmp_path / 'model.tflite'
  path.write_bytes(tflite_bytes(model))
  images = np.random.default_rng(0).normal(size=(20, 6, 4)).astype(np.float32)
  file = TFLiteModel(path)
  with mock.patch.object(file, '_resize_inputs', wraps=file._resize_inputs) as resized:
    for _ in range(3):
      np.testing.assert_allclose(file.predict(images), model(images), atol=1e-5)
  assert [call.args for call in resized.call_args_list] == [(PREDICT_BATCH,), (1,)]


def test_shapes_are_stated_and_wrong_ones_named(files):
  model = TFLiteModel(files['tflite'].path)
  assert model.input_shape == (12, 12, 3)
  assert not model.is_quantized
  assert model.output_step is None
  with pytest.raises(UserError, match=r'takes images of shape \(12, 12, 3\), got .*\(2, 8, 8, 3\)'):
    model.predict(np.zeros((2, 8, 8, 3)))
  with pytest.raises(UserError, match='got an array of shape'):
    model.predict(np.zeros((0, 12, 12, 3)))


def test_missing_and_foreign_files_are_named(tmp_path):
  with pytest.raises(UserError, match=r'No file .*nothing\.tflite'):
    TFLiteModel(tmp_path / 'nothing.tflite').predict(np.zeros((1, 2, 2, 3)))
  (tmp_path / 'text.tflite').write_text('no model')
  with pytest.raises(UserError, match='does not open as a TensorFlow Lite model'):
    TFLiteModel(tmp_path / 'text.tflite').predict(np.zeros((1, 2, 2, 3)))
  with pytest.raises(ValueError, match='at least 1, got 0'):
    TFLiteModel(tmp_path / 'text.tflite', nb_threads=0)


def test_names_that_are_no_text_are_a_sentence(files, tmp_path):
  """As in a damaged file; scripts/fuzz_files.py, kind tflite, seed 186."""
  content = files['tflite'].path.read_bytes()
  file, path = OpenFile(content), tmp_path / 'm.tflite'
  name = file.name(file.operators[0].inputs[1]).encode()
  path.write_bytes(content.replace(name, b'\xef' * len(name)))
  with pytest.raises(
    UserError, match=r'm\.tflite does not run as .*utf-8.* it is damaged'
  ) as error:
    TFLiteModel(path).operator_names()
  assert '\n' not in str(error.value)
  with pytest.raises(UserError, match=r'm\.tflite cannot be read as .*utf-8.* it is damaged'):
    OpenFile(path.read_bytes(), path)
  with pytest.raises(UserError, match=r'The \.tflite file cannot be read'):
    OpenFile(content[:80])


@pytest.mark.parametrize('raised', [ValueError('a\nb'), RuntimeError(), UnicodeError('c')])
def test_whatever_the_runtime_raises_is_a_sentence(raised):
  interpreter = mock.Mock()
  for method in ('invoke', 'get_input_details', 'get_tensor_details', '_get_ops_details'):
    getattr(interpreter, method).side_effect = raised
  model = TFLiteModel('x.tflite')
  model._opened = interpreter
  for read in (model.invoke_once, model.operator_names, model.nb_bytes, lambda: model.input_shape):
    with pytest.raises(UserError, match=r'^x\.tflite does not run as .*: it is damaged.*\.$'):
      read()


def test_outputs_without_an_axis_of_samples_are_refused():
  """As a damaged shape gives them."""
  details = {'index': 0, 'shape': np.array([1, 2]), 'dtype': np.float32, 'quantization': (0.0, 0)}
  interpreter = mock.Mock()
  interpreter.get_input_details.return_value = [details]
  interpreter.get_output_details.return_value = [details | {'shape': np.array([], int)}]
  interpreter.get_tensor.return_value = np.float32(1)
  model = TFLiteModel('x.tflite')
  model._opened = interpreter
  with pytest.raises(UserError, match=r'x\.tflite .* \(an output has no axis of samples\)'):
    model.predict(np.zeros((1, 2), np.float32))


def test_quantize_by_hand():
  steps = quantize(np.array([-1.0, 0.0, 0.26, 9.0]), 0.25, -3, np.int8)
  assert steps.tolist() == [-7, -3, -2, 33]
  assert quantize(np.array([-999.0, 999.0]), 0.25, 0, np.int8).tolist() == [-128, 127]
  assert dequantize(np.array([-7, -3, 33], np.int8), 0.25, -3).tolist() == [-1.0, 0.0, 9.0]
