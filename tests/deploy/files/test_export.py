"""Every exported file computes what the model computes, or does not appear."""

import numpy as np
import pytest
import tf_keras as keras

from secateurs.utils.deploy.files import export as export_module
from secateurs.utils.deploy.files import export_files
from secateurs.utils.deploy.files.export import export_model
from secateurs.utils.deploy.files.parity import (
  ParityError,
  check_graph_def,
  check_keras,
  check_tflite,
  compare_outputs,
  graph_def_outputs,
  keras_outputs,
  require_parity,
)
from secateurs.utils.deploy.runtime.interpreter import TFLiteModel
from secateurs.utils.deploy.runtime.latency import measure_latency
from secateurs.utils.errors import UserError


def test_every_file_agrees_with_the_model(any_export, images):
  model, result = any_export
  written = sorted(path.name for path in result.keras.path.parent.iterdir())
  assert written == ['model.keras', 'model.pb', 'model.tflite', 'model_int8.tflite']
  reference = keras_outputs(model, images)
  span = np.ptp(reference)

  reloaded = keras.models.load_model(result.keras.path, compile=False)
  np.testing.assert_allclose(keras_outputs(reloaded, images), reference, atol=1e-5 * span)
  frozen = graph_def_outputs(result.pb.path, images, result.pb_input, result.pb_output)
  np.testing.assert_allclose(frozen, reference, atol=1e-5 * span)
  lite = TFLiteModel(result.tflite.path).predict(images)
  np.testing.assert_allclose(lite, reference, atol=1e-4 * span)

  for name, file in result.files.items():
    assert file.bytes == file.path.stat().st_size
    assert file.gzip_bytes < file.bytes
    assert name == 'tflite_int8' or file.parity.max_rel_diff <= 1e-4


def test_int8_file_is_integer_throughout_and_agrees(any_export):
  _, result = any_export
  lite = TFLiteModel(result.tflite_int8.path)
  assert lite.is_quantized
  assert lite.output_step > 0
  floats = [name for name, value in lite.weights().items() if value.dtype == np.float32]
  assert floats == []
  assert result.tflite_int8.parity.top1_agreement >= 0.9
  floats, ints = (
    sum(value.nbytes for value in TFLiteModel(file.path).weights().values())
    for file in (result.tflite, result.tflite_int8)
  )
  assert ints < 0.5 * floats
  figures = result.parity_figures()
  assert figures['int8_top1_agreement'] == result.tflite_int8.parity.top1_agreement
  assert 0 < figures['int8_max_diff_steps'] < 40


def test_graph_def_names_are_stated_and_its_batch_is_open(exported, images):
  _, result = exported('residual')
  assert (result.pb_input, result.pb_output) == ('image:0', 'output:0')
  for nb_images in (1, 5):
    outputs = graph_def_outputs(result.pb.path, images[:nb_images], 'image:0', 'output:0')
    assert outputs.shape == (nb_images, 10)


def test_exporting_again_gives_the_same_files_and_says_nothing(exported, images, tmp_path, capfd):
  model, first = exported('flatten')
  capfd.readouterr()
  again = export_model(model, tmp_path / 'model', calibration=images, int8=True)
  TFLiteModel(again.tflite.path, nb_threads=2).predict(images)
  assert capfd.readouterr() == ('', '')
  for kind in ('tflite', 'tflite_int8'):
    assert first.files[kind].path.read_bytes() == again.files[kind].path.read_bytes()


def test_zeroed_weights_stay_exactly_zero(model, images, tmp_path):
  masks = {}
  for layer in model.layers:
    if isinstance(layer, keras.layers.Conv2D):
      mask = np.random.default_rng(1).random(layer.kernel.shape) < 0.25
      layer.kernel.assign(layer.kernel * mask)
      masks[np.moveaxis(mask, -1, 0).shape] = np.moveaxis(mask, -1, 0)
  assert len(masks) == 4
  result = export_model(model, tmp_path / 'model', calibration=images, int8=True)

  floats = [w for w in TFLiteModel(result.tflite.path).weights().values() if w.shape in masks]
  assert len(floats) == 4
  for weights in floats:
    np.testing.assert_array_equal(weights != 0, masks[weights.shape])
  ints = [w for w in TFLiteModel(result.tflite_int8.path).weights().values() if w.shape in masks]
  assert len(ints) == 4
  for weights in ints:
    assert weights.dtype == np.int8
    assert not weights[~masks[weights.shape]].any()


def _other(model):
  """The same net with one kernel entry changed by a little."""
  other = keras.models.clone_model(model)
  weights = model.get_weights()
  weights[0] = weights[0].copy()
  weights[0][0, 0, 0, 0] += 0.5
  other.set_weights(weights)
  return other


def test_files_of_another_model_fail_the_check(exported, images):
  model, result = exported('residual')
  reference = keras_outputs(_other(model), images)
  with pytest.raises(ParityError, match=r'model\.tflite differs from the Keras model'):
    check_tflite(result.tflite.path, reference, images)
  with pytest.raises(ParityError, match=r'model\.pb differs'):
    check_graph_def(result.pb.path, reference, images, input_name='image:0', output_name='output:0')
  with pytest.raises(ParityError, match=r'model\.keras differs'):
    check_keras(result.keras.path, reference, images)


def _contents(folder):
  return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_wrong_file_is_left_out_and_no_earlier_one_stays(model, earlier, monkeypatch):
  other = _other(model)
  for name in ('freeze', 'trace'):
    make = getattr(export_files, name)
    monkeypatch.setattr(
      export_files, name, lambda _, specs, batch, make=make: make(other, specs, batch)
    )
  result = export_model(model, earlier / 'model')
  assert list(result.files) == ['keras']
  assert (result.pb, result.tflite, result.pb_input) == (None, None, None)
  assert list(result.parity_figures()) == ['reloaded_vs_keras']
  for kind, name in {'pb': 'model.pb', 'tflite': 'model.tflite'}.items():
    assert result.left_out[kind].startswith(f'{name} was left out: {name} differs from the Keras')
    assert not (earlier / name).exists()
  assert (earlier / 'model_int8.tflite').exists()  # It was not asked for.


def test_a_wrong_model_is_refused_and_the_earlier_export_kept(model, earlier, monkeypatch):
  before, save = _contents(earlier), export_files._save_keras
  monkeypatch.setattr(export_files, '_save_keras', lambda model, path: save(_other(model), path))
  with pytest.raises(ParityError, match=r'model\.keras differs'):
    export_model(model, earlier / 'model')
  assert _contents(earlier) == before


def test_an_interrupt_leaves_the_earlier_export_whole(model, earlier, monkeypatch):
  before = _contents(earlier)

  def interrupt(*_):
    raise KeyboardInterrupt

  monkeypatch.setattr(export_module, 'gzip_bytes', interrupt)
  model.set_weights([weights * 1.1 for weights in model.get_weights()])
  with pytest.raises(KeyboardInterrupt):
    export_model(model, earlier / 'model')
  assert _contents(earlier) == before


def test_models_that_cannot_be_exported_are_named(tmp_path):
  def expect(model, text):
    with pytest.raises(UserError, match=text):
      export_model(model, tmp_path / 'model')

  image = keras.Input((8, 8, 3))
  pooled = keras.layers.GlobalAveragePooling2D()(image)
  low = keras.layers.Dense(4, dtype='mixed_bfloat16', name='low')(pooled)
  expect(keras.Model(image, low, name='m'), "Layer 'low' of model 'm' computes in bfloat16")
  open_image = keras.Input((None, None, 3))
  open_pool = keras.layers.GlobalAveragePooling2D()(open_image)
  expect(
    keras.Model(open_image, open_pool), 'expected a fixed one, such as .height, width, channels.'
  )
  expect(keras.Sequential(), '0 inputs and 0 outputs; expected a functional model')
  expect(object(), r'Cannot export a builtins\.object; expected a Keras 2 model')
  assert list(tmp_path.iterdir()) == []


def test_an_operator_that_tflite_lacks_is_one_sentence(tmp_path):
  import tensorflow as tf

  image = keras.Input((8, 8, 3))
  strange = tf.math.digamma(keras.layers.GlobalAveragePooling2D()(image) ** 2 + 1.0)
  result = export_model(keras.Model(image, strange, name='strange'), tmp_path / 'model')
  assert list(result.left_out) == ['tflite']
  assert "cannot convert model 'strange' to a float file" in result.left_out['tflite']
  assert '\n' not in result.left_out['tflite']
  assert sorted(path.name for path in tmp_path.iterdir()) == ['model.keras', 'model.pb']


def test_an_integer_kernel_that_fails_leaves_all_other_files(model, images, tmp_path, monkeypatch):
  def fail(*_):
    raise RuntimeError('tensorflow/lite/kernels/div.cc:246 input != 0 was not true.\nNode 3 failed')

  monkeypatch.setitem(export_files.WRITERS, 'tflite_int8', fail)
  result = export_model(model, tmp_path / 'm', calibration=images, int8=True)
  assert sorted(result.files) == ['keras', 'pb', 'tflite']
  assert result.left_out == {
    'tflite_int8': 'm_int8.tflite was left out: tensorflow/lite/kernels/div.cc:246 input != 0 was not '
    'true.'
  }
  assert result.parity_figures().keys() == {'tflite_vs_keras', 'pb_vs_keras', 'reloaded_vs_keras'}


@pytest.mark.parametrize('bad', [None, np.zeros((0, 12, 12, 3)), np.zeros((4, 8, 8, 3))])
def test_int8_needs_calibration_images_of_the_right_shape(model, tmp_path, bad):
  with pytest.raises(UserError, match=r'needs calibration images of shape \(n, 12, 12, 3\)'):
    export_model(model, tmp_path / 'model', calibration=bad, int8=True)


def test_calibration_images_must_be_finite(model, images, tmp_path):
  with pytest.raises(UserError, match='not finite'):
    export_model(model, tmp_path / 'm', calibration=np.full_like(images, np.nan), int8=True)


def test_a_folder_that_cannot_be_made_is_one_sentence(model, tmp_path):
  (tmp_path / 'file').write_text('in the way')
  with pytest.raises(UserError, match=r'Cannot write to the folder .*choose another') as caught:
    export_model(model, tmp_path / 'file' / 'model')
  assert '\n' not in str(caught.value)


def test_a_full_disk_is_one_sentence_and_keeps_the_earlier_export(model, earlier, monkeypatch):
  before = _contents(earlier)

  def full(*_):
    raise OSError(28, 'No space left on device')

  monkeypatch.setattr(export_files, '_save_keras', full)
  with pytest.raises(UserError, match='No space left on device'):
    export_model(model, earlier / 'model')
  assert _contents(earlier) == before


def test_compare_outputs_by_hand():
  reference = np.array([[0.0, 4.0], [2.0, 1.0]])
  parity = compare_outputs(reference, np.array([[0.5, 4.0], [1.0, 2.0]]), output_step=0.25)
  assert parity.max_abs_diff == 1.0
  assert parity.output_range == 4.0
  assert parity.max_rel_diff == 0.25
  assert parity.top1_agreement == 0.5
  assert parity.max_diff_steps == 4.0


def test_compare_outputs_refuses_shapes_and_nan():
  ones = np.ones((2, 3))
  with pytest.raises(ParityError, match='shape'):
    compare_outputs(ones, np.ones((2, 4)))
  with pytest.raises(ParityError, match='not finite'):
    compare_outputs(np.full((2, 3), np.nan), ones)


@pytest.mark.parametrize('place', [0, 1])
def test_an_output_that_is_not_finite_counts_most_whichever_of_several_it_is(place):
  ones, outputs = np.ones((2, 3)), [np.ones((2, 3)), np.ones((2, 3))]
  outputs[place] = np.full((2, 3), np.nan)
  parity = compare_outputs((ones, ones), tuple(outputs))
  with pytest.raises(ParityError, match='differs'):
    require_parity('a file', parity)


def test_several_inputs_and_outputs_of_any_shape_and_type(tmp_path):
  """Rows, tokens and images in; numbers, classes and maps out, in the order of the model."""
  row, words = keras.Input((5,), name='z_row'), keras.Input((4,), dtype='int32', name='words')
  image = keras.Input((6, 6, 2), name='a_image')
  seen = keras.layers.Embedding(300, 3)(words)
  joined = keras.layers.Concatenate()([row, keras.layers.Flatten()(seen)])
  maps = keras.layers.Conv2D(2, 3, padding='same', name='maps')(image)
  outputs = [keras.layers.Dense(1, name='z')(joined), maps, keras.layers.Dense(3, name='a')(joined)]
  model = keras.Model([row, words, image], outputs)
  rng = np.random.default_rng(0)
  inputs = (
    rng.normal(size=(20, 5)).astype(np.float32),
    rng.integers(0, 300, (20, 4)).astype(np.int32),
    rng.normal(size=(20, 6, 6, 2)).astype(np.float32),
  )
  result = export_model(model, tmp_path / 'm', calibration=inputs, int8=True)
  expected = [one.numpy() for one in model(list(inputs))]
  for kind, tolerance in (('tflite', 1e-5), ('tflite_int8', 0.1)):
    lite = TFLiteModel(result.files[kind].path)
    assert [len(shape) for shape in lite.input_shapes] == [1, 1, 3]
    for found, wanted in zip(lite.predict(inputs), expected, strict=True):
      assert found.shape == wanted.shape
      assert np.abs(found - wanted).max() < tolerance * np.ptp(wanted)
  assert result.pb_input == 'image_0:0,image_1:0,image_2:0'
  assert result.parity_figures()['tflite_vs_keras'] < 1e-5
  timed = measure_latency({'m': result.tflite.path}, nb_frames=1, threads=[1], warmup=0)
  assert timed['m'][0]['p50_ms'] > 0


def test_agreement_is_what_the_task_says(model, images):
  reference = keras_outputs(model, images)
  assert compare_outputs(reference, reference, None, lambda a, b: None).top1_agreement is None
  assert compare_outputs(reference[:, :1], reference[:, :1]).top1_agreement is None
