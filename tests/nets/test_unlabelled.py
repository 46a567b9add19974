import numpy as np
import pytest
import tf_keras as keras
from PIL import Image

from secateurs.nets.saved_model import SAVED_MODEL, SavedModelConfig
from secateurs.nets.unlabelled import is_unlabelled, with_decisions
from secateurs.utils.errors import UserError


def classifier(units=3, activation='softmax'):
  keras.utils.set_random_seed(1)
  inputs = keras.Input((4,))
  return keras.Model(inputs, keras.layers.Dense(units, activation=activation)(inputs))


INPUTS = np.random.default_rng(0).normal(size=(20, 4)).astype('float32')


def test_every_fifth_input_evaluates_and_labels_are_decisions():
  model = classifier()
  (train, labels), (test, others) = with_decisions(model, INPUTS, None)
  assert (len(train), len(test)) == (16, 4)
  assert np.array_equal(test, INPUTS[4::5])
  assert np.array_equal(labels, model.predict(train, verbose=0).argmax(1))
  assert np.array_equal(others, model.predict(test, verbose=0).argmax(1))


@pytest.mark.parametrize('activation', ['sigmoid', None])
def test_binary_decisions(activation):
  model = classifier(1, activation)
  (_, labels), _ = with_decisions(model, INPUTS, INPUTS[:2])
  logits = INPUTS @ model.layers[-1].kernel.numpy() + model.layers[-1].bias.numpy()
  assert np.array_equal(labels, (logits[:, 0] > 0).astype(int))


def test_what_has_labels_is_something_else():
  assert is_unlabelled(INPUTS)
  assert not is_unlabelled((INPUTS, np.zeros(20)))


def test_mistakes_are_one_sentence():
  with pytest.raises(UserError, match='at least 5 inputs, but 3 came'):
    with_decisions(classifier(), INPUTS[:3], None)
  with pytest.raises(UserError, match='evaluation data with them'):
    with_decisions(classifier(), INPUTS, (INPUTS, np.zeros(20)))


def test_a_model_that_takes_all_for_one_class_is_refused():
  model = classifier()
  model.layers[-1].bias.assign([9.0, 0, 0])
  with pytest.raises(UserError, match=r'takes all 16 training inputs, .* for class 0'):
    with_decisions(model, INPUTS, None)


@pytest.fixture(scope='module')
def images(tmp_path_factory):
  """Grey images, half of them bright, and a model that tells these apart."""
  folder, rng = tmp_path_factory.mktemp('images'), np.random.default_rng(0)
  for number in range(20):
    pixels = rng.integers(0, 100, (8, 8)) + (120 if number % 2 else 0)
    Image.fromarray(pixels.astype(np.uint8)).save(folder / f'{number}.png')
  inputs = keras.Input((8, 8, 1))
  x = keras.layers.Flatten()(inputs)
  model = keras.Model(inputs, keras.layers.Dense(2, 'softmax')(x))
  model.layers[-1].set_weights([np.outer(np.ones(64), [-1, 1]), np.array([32.0, -32.0])])
  model.save(folder.parent / 'bright.keras')
  return folder, str(folder.parent / 'bright.keras')


def helper_of(model, **config):
  return SAVED_MODEL.make(SavedModelConfig(model=model, **config))


def test_a_folder_of_images_is_labelled_by_decisions(images):
  folder, model = images
  helper = helper_of(
    model, data_set='images', data_dir_local=str(folder), preprocess='0..1', nb_smpls_val=4
  )
  assert helper.unlabelled
  assert [helper.nb_samples(split) for split in ('train', 'val', 'eval')] == [12, 4, 4]
  for split in ('train', 'val', 'eval'):
    pixels, labels = next(iter(helper.eval_batches(split, 20)))
    assert np.array_equal(labels, np.asarray(pixels).mean(axis=(1, 2, 3)) > 0.45)
  assert 'agreement with the original' in helper.notes()[0]


@pytest.mark.parametrize('name', ['x.npy', 'x.npz', 'folder'])
def test_arrays_alone_are_labelled_by_decisions(images, name, tmp_path):
  inputs, path = np.random.default_rng(0).random((20, 8, 8, 1), np.float32), tmp_path / name
  if name == 'folder':
    path.mkdir()
    np.savez(path / 'train.npz', x=inputs)
  else:
    np.save(path, inputs) if name == 'x.npy' else np.savez(path, images=inputs)
  helper = helper_of(images[1], data_set='arrays', data_dir_local=str(path))
  assert helper.unlabelled
  assert [helper.nb_samples(split) for split in ('train', 'eval')] == [16, 4]


def test_a_single_file_with_labels_is_refused(images, tmp_path):
  np.savez(tmp_path / 'x.npz', x=INPUTS, y=np.zeros(20))
  with pytest.raises(UserError, match=r'holds x, y, but the inputs alone, as one array'):
    helper_of(images[1], data_set='arrays', data_dir_local=str(tmp_path / 'x.npz'))


def test_too_few_images_are_refused(images, tmp_path):
  with pytest.raises(UserError, match=r'has 0 \.jpg, \.jpeg, \.png files'):
    helper_of(images[1], data_set='images', data_dir_local=str(tmp_path), preprocess='none')
