"""Both ways to TensorFlow Lite's converter give the same network."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from secateurs.utils.deploy.files import convert
from secateurs.utils.deploy.files.exportable import check_exportable
from secateurs.utils.deploy.int8.empty_ranges import has_empty_ranges
from secateurs.utils.deploy.runtime.interpreter import TFLiteModel
from secateurs.utils.errors import UserError
from tests.deploy.small_nets import NETS, build


def _content(model, monkeypatch, large, **how):
  monkeypatch.setattr(convert, '_LARGE', large)
  return convert.convert(convert.trace(model, check_exportable(model), batch=1), model.name, **how)


def _predict(content, inputs, folder):
  path = folder / 'model.tflite'
  path.write_bytes(content)
  return TFLiteModel(path).predict(inputs)


@pytest.mark.parametrize('how', [{}, {'sparse': True}, {'weights': 'float16'}], ids=str)
@pytest.mark.parametrize('kind', NETS)
def test_a_large_network_goes_by_a_saved_model_and_computes_the_same(
  kind, how, monkeypatch, tmp_path
):
  model = build(kind)
  images = np.random.default_rng(0).normal(size=(4, 12, 12, 3)).astype(np.float32)
  frozen = _content(model, monkeypatch, 1 << 30, **how)
  saved = _content(model, monkeypatch, 0, **how)
  assert b'serving_default' in saved
  assert b'serving_default' not in frozen
  np.testing.assert_array_equal(
    _predict(saved, images, tmp_path), _predict(frozen, images, tmp_path)
  )
  assert saved == _content(model, monkeypatch, 0, **how)


def test_integers_are_the_same_by_both_ways(monkeypatch, tmp_path):
  model = build('residual')
  images = np.random.default_rng(0).normal(size=(8, 12, 12, 3)).astype(np.float32)
  frozen = _content(model, monkeypatch, 1 << 30, calibration=images)
  saved = _content(model, monkeypatch, 0, calibration=images)
  np.testing.assert_array_equal(
    _predict(saved, images, tmp_path), _predict(frozen, images, tmp_path)
  )


@pytest.mark.parametrize('large', [0, 1 << 30])
def test_a_layer_that_is_zero_on_all_images_gives_a_file_that_runs(large, monkeypatch, tmp_path):
  """The runtime refuses steps as small as the converter's least range has."""
  layers = keras.layers
  inputs = keras.Input((12,))
  dead = layers.Dense(8, 'relu', bias_initializer=keras.initializers.Constant(-1e3))(inputs)
  model = keras.Model(inputs, layers.Dense(3, bias_initializer='ones')(dead))
  images = np.random.default_rng(0).normal(size=(8, 12)).astype(np.float32)
  content = _content(model, monkeypatch, large, calibration=images)
  found = _predict(content, images, tmp_path)
  np.testing.assert_allclose(found, np.ones((8, 3)), atol=0.005)
  assert not has_empty_ranges(content)


def test_several_inputs_and_outputs_keep_their_order(monkeypatch, tmp_path):
  """The converter would take those of a SavedModel in an order of its own."""
  inputs = [keras.Input((3,), name=f'given_{i}') for i in range(3)]
  scaled = [keras.layers.Dense(2, name=f'dense_{i}')(one) for i, one in enumerate(inputs)]
  model = keras.Model(inputs, scaled)
  content = _content(model, monkeypatch, 0)
  rng = np.random.default_rng(0)
  given = tuple(rng.normal(size=(1, 3)).astype(np.float32) for _ in inputs)
  found = _predict(content, given, tmp_path)
  for one, wanted in zip(found, model(list(given)), strict=True):
    np.testing.assert_allclose(one, wanted, rtol=1e-5, atol=1e-6)


def test_no_room_for_temporary_files_is_told(monkeypatch):
  def full(*args, **options):
    raise tf.errors.ResourceExhaustedError(None, None, 'No space left on device')

  monkeypatch.setattr(tf.saved_model, 'save', full)
  with pytest.raises(UserError, match=r'No space left on device.*TMPDIR'):
    _content(build('flatten'), monkeypatch, 0)
