"""Every door takes a model of Keras 3, and gives one back."""

import dataclasses

import keras as keras3
import numpy as np
import pytest
import tf_keras as keras

from secateurs.learners import get_learner
from secateurs.learners.run.configs import DistillConfig, RunConfig, TrainConfig
from secateurs.nets.given_model import read_model
from secateurs.nets.model_helper import ModelHelper
from secateurs.nets.recipe import DIGITS_RECIPE
from secateurs.utils.deploy import TFLiteModel
from secateurs.utils.graph.__main__ import main
from secateurs.utils.keras3 import is_keras3
from secateurs.utils.keras3.proof import difference
from secateurs.utils.model_files import load_model
from secateurs.utils.training.models.weight_files import read_weights

L = keras3.layers


def data(nb_samples=60, seed=0):
  rng = np.random.default_rng(seed)
  labels = rng.integers(0, 3, nb_samples)
  images = rng.normal(0, 0.3, (nb_samples, 8, 8, 3)).astype(np.float32)
  images[np.arange(nb_samples), :, :, labels] += 1.0
  return images, labels


def network(compiled=True, operations=True):
  keras3.utils.set_random_seed(0)
  normalization = L.Normalization(name='normalization')
  normalization.adapt(3 * data()[0] + 1)
  x = keras3.Input((8, 8, 3))
  y = L.RandomFlip('horizontal')(normalization(3 * x + 1 if operations else L.Rescaling(3, 1)(x)))
  y = L.Conv2D(8, 3, activation='hard_silu', name='a')(y)
  y = L.Conv2D(8, 3, name='b')(y)
  y = keras3.ops.relu(y) if operations else L.ReLU()(y)
  model = keras3.Model(
    x, L.Dense(3, 'softmax', name='c')(L.GlobalAveragePooling2D()(y)), name='net'
  )
  if compiled:
    loss = 'sparse_categorical_crossentropy'
    model.compile(keras3.optimizers.Adam(2e-3), loss, metrics=['accuracy'])
  return model


def options(folder, **distillation):
  return {
    'run': RunConfig(run_dir=str(folder), bench_frames=2, bench_threads='1', nb_smpls_calib=8),
    'training': TrainConfig(nb_epochs_ft=1, batch_size=20),
    'distillation': DistillConfig(**distillation),
  }


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
  """A run of chn-pruned on a model of Keras 3, with a teacher from a file of Keras 3."""
  folder = tmp_path_factory.mktemp('run')
  model = network()
  model.save(folder / 'teacher.keras')
  helper = ModelHelper.from_model(model, data(), data(seed=1))
  learner = get_learner('chn-pruned')
  config = learner.Config(uniform_preserve_ratio=0.5, nb_batches=2, compare=False)
  distilled = options(folder, enbl_dst=True, save_path_dst=str(folder / 'teacher.keras'))
  return learner(helper, config, **distilled), model, folder


def test_a_run_gives_back_a_model_of_keras3(finished):
  learner, model, folder = finished
  result = learner.train()
  assert is_keras3(result.model)
  assert result.model.get_layer('b').filters < 8 or result.model.get_layer('a').filters < 8
  assert result.files['keras3'].name == 'model_keras3.keras'
  images = data(seed=1)[0]
  loaded = keras3.saving.load_model(result.export(folder / 'small.keras'))
  found = np.asarray(loaded(images, training=False))
  assert difference(TFLiteModel(result.files['tflite']).predict(images), found) < 1e-5
  np.testing.assert_allclose(found, np.asarray(result.model(images, training=False)), atol=1e-6)
  notes = ' '.join(result.report['notes'])
  assert 'optimizer Adam (learning rate 0.002), loss sparse_categorical_crossentropy' in notes
  assert result.report['files']['keras3'].endswith('model_keras3.keras')
  assert model.get_layer('a').filters == 8  # What was given stays.


def test_rates_are_those_of_the_compiled_model(finished):
  learner = finished[0]
  assert learner.rates.fine_tune_peak() == pytest.approx(2e-3 / np.sqrt(5))
  assert type(learner.rates.fine_tune_optimizer(10)).__name__ == 'Adam'
  assert learner.rates.weight_decay == 0.0
  settings = dataclasses.replace(
    learner.settings, training=TrainConfig(optimizer_ft='sgd', lrn_rate_ft=0.1)
  )
  rates = type(learner.rates)(settings)
  assert type(rates.fine_tune_optimizer(10)).__name__ == 'SGD'
  assert rates.weight_decay == learner.helper.recipe.weight_decay


def test_models_that_were_not_compiled_use_the_recipe(tmp_path):
  helper = ModelHelper.from_model(network(compiled=False), data(), data(), recipe=DIGITS_RECIPE)
  assert helper.recipe == DIGITS_RECIPE
  assert helper.keras3
  assert helper.own_notes == []


def test_a_compiled_model_of_tf_keras_likewise():
  model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Flatten(), keras.layers.Dense(3)])
  loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
  model.compile(keras.optimizers.RMSprop(1e-4), loss, ['sparse_top_k_categorical_accuracy'])
  helper = ModelHelper.from_model(model, data(), data())
  assert helper.recipe.optimizer.describe() == 'RMSprop (learning rate 0.0001)'
  assert not helper.keras3
  assert 'metric sparse_top_k_categorical_accuracy' in helper.own_notes[0]


@pytest.mark.parametrize(
  ('optimizer', 'words'),
  [
    (lambda o: o.SGD(o.schedules.CosineDecay(0.1, 100), momentum=0.8), 'SGD (learning rate 0.1)'),
    (lambda o: o.AdamW(1e-3, weight_decay=0.01, clipnorm=1.0), 'AdamW (learning rate 0.001)'),
    (lambda o: o.Lion(1e-4), 'Lion (learning rate 0.0001)'),
  ],
)
def test_optimizers(optimizer, words):
  model = network()
  loss = keras3.losses.CategoricalCrossentropy(label_smoothing=0.1)
  model.compile(optimizer(keras3.optimizers), loss, metrics=[keras3.metrics.AUC()])
  helper = ModelHelper.from_model(model, data(), data())
  assert words in helper.own_notes[0]
  assert 'loss categorical_crossentropy, metric' in helper.own_notes[1]
  made = helper.recipe.optimizer.make(0.5)
  assert float(made.learning_rate) == 0.5
  assert getattr(made, 'clipnorm', None) == (1.0 if 'AdamW' in words else None)


@pytest.mark.parametrize('ending', ['.keras', '.h5'])
def test_files(ending, tmp_path):
  model = network(operations=ending == '.keras')  # Keras 3 cannot load operations from .h5.
  model.save(tmp_path / f'm{ending}')
  given = read_model(str(tmp_path / f'm{ending}'), None)
  assert is_keras3(given)
  assert type(given.optimizer).__name__ == 'Adam'
  images = data()[0]
  made = load_model(tmp_path / f'm{ending}')
  expected = np.asarray(model(images, training=False))
  assert difference(expected, made(images, training=False).numpy()) < 1e-5
  assert 'a/kernel' in read_weights(tmp_path / f'm{ending}')


def test_custom_objects_of_a_module(tmp_path):
  (tmp_path / 'mine.py').write_text(
    'import keras\nimport tf_keras\n'
    "@keras.saving.register_keras_serializable('mine')\n"
    'class Twice(keras.layers.Layer):\n'
    '  def call(self, x):\n'
    '    return 2 * x\n'
    'class Double(tf_keras.layers.Layer):\n'
    '  def call(self, x):\n'
    '    return 2 * x\n'
    "tf_keras.utils.get_custom_objects()['mine>Twice'] = Double\n"
  )
  read_model_of = f'{tmp_path}/m.keras'
  scope = {}
  exec((tmp_path / 'mine.py').read_text(), scope)
  x = keras3.Input((4,))
  keras3.Model(x, L.Dense(2)(scope['Twice']()(x))).save(read_model_of)
  given = read_model(read_model_of, str(tmp_path / 'mine.py'))
  assert [type(one).__name__ for one in load_model(read_model_of).layers[1:]] == ['Double', 'Dense']
  assert is_keras3(given)


def test_the_graphs_command_line(tmp_path, capsys):
  network(compiled=False).save(tmp_path / 'm.keras')
  small = tmp_path / 'small.keras'
  assert main([str(tmp_path / 'm.keras'), '--ratio', '0.5', '--out', str(small)]) == 0
  assert keras3.saving.load_model(small).get_layer('a').filters == 4
  assert main([str(tmp_path / 'm.keras'), '--ratio', '0.5', '--out', f'{small}.h5']) == 1
  assert 'saved as .keras' in capsys.readouterr().err
