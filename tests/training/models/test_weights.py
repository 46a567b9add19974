import numpy as np
import pytest
import tf_keras as keras

from secateurs.nets.lenet import lenet
from secateurs.utils.errors import UserError
from secateurs.utils.graph.flat.l2_norm import L2Norm
from secateurs.utils.graph.slicing.endings import opened
from secateurs.utils.training.models.checkpoints import CheckpointStore
from secateurs.utils.training.models.structured_weights import read_structured
from secateurs.utils.training.models.weight_files import read_weights
from secateurs.utils.training.models.weights import (
  assign_weights,
  kernels_by_name,
  load_model,
  named_weights,
)


def saved(model, tmp_path, kind):
  """Saves the weights in one of the formats and gives the path to read."""
  weights = named_weights(model)
  if kind == 'npz':
    np.savez(tmp_path / 'w.npz', **{n: w.numpy() for n, w in weights.items()})
    return tmp_path / 'w.npz'
  if kind in ('keras', 'h5'):
    model.save(tmp_path / f'w.{kind}')
    return tmp_path / f'w.{kind}'
  if kind == 'savedmodel':
    model.save(tmp_path / 'folder', save_format='tf')
    return tmp_path / 'folder'
  CheckpointStore(tmp_path / 'model.ckpt').save({'model': weights}, {})
  return tmp_path / ('model.ckpt' if kind == 'store' else 'model.ckpt-1')


@pytest.mark.parametrize('kind', ['npz', 'keras', 'h5', 'savedmodel', 'store', 'checkpoint'])
def test_every_format_is_read(tmp_path, kind):
  model, twin = lenet(), lenet()
  path = saved(model, tmp_path, kind)
  assign_weights(named_weights(twin), read_weights(path), str(path))
  for theirs, ours in zip(model.get_weights(), twin.get_weights(), strict=True):
    np.testing.assert_array_equal(theirs, ours)


def test_what_does_not_fit_is_listed_expected_against_found(tmp_path):
  path = saved(lenet(nb_classes=7), tmp_path, 'npz')
  model = lenet()
  before = model.get_weights()
  with pytest.raises(UserError) as error:
    assign_weights(named_weights(model), read_weights(path), str(path))
  assert 'logits/kernel: expected (84, 10), found (84, 7)' in str(error.value)
  assert 'logits/bias: expected (10,), found (7,)' in str(error.value)
  for old, new in zip(before, model.get_weights(), strict=True):
    np.testing.assert_array_equal(old, new)


def test_nested_models_are_named_by_their_layers():
  inner = keras.Sequential([keras.layers.Dense(2, name='inside')], name='inner')
  inputs = keras.Input((3,))
  model = keras.Model(inputs, keras.layers.Dense(1, name='outside')(inner(inputs)))
  assert set(named_weights(model)) == {
    'inside/kernel',
    'inside/bias',
    'outside/kernel',
    'outside/bias',
  }


def test_missing_and_damaged_files(tmp_path):
  with pytest.raises(UserError, match='does not exist'):
    read_weights(tmp_path / 'none.npz')
  with pytest.raises(UserError, match='no weights file'):
    read_weights(tmp_path / 'none.ckpt')
  for name in ('bad.npz', 'bad.keras', 'bad.h5'):
    (tmp_path / name).write_bytes(b'not what it says')
    with pytest.raises(UserError, match=r'cannot be|is a text file'):
      read_weights(tmp_path / name)


@keras.utils.register_keras_serializable('tests')
class Block(keras.layers.Layer):
  """Makes sublayers without names, which tf_keras counts on and on."""

  def __init__(self, width=4, **options):
    super().__init__(**options)
    self.width = width
    self.convs = [keras.layers.Conv2D(width, 3, padding='same') for _ in range(3)]

  def call(self, inputs):
    for conv in self.convs:
      inputs = inputs + conv(inputs)
    return inputs

  def get_config(self):
    return {**super().get_config(), 'width': self.width}


def with_block():
  x = inputs = keras.Input((8, 8, 3))
  x = Block(name='block')(keras.layers.Conv2D(4, 3, name='stem')(x))
  x = keras.layers.Bidirectional(keras.layers.LSTM(3), name='both')(
    keras.layers.Reshape((36, 4))(x)
  )
  return keras.Model(inputs, keras.layers.Dense(2, name='logits')(x))


@pytest.mark.parametrize('kind', ['npz', 'keras', 'h5'])
def test_sublayers_without_names_are_matched_by_structure(tmp_path, kind):
  model, twin = with_block(), with_block()
  assert [w.name for w in model.weights] != [w.name for w in twin.weights]
  assert list(named_weights(model)) == list(named_weights(twin))
  path = saved(model, tmp_path, kind)
  assign_weights(named_weights(twin), read_weights(path), str(path))
  for theirs, ours in zip(model.get_weights(), twin.get_weights(), strict=True):
    np.testing.assert_array_equal(theirs, ours)


def test_weights_in_the_order_of_layers_are_taken(tmp_path):
  model, twin = with_block(), with_block()
  np.savez(tmp_path / 'w.npz', *model.get_weights())
  model.save_weights(tmp_path / 'w.h5')
  for name in ('w.npz', 'w.h5'):
    twin.set_weights([0 * weight for weight in twin.get_weights()])
    assign_weights(named_weights(twin), read_weights(tmp_path / name), name)
    for theirs, ours in zip(model.get_weights(), twin.get_weights(), strict=True):
      np.testing.assert_array_equal(theirs, ours)
  # Not where a name that both know stands at another place.
  values = {name: weight.numpy() for name, weight in named_weights(model).items()}
  swapped = {'strange': values.pop('block/kernel'), **values}
  with pytest.raises(UserError, match='block/kernel: expected'):
    assign_weights(named_weights(twin), swapped, 'swapped')


def test_weights_by_structure_are_read_through_the_network(tmp_path):
  model, twin = lenet(), lenet()
  path = tmp_path / 'x.weights.h5'
  model.save_weights(path)
  with pytest.raises(UserError, match=r'x\.weights\.h5 holds weights alone'):
    load_model(path)
  found = read_structured(path, twin)
  assert list(found) == list(named_weights(model))
  for theirs, ours in zip(model.get_weights(), found.values(), strict=True):
    np.testing.assert_array_equal(theirs, ours)
  with pytest.raises(UserError, match=r'does not fit .*a \.weights\.h5 file that tf_keras saved'):
    read_structured(path, lenet(nb_classes=7))


def test_layers_of_your_own_keep_their_names_through_a_file(tmp_path):
  """A file's layers are built without the scope that a model gives their weights."""
  inputs = keras.Input((4, 4, 3))
  model = keras.Model(inputs, keras.layers.ReLU()(L2Norm(name='norm')(inputs)))
  model.save(tmp_path / 'model.keras')
  assert list(named_weights(load_model(tmp_path / 'model.keras'))) == list(named_weights(model))
  assert list(named_weights(model)) == ['norm/gamma']


def branch(name):
  x = inputs = keras.Input((8,))
  x = keras.layers.Dense(4, activation='relu', name='first')(x)
  return keras.Model(inputs, keras.layers.Dense(4, name='second')(x), name=name)


def with_branches():
  """Two nested models with layers of the same names; the second in name comes first."""
  inputs = keras.Input((8,))
  one, two = branch('one'), branch('two')
  x = keras.layers.Concatenate()([two(inputs), one(inputs)])
  return keras.Model(inputs, keras.layers.Dense(3, name='logits')(x))


def test_layers_of_one_name_in_two_nested_models_are_called_as_in_the_flat_model():
  model = with_branches()
  layers = ('first', 'second', 'one_first', 'one_second', 'logits')
  assert list(named_weights(model)) == [f'{n}/{w}' for n in layers for w in ('kernel', 'bias')]
  assert set(named_weights(model)) == set(named_weights(opened(model)))
  assert tuple(kernels_by_name(model)) == layers


@pytest.mark.parametrize('kind', ['npz', 'keras', 'h5', 'savedmodel', 'store', 'weights alone'])
def test_nested_models_lose_no_weight_of_a_layer_that_both_have(tmp_path, kind):
  model, twin = with_branches(), with_branches()
  if kind == 'weights alone':
    path = tmp_path / 'w.h5'
    model.save_weights(path)
  else:
    path = saved(model, tmp_path, kind)
  inputs = np.random.default_rng(0).normal(size=(4, 8)).astype(np.float32)
  for network in (twin, opened(twin)):
    assign_weights(named_weights(network), read_weights(path), str(path))
    np.testing.assert_allclose(model(inputs), network(inputs), rtol=1e-5)


def test_blocks_of_one_name_in_two_nested_models_lose_no_weight():
  def nest(name):
    inputs = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 1, name='stem')(inputs)
    return keras.Model(inputs, Block(name='block')(x), name=name)

  inputs = keras.Input((8, 8, 3))
  one, two = nest('one'), nest('two')
  model = keras.Model(inputs, keras.layers.Add()([one(inputs), two(inputs)]))
  assert len(named_weights(model)) == len(model.weights)
