"""Arrays from files: any task from the command line."""

import numpy as np
import pytest
import tf_keras as keras

from secateurs.nets.datasets import array_files
from secateurs.nets.saved_model import SAVED_MODEL, SavedModelConfig
from secateurs.utils.errors import UserError

L = keras.layers


@pytest.fixture
def folder(tmp_path):
  rng = np.random.default_rng(0)
  for name, nb in (('train', 20), ('test', 8)):
    parts = {'x': rng.normal(size=(nb, 4)), 'y': rng.integers(0, 2, nb), 'w': np.ones(nb)}
    np.savez(tmp_path / f'{name}.npz', **parts)
  return tmp_path


def make(folder, model, **options):
  model.save(folder / 'm.keras')
  config = SavedModelConfig(
    model=str(folder / 'm.keras'), data_set='arrays', data_dir_local=str(folder), **options
  )
  return SAVED_MODEL.make(config)


def test_the_task_is_named_where_the_model_leaves_it_open(folder):
  line = keras.Sequential([L.Input((4,)), L.Dense(1)])
  with pytest.raises(UserError, match=r'on the command line --task'):
    make(folder, line)
  for task in ('binary', 'regression'):
    helper = make(folder, line, task=task)
    assert helper.task.name == task
    assert (helper.nb_samples('train'), helper.nb_samples('eval')) == (20, 8)
    assert len(next(iter(helper.train_batches(5, 0)))) == 3
  line.compile('sgd', 'mae')  # Which the file says.
  assert make(folder, line).task.criteria.loss_name == 'mean_absolute_error'
  with pytest.raises(UserError, match=r'--task takes one of classification, binary'):
    make(folder, line, task='guessing')


def test_several_inputs_and_outputs_are_named(tmp_path):
  one, two = L.Input((4,), name='one'), L.Input((2,), name='two')
  x = L.Concatenate()([one, two])
  heads = [L.Dense(3, 'softmax', name='kind')(x), L.Dense(1, name='size')(x)]
  for name in ('train', 'test'):
    np.savez(
      tmp_path / f'{name}.npz',
      x_one=np.zeros((9, 4)),
      x_two=np.ones((9, 2)),
      y_size=np.linspace(0, 1, 9),
      y_kind=np.arange(9) % 3,
    )
  helper = make(tmp_path, keras.Model([one, two], heads))
  inputs, targets = next(iter(helper.eval_batches('eval', 9)))
  assert [tuple(part.shape) for part in inputs] == [(9, 4), (9, 2)]
  assert [task.name for task in helper.task.tasks] == ['classification', 'regression']
  assert targets[0].numpy().tolist() == [0, 1, 2] * 3


@pytest.mark.parametrize(
  ('change', 'text'),
  [
    (
      lambda folder: (folder / 'test.npz').unlink(),
      r'test.npz does not exist: write it with numpy',
    ),
    (lambda folder: (folder / 'test.npz').write_text('x'), 'test.npz cannot be read'),
    (lambda folder: np.savez(folder / 'test.npz', x=np.zeros(3)), r'holds x, but y \(targets\)'),
  ],
)
def test_files_that_lack_something_are_one_sentence(folder, change, text):
  change(folder)
  with pytest.raises(UserError, match=text):
    array_files.load(folder)
  with pytest.raises(UserError, match='give --data_dir_local DIR'):
    array_files.load(None)


@pytest.mark.parametrize(
  ('option', 'message'),
  [
    ({'nb_smpls_train': 5}, '--nb_smpls_train 5 has no effect on --data_set arrays'),
    ({'nb_smpls_eval': 5}, '--nb_smpls_eval 5 has no effect on --data_set arrays'),
    ({'preprocess': 'none'}, '--preprocess none has an effect only with --data_set image_folder'),
    ({'image_size': 32}, '--image_size 32 has an effect only with --data_set image_folder'),
    ({'nb_corrupt_max': 3}, '--nb_corrupt_max 3 has an effect only with --data_set ilsvrc12'),
  ],
)
def test_flags_of_images_are_refused(option, message):
  with pytest.raises(UserError, match=message):
    SavedModelConfig(data_set='arrays', **option)
