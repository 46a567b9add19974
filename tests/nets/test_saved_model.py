"""A user's own model on a user's own data: from files and from Python."""

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from alike import few
from PIL import Image

from secateurs.learners import get_learner, learners
from secateurs.learners.run.configs import RunConfig, TrainConfig
from secateurs.nets.datasets import cifar10
from secateurs.nets.datasets.images import ImageDataset
from secateurs.nets.datasets.pixels import Augmentation
from secateurs.nets.datasets.splits import Split
from secateurs.nets.given_task import network_and_task
from secateurs.nets.model_helper import ModelHelper
from secateurs.nets.saved_model import SAVED_MODEL, SavedModelConfig
from secateurs.utils.errors import UserError
from secateurs.utils.graph.slicing.classifier import at_shapes

ROOT = Path(__file__).parents[2]
layers = keras.layers
COLOURS = {'blue': (40, 40, 220), 'green': (40, 220, 40), 'red': (220, 40, 40)}


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  """Images of three colours with noise."""
  root, rng = tmp_path_factory.mktemp('images'), np.random.default_rng(0)
  for name, colour in COLOURS.items():
    (root / name).mkdir()
    for i in range(24):
      pixels = np.clip(np.array(colour) + rng.normal(0, 60, (20, 26, 3)), 0, 255)
      Image.fromarray(pixels.astype(np.uint8)).save(root / name / f'{i}.png')
  return root


def net(classes=3, size=16, channels=3, last='softmax', seed=0):
  keras.utils.set_random_seed(seed)
  return keras.Sequential(
    [
      keras.Input((size, size, channels)),
      layers.Conv2D(8, 3, padding='same', use_bias=False),
      layers.BatchNormalization(),
      layers.ReLU(),
      keras.Sequential([layers.Conv2D(12, 3, strides=2, activation='relu')], name='inner'),
      layers.GlobalAveragePooling2D(),
      layers.Dense(classes, activation=last),
    ],
    name='mine',
  )


def arrays(nb=90, size=16, channels=3, seed=0):
  rng = np.random.default_rng(seed)
  labels = rng.integers(0, 3, nb)
  images = rng.normal(0, 0.5, (nb, size, size, channels)).astype(np.float32)
  images[np.arange(nb), :, :, labels % channels] += 1.0
  return images, labels


def helper_of(model, **options):
  return ModelHelper.from_model(model, arrays(), arrays(seed=1), **options)


def short(tmp_path, **options):
  run = {'run_dir': str(tmp_path), 'bench_frames': 3, 'bench_threads': '1'} | options
  return {'run': RunConfig(**run), 'training': TrainConfig(nb_epochs_ft=1, nb_epochs_rat=0.02)}


# Outputs.


@pytest.mark.parametrize('last', ['softmax', None])
def test_a_softmax_is_taken_off_and_put_on_again(last):
  model = net(last=last)
  classifier, task = network_and_task(model, arrays())
  assert task.ending == last
  x = arrays(8)[0]
  expected = model(x).numpy()
  np.testing.assert_allclose(task.deployable(classifier)(x).numpy(), expected, atol=1e-6)
  if last is not None:
    np.testing.assert_allclose(tf.nn.softmax(classifier(x)).numpy(), expected, atol=1e-6)


@pytest.mark.parametrize(
  'end', [layers.Softmax(), layers.Activation('softmax'), tf.nn.softmax], ids=['layer', 'act', 'op']
)
def test_a_softmax_layer_is_taken_off(end):
  inner = net(last=None)
  model = keras.Model(inner.inputs, end(inner.outputs[0]))
  classifier, task = network_and_task(model, arrays())
  assert task.ending == 'softmax'
  x = arrays(8)[0]
  np.testing.assert_allclose(classifier(x).numpy(), inner(x).numpy(), atol=1e-5)


def test_probabilities_of_another_kind_are_rejected():
  inner = net(last=None)
  powers = tf.exp(inner.outputs[0])
  powers /= tf.reduce_sum(powers, -1, keepdims=True)
  with pytest.raises(UserError, match=r'gives probabilities, but not by a softmax'):
    network_and_task(keras.Model(inner.inputs, powers), arrays())


def test_logarithms_of_a_softmax_are_logits():
  inner = net(last=None)
  model = keras.Model(inner.inputs, tf.nn.log_softmax(inner.outputs[0]))
  classifier, task = network_and_task(model, arrays())
  assert task.ending is None
  x = arrays(8)[0]
  np.testing.assert_allclose(classifier(x).numpy(), model(x).numpy(), atol=1e-6)


@pytest.mark.parametrize('last', ['softmax', None])
def test_inputs_and_outputs_in_dicts(last):
  inner = net(last=last)
  model = keras.Model({'image': inner.inputs[0]}, {'class': inner.outputs[0]})
  helper = helper_of(model)
  assert helper.task.ending == last
  network = helper.build_model(0)
  assert network.input_shape == (None, 16, 16, 3)
  x = arrays(8)[0]
  found = helper.task.deployable(network)(x).numpy()
  np.testing.assert_allclose(found, inner(x).numpy(), atol=1e-6)


def test_a_lambda_is_refused():
  inner = net()
  x = keras.Input((16, 16, 3))
  model = keras.Model(x, inner(layers.Lambda(lambda v: v / 255, name='scaled')(x)))
  with pytest.raises(UserError, match=r'has the Lambda layer scaled, .* put a Rescaling layer'):
    helper_of(model)


def test_what_is_no_model():
  with pytest.raises(UserError, match=r'A tf_keras model was expected, but a builtins.str'):
    network_and_task('model', arrays())


def test_models_of_any_size():
  x = keras.Input((None, None, 3))
  pooled = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3, name='c')(x))
  model = keras.Model(x, layers.Dense(3, name='d')(pooled))
  fixed = at_shapes(model, [(16, 20, 3)])
  assert fixed.input_shape == (None, 16, 20, 3)
  x = np.ones((2, 16, 20, 3), np.float32)
  np.testing.assert_allclose(fixed(x), model(x), atol=1e-6)


# Python.


FEW = (
  'dis-chn-pruned',
  'non-uniform-quant',
  'prune-regrow',
)


@pytest.mark.parametrize('name', few(sorted(learners()), FEW))
def test_every_learner_takes_a_model_of_the_user(name, tmp_path):
  model = net()
  before = [w.copy() for w in model.get_weights()]
  learner = get_learner(name)(helper_of(model), **short(tmp_path))
  result = learner.train()
  images, labels = arrays(seed=1)
  outputs = result.model(images).numpy()
  np.testing.assert_allclose(outputs.sum(-1), 1, atol=1e-5)  # It came with a softmax.
  accuracy = float(np.mean(outputs.argmax(-1) == labels))
  assert accuracy == pytest.approx(result.report['compressed']['accuracy'], abs=1e-6)
  for a, b in zip(before, model.get_weights(), strict=True):
    np.testing.assert_array_equal(a, b)
  evaluated = learner.evaluate()
  assert evaluated['keras'].loss == pytest.approx(result.report['compressed']['loss'], abs=1e-3)
  assert evaluated['tflite'].loss == pytest.approx(evaluated['keras'].loss, abs=1e-3)
  small = result.export(tmp_path / 'small.tflite')
  assert small.read_bytes() == result.files['tflite'].read_bytes()


def test_a_teacher_with_a_softmax_gives_logits(tmp_path):
  from secateurs.learners.run.configs import DistillConfig

  net().save(tmp_path / 'teacher.keras')
  dst = DistillConfig(enbl_dst=True, save_path_dst=str(tmp_path / 'teacher.keras'))
  learner = get_learner('weight-sparse')(helper_of(net()), **short(tmp_path), distillation=dst)
  learner.train()
  from secateurs.learners.run.training.distillation import load_teacher

  teacher = load_teacher(learner.settings, None)
  assert (teacher(arrays()[0]).numpy() < 0).any()


def test_pipelines_arrays_and_one_hot_labels_are_the_same_data():
  images, labels = arrays()
  pairs = tf.data.Dataset.from_tensor_slices((images, labels))
  kinds = [
    (images, labels),
    (images, np.eye(3)[labels]),
    pairs,
    pairs.batch(7),
    tf.data.Dataset.from_tensor_slices((images, np.eye(3)[labels])).batch(32),
  ]
  model = net()
  seen = []
  for data in kinds:
    helper = ModelHelper.from_model(model, data, data)
    assert helper.nb_samples('train') == 90
    assert helper.nb_samples('val') == 0
    batches = list(helper.eval_batches('eval', 40))
    assert [len(b[1]) for b in batches] == [40, 40, 10]
    seen.append(np.concatenate([b[1].numpy() for b in batches]))
    whole = helper.train_batches(8, seed=3)
    later = helper.train_batches(8, seed=3, start=20)
    for a, b in zip(whole.skip(20).take(3), later.take(3)):
      np.testing.assert_array_equal(a[0], b[0])
      assert a[0].dtype == tf.float32
    halves = [helper.train_batches(4, seed=3, shard=(i, 2)).take(1) for i in range(2)]
    both = np.sort(np.concatenate([next(iter(h))[1].numpy() for h in halves]))
    np.testing.assert_array_equal(both, np.sort(next(iter(whole))[1].numpy()))
  for labels_seen in seen:
    np.testing.assert_array_equal(labels_seen, labels)


@pytest.mark.parametrize(
  ('train', 'message'),
  [
    (arrays(size=12), r'has images \(90, 12, 12, 3\)'),
    ((arrays()[0], arrays()[1] + 1), r'labels go from 1 to 3, but the model has 3 classes'),
    ((arrays()[0], arrays()[1][:5]), r'labels \(5,\)'),
    (tf.data.Dataset.from_tensor_slices(arrays()).repeat(), r'never ends'),
    (tf.data.Dataset.from_tensor_slices(arrays()[0]), r'must give \(image, label\) pairs'),
    (tf.data.Dataset.from_tensor_slices(arrays(size=12)), r'gives images of \(12, 12, 3\)'),
    (None, r'must be \(images, labels\) as arrays'),
    (
      tf.data.Dataset.from_tensor_slices(arrays()).map(
        lambda x, y: (tf.py_function(lambda v: v, [x], tf.float32), y)
      ),
      r'gives images of unknown shape, .* set it with tf.ensure_shape',
    ),
    (
      tf.data.Dataset.from_tensor_slices(arrays()).map(
        lambda x, y: (x, tf.py_function(lambda v: v, [y], tf.int64))
      ),
      r'gives labels of unknown shape',
    ),
    (tf.data.Dataset.from_tensor_slices(arrays()).take(0), r'training pipeline is empty'),
  ],
)
def test_data_that_does_not_fit(train, message):
  with pytest.raises(UserError, match=message):
    ModelHelper.from_model(net(), train, arrays())


def test_data_to_evaluate_on_must_be_given():
  with pytest.raises(UserError, match=r'of type tuple came without data to evaluate on'):
    ModelHelper.from_model(net(), arrays())


def test_arrays_sorted_by_class_calibrate_with_all_classes():
  labels = np.repeat(np.arange(3), 50)
  images = np.broadcast_to(labels[:, None, None, None], (150, 16, 16, 3)).astype(np.float32)
  helper = ModelHelper.from_model(net(), (images, labels), (images, labels))
  seen = helper.calibration_images(30)[:, 0, 0, 0].astype(int)
  assert np.bincount(seen).tolist() == [10, 10, 10]


def test_images_of_a_pipeline_come_as_they_were_augmented(tmp_path):
  options = short(tmp_path)
  options['training'] = dataclasses.replace(options['training'], augment_ft='mirror')
  with pytest.raises(UserError, match=r'--augment_ft mirror was asked for, but images of your own'):
    get_learner('weight-sparse')(helper_of(net()), **options).train()


def test_another_model_is_another_run(tmp_path):
  get_learner('weight-sparse')(helper_of(net()), **short(tmp_path)).train()
  with pytest.raises(UserError, match=r'weights \w+, now \w+'):
    get_learner('weight-sparse')(helper_of(net(seed=1)), **short(tmp_path)).train()


# Files.


def make(folder, path, **options):
  return SAVED_MODEL.make(SavedModelConfig(data_dir_local=str(folder), model=str(path), **options))


@pytest.mark.parametrize('ending', ['.keras', '.h5', ''])
def test_every_kind_of_file(folder, tmp_path, ending):
  path = tmp_path / f'mine{ending}'
  model = net()
  model.save(path, save_format=None if ending else 'tf')
  helper = make(folder, path)
  assert helper.net == 'mine'
  assert helper.dataset.image_shape == (16, 16, 3)
  built = helper.build_model(0)
  from secateurs.utils.training.models.weights import assign_weights, named_weights

  assign_weights(named_weights(built), helper.given_weights(), 'x')
  x = arrays(4)[0]
  np.testing.assert_allclose(helper.task.deployable(built)(x), model(x), atol=1e-6)


@pytest.mark.parametrize(
  ('mode', 'expected'),
  [('0..1', [1, 0, 0.2]), ('-1..1', [1, -1, -0.6]), ('none', [255, 0, 51]),
   ('imagenet', [51 - 103.939, -116.779, 255 - 123.68])],
)  # fmt: skip
def test_preprocessing(tmp_path, mode, expected):
  for name in 'ab':
    (tmp_path / name).mkdir()
    for i in range(3):
      Image.new('RGB', (20, 20), (255, 0, 51)).save(tmp_path / name / f'{i}.png')
  net(classes=2).save(tmp_path / 'm.keras')
  helper = make(tmp_path, tmp_path / 'm.keras', preprocess=mode)
  pixels = helper.calibration_images(1)[0, 8, 8]
  np.testing.assert_allclose(pixels, expected, atol=1e-2)


def test_other_pixels_are_another_run(folder, tmp_path):
  net().save(tmp_path / 'mine.keras')
  options = short(tmp_path / 'run')
  first = get_learner('weight-sparse')(make(folder, tmp_path / 'mine.keras'), **options).train()
  assert first.report['flags']['preprocess'] == 'torch'
  other = make(folder, tmp_path / 'mine.keras', preprocess='0..1')
  with pytest.raises(UserError, match=r'--preprocess torch, now 0\.\.1'):
    get_learner('weight-sparse')(other, **options).train()


def test_grey_models(folder, tmp_path):
  net(channels=1).save(tmp_path / 'grey.keras')
  with pytest.raises(UserError, match=r'takes grey images, but --preprocess torch is for colours'):
    make(folder, tmp_path / 'grey.keras')
  helper = make(folder, tmp_path / 'grey.keras', preprocess='0..1')
  assert helper.calibration_images(2).shape == (2, 16, 16, 1)


def test_files_that_do_not_fit(folder, tmp_path):
  net(classes=4).save(tmp_path / 'four.keras')
  with pytest.raises(UserError, match=r'distinguishes 4 classes, but the data set has 3'):
    make(folder, tmp_path / 'four.keras')
  with pytest.raises(UserError, match=r'No model was named: give --model FILE'):
    SAVED_MODEL.make(SavedModelConfig(data_dir_local=str(folder)))
  (tmp_path / 'text.keras').write_text('no model')
  with pytest.raises(UserError, match=r'is a text file, but a whole Keras model was expected'):
    make(folder, tmp_path / 'text.keras')
  with pytest.raises(UserError, match=r'--custom_objects no_such_module cannot be imported'):
    make(folder, tmp_path / 'four.keras', custom_objects='no_such_module')


def any_size(classes, channels=3):
  x = keras.Input((None, None, channels))
  pooled = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3)(x))
  return keras.Model(x, layers.Dense(classes)(pooled))


def test_models_for_other_images_than_those_of_cifar10(tmp_path, monkeypatch):
  labels = np.zeros(4, np.int32)
  split = Split(np.zeros((4, 32, 32, 3), np.uint8), labels)
  data = ImageDataset(
    'cifar10', (32, 32, 3), cifar10.CLASSES, {'train': split, 'eval': split}, Augmentation()
  )
  monkeypatch.setattr(cifar10, 'load', lambda config, preprocess: data)
  any_size(10).save(tmp_path / 'any.keras')
  helper = make(tmp_path, tmp_path / 'any.keras', data_set='cifar10')
  assert helper.build_model(0).input_shape == (None, 32, 32, 3)
  net(classes=10, size=16).save(tmp_path / 'small.keras')
  any_size(10, channels=1).save(tmp_path / 'grey.keras')
  for name, shape in (('small', r'\(16, 16, 3\)'), ('grey', r'\(32, 32, 1\)')):
    message = rf'takes images of {shape}, but those of cifar10 are \(32, 32, 3\)'
    with pytest.raises(UserError, match=message):
      make(tmp_path, tmp_path / f'{name}.keras', data_set='cifar10', preprocess='0..1')


def test_damaged_records_are_allowed_as_many_as_the_flag_says(tiny_ilsvrc12, tmp_path):
  shutil.copytree(tiny_ilsvrc12, tmp_path / 'data')
  for path in sorted((tmp_path / 'data').glob('train-*'))[:2]:
    path.write_bytes(path.read_bytes()[:-9])
  any_size(1000).save(tmp_path / 'any.keras')
  options = {'data_set': 'ilsvrc12', 'image_size': 32}
  assert make(tmp_path / 'data', tmp_path / 'any.keras', nb_corrupt_max=2, **options).notes()
  with pytest.raises(UserError, match=r'--nb_corrupt_max allows 1'):
    make(tmp_path / 'data', tmp_path / 'any.keras', nb_corrupt_max=1, **options)


def test_layers_of_your_own(folder, tmp_path):
  (tmp_path / 'mine.py').write_text(
    'import tf_keras as keras\n'
    'class Twice(keras.layers.Layer):\n'
    '  def call(self, x):\n'
    '    return 2 * x\n'
  )
  code = (
    'import sys; sys.path.insert(0, sys.argv[1]); import mine, tf_keras as keras;'
    'L = keras.layers;'
    'keras.Sequential([keras.Input((8, 8, 3)), L.Conv2D(4, 3), mine.Twice(),'
    'L.GlobalAveragePooling2D(), L.Dense(3)]).save(sys.argv[2])'
  )
  path = tmp_path / 'own.keras'
  subprocess.run([sys.executable, '-c', code, str(tmp_path), str(path)], check=True)
  with pytest.raises(UserError, match=r'name the module that defines it with --custom_objects'):
    make(folder, path)
  helper = make(folder, path, custom_objects=str(tmp_path / 'mine.py'))
  assert helper.build_model(0).output_shape == (None, 3)


def test_the_command_line(folder, tmp_path):
  """A warning is printed for a model that guesses; chains start from the file of a learner."""
  net().save(tmp_path / 'mine.keras')
  command = [sys.executable, 'nets/saved_model_run.py', '--data_dir_local', str(folder)]
  common = [
    '--nb_epochs_ft',
    '1',
    '--bench_frames',
    '3',
    '--bench_threads',
    '1',
    '--batch_size',
    '8',
  ]
  first = [
    '--model', str(tmp_path / 'mine.keras'), '--run_dir', str(tmp_path / 'a'),
    '--learner', 'chn-pruned', '--cp_nb_batches', '2', '--nocp_compare',
  ]  # fmt: skip
  done = subprocess.run([*command, *common, *first], cwd=ROOT, capture_output=True, text=True)
  assert done.returncode == 0, done.stdout + done.stderr
  small = tmp_path / 'a' / 'models_cp_eval' / 'model.keras'
  second = ['--model', str(small), '--run_dir', str(tmp_path / 'b'), '--learner', 'weight-sparse']
  done = subprocess.run([*command, *common, *second], cwd=ROOT, capture_output=True, text=True)
  assert done.returncode == 0, done.stdout + done.stderr
  report = json.loads((tmp_path / 'b' / 'logs' / 'weight-sparse' / 'report.json').read_text())
  assert (
    report['original']['macs']
    < 0.8
    * json.loads((tmp_path / 'a' / 'logs' / 'chn-pruned' / 'report.json').read_text())['original'][
      'macs'
    ]
  )
  assert report['compressed']['sparsity'] > 0.7
  assert [link['learner'] for link in report['links']] == ['chn-pruned', 'weight-sparse']
