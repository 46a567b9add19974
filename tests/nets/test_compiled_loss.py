"""The loss that a model was compiled with."""

import pytest
import tf_keras as keras

from secateurs.nets.compiled_loss import loss_in_file, loss_of
from secateurs.utils.training.tasks.choice import loss_name

L = keras.layers


def heads(loss, as_dict=False):
  inputs = L.Input((4,))
  found = {name: L.Dense(2, name=name)(inputs) for name in ('one', 'two')}
  model = keras.Model(inputs, found if as_dict else list(found.values()))
  model.compile('sgd', loss)
  return model


@pytest.mark.parametrize('ending', ['keras', 'h5'])
def test_files_say_it(tmp_path, ending):
  for loss, name in (
    ('mae', 'mean_absolute_error'),
    (keras.losses.Huber(), 'huber'),
    (keras.losses.BinaryCrossentropy(from_logits=True), 'binary_crossentropy'),
  ):
    model = keras.Sequential([L.Input((4,)), L.Dense(1)])
    model.compile('sgd', loss)
    model.save(tmp_path / f'm.{ending}')
    assert loss_name(loss_in_file(tmp_path / f'm.{ending}')) == name
  heads({'one': 'mse', 'two': 'mae'}).save(tmp_path / f'm.{ending}')
  found = loss_in_file(tmp_path / f'm.{ending}')
  assert {key: loss_name(one) for key, one in found.items()} == {
    'one': 'mean_squared_error', 'two': 'mean_absolute_error'
  }  # fmt: skip


def test_files_without_one(tmp_path):
  keras.Sequential([L.Input((4,)), L.Dense(1)]).save(tmp_path / 'm.keras')
  assert loss_in_file(tmp_path / 'm.keras') is None
  (tmp_path / 'text.keras').write_text('x')
  assert loss_in_file(tmp_path / 'text.keras') is None
  assert loss_in_file(tmp_path / 'nothing.h5') is None


def test_one_output_has_its_own():
  assert loss_of(heads(['mse', 'mae']), 'two') == 'mae'
  assert loss_of(heads({'two': 'mae', 'one': 'mse'}), 'one') == 'mse'
  assert loss_of(heads({'two': 'mae', 'one': 'mse'}, as_dict=True), 'two') == 'mae'
  assert loss_of(heads('mse'), 'two') == 'mse'
  assert loss_of(keras.Sequential([L.Input((4,)), L.Dense(1)])) is None
