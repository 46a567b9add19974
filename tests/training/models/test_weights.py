import numpy as np
import pytest
import tf_keras as keras

from secateurs.nets.lenet import lenet
from secateurs.utils.errors import UserError
from secateurs.utils.graph.flat.l2_norm import L2Norm
from secateurs.utils.training.models.checkpoints import CheckpointStore
from secateurs.utils.training.models.structured_weights import read_structured
from secateurs.utils.training.models.weight_files import read_weights
from secateurs.utils.training.models.weights import assign_weights, load_model, named_weights


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
