"""Rules of users' layers, state outside the weights, and residual branches that go whole."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from graph_helpers import check_slice, difference, outputs, random_inputs, randomize

from secateurs.nets.resnet import cifar_resnet
from secateurs.utils.errors import UserError
from secateurs.utils.graph import (
  ChannelGraph,
  PassThrough,
  PerChannel,
  count,
  drop_block,
  register_layer_rule,
  residual_blocks,
  save_model,
  slice_model,
)
from secateurs.utils.graph.rules import registry
from secateurs.utils.graph.rules.operations import registry as operations

L = keras.layers


class Gain(L.Layer):
  """One factor for each channel, whose number is an argument."""

  def __init__(self, width, **kwargs):
    super().__init__(**kwargs)
    self.width = width

  def build(self, shape):
    self.gain = self.add_weight('gain', (self.width,))

  def call(self, x):
    return x * self.gain

  def get_config(self):
    return {**super().get_config(), 'width': self.width}


class Doubled(L.Layer):
  def call(self, x):
    return 2.0 * x


@pytest.fixture(autouse=True)
def own_rules(monkeypatch):
  """Rules that a test registers are gone after it."""
  monkeypatch.setattr(registry, '_BY_TYPE', dict(registry._BY_TYPE))
  monkeypatch.setattr(operations, '_RULES', dict(operations._RULES))


def around(*layers):
  image = keras.Input((6, 6, 3))
  x = L.Conv2D(8, 3, name='first')(image)
  for layer in layers:
    x = layer(x)
  x = L.GlobalAveragePooling2D()(L.Conv2D(4, 1, name='last')(x))
  return randomize(keras.Model(image, L.Dense(3)(x)))


def test_registered_layers_are_cut():
  model = around(Gain(8, name='gain'), Doubled())
  assert not ChannelGraph(model).group('first').prunable
  register_layer_rule(Gain, PerChannel({'gain': 0}, sizes=['width']))
  register_layer_rule(Doubled, PassThrough())
  small = check_slice(model, {'first': [1, 4, 6]})
  assert small.get_layer('gain').width == 3
  np.testing.assert_array_equal(
    small.get_layer('gain').gain, model.get_layer('gain').gain.numpy()[[1, 4, 6]]
  )


def test_a_registered_operation_is_cut():
  model = around(lambda x: tf.math.special.bessel_j0(x))
  assert not ChannelGraph(model).group('first').prunable
  register_layer_rule('math.special.bessel_j0', PassThrough())
  check_slice(model, {'first': [0, 2, 7]})


@pytest.mark.parametrize(
  ('kind', 'rule', 'words'),
  [
    (Doubled, PassThrough, 'pass an instance'),
    (L.Dense, PassThrough(), 'has a rule already'),
    (L.BatchNormalization, PassThrough(), 'has a rule already'),
    ('nn.crelu', PassThrough(), 'has a rule already'),
    (int, PassThrough(), 'layer class'),
  ],
)
def test_wrong_registrations(kind, rule, words):
  with pytest.raises(UserError, match=words):
    register_layer_rule(kind, rule)


def adapted(*shape):
  layer = L.Normalization()
  layer.adapt(np.random.default_rng(0).uniform(0, 255, (16, *shape)).astype(np.float32))
  return layer


def test_an_adapted_normalization_keeps_its_state():
  image = keras.Input((6, 6, 3))
  x = L.Conv2D(8, 3, name='first')(adapted(6, 6, 3)(image))
  model = keras.Model(image, L.Dense(3)(L.GlobalAveragePooling2D()(L.Conv2D(4, 1)(x))))
  images = [255 * np.random.default_rng(1).random((4, 6, 6, 3), np.float32)]
  same = slice_model(model, {})
  assert difference(outputs(model, images), outputs(same, images)) < 1e-6
  layer = model.layers[1]
  layer.set_weights([np.full(3, 9.0), np.full(3, 4.0), 0])
  layer.finalize_state()
  same = slice_model(model, {'first': range(8)})
  assert difference(outputs(model, images), outputs(same, images)) < 1e-6


def test_vocabularies_and_bounds_are_copied():
  words, number = keras.Input((4,), dtype='string'), keras.Input((1,))
  lookup = L.StringLookup()
  lookup.adapt(['a', 'b', 'b', 'c'])
  bins = L.Discretization(num_bins=3)
  bins.adapt(np.arange(30.0).reshape(-1, 1))
  x = L.Embedding(6, 8, name='table')(lookup(words))
  x = L.Concatenate()([L.GlobalAveragePooling1D()(x), tf.cast(bins(number), tf.float32)])
  model = keras.Model([words, number], L.Dense(2)(x))
  given = [tf.constant([['a', 'b', 'x', 'c']]), tf.constant([[17.0]])]
  same = slice_model(model, {})
  np.testing.assert_allclose(model(given), same(given), atol=1e-6)
  assert slice_model(model, {'table': [0, 3]})(given).shape == (1, 2)


def again(model):
  """The model from its config and its weights alone, as tf_keras clones it."""
  copy = keras.Model.from_config(model.get_config())
  copy.set_weights(model.get_weights())
  return copy


def test_what_was_adapted_survives_whoever_rebuilds_the_network():
  words, image = keras.Input((2,), dtype='string'), keras.Input((6, 6, 3))
  lookup = L.StringLookup(output_mode='tf_idf')
  lookup.adapt([['a', 'b'], ['b', 'c']])
  bins = L.Discretization(num_bins=3)
  bins.adapt(np.arange(30.0).reshape(-1, 1))
  x = L.Concatenate()(
    [lookup(words), tf.cast(L.Flatten()(bins(adapted(6, 6, 3)(image))), tf.float32)]
  )
  model = keras.Model([words, image], x)
  same = slice_model(model, {})
  given = [
    tf.constant([['a', 'c']]),
    255 * np.random.default_rng(1).random((1, 6, 6, 3), np.float32),
  ]
  np.testing.assert_allclose(again(same)(given), model(given), rtol=1e-6)


class Hidden(L.Layer):
  """Keeps a factor that is neither a weight nor in its config."""

  def __init__(self, **kwargs):
    super().__init__(**kwargs)
    self.factor = 1.0

  def call(self, x):
    return x * self.factor


class Noisy(L.Layer):
  def call(self, x):
    return x + tf.random.normal(tf.shape(x))


def test_a_copy_that_lost_its_state_is_noticed():
  hidden = Hidden(name='hidden')
  model = around(hidden)
  slice_model(model, {})
  hidden.factor = 3.0
  with pytest.raises(UserError, match=r"layer 'hidden' \(Hidden\) gives other outputs"):
    slice_model(model, {})
  slice_model(around(Noisy()), {})


def test_a_cut_layer_is_proved_whole():
  class HiddenScale(Hidden):
    """Cuttable by a rule."""

  register_layer_rule(HiddenScale, PassThrough())
  hidden = HiddenScale(name='hidden')
  model = around(hidden)
  first = next(layer for layer in model.layers if hasattr(layer, 'kernel'))
  assert slice_model(model, {first.name: [0]}).get_layer(first.name).kernel.shape[-1] == 1
  hidden.factor = 3.0
  with pytest.raises(UserError, match=r"layer 'hidden' \(HiddenScale\) gives other outputs"):
    slice_model(model, {first.name: [0]})


def test_blocks_of_a_resnet_are_dropped():
  model = randomize(cifar_resnet(20))
  blocks = residual_blocks(model)
  assert blocks == [
    f'stage{s}_block{b}_add' for s in (1, 2, 3) for b in (1, 2, 3) if s == 1 or b > 1
  ]
  small = drop_block(model, 'stage2_block3_add')
  # The reference: the branch's last BatchNorm gives zeros.
  images = random_inputs(model)
  found = outputs(small, images)
  norm = next(
    layer for layer in model.layers if layer.name.startswith('stage2_block3') and
    isinstance(layer, L.BatchNormalization) and 'bn2' in layer.name
  )  # fmt: skip
  for name in ('gamma', 'beta'):
    getattr(norm, name).assign(tf.zeros_like(getattr(norm, name)))
  assert difference(outputs(model, images), found) < 1e-6
  assert count(small).macs < count(model).macs
  assert not any(layer.name.startswith('stage2_block3_conv') for layer in small.layers)
  assert len(residual_blocks(small)) == len(blocks) - 1


def test_blocks_of_operations_and_refusals(tmp_path):
  image = keras.Input((6, 6, 4))
  x = L.Conv2D(4, 3, padding='same', name='branch')(image) + image
  y = x + L.Conv2D(4, 1, name='other')(image)
  model = randomize(keras.Model(image, L.GlobalAveragePooling2D()(y)))
  first, last = (layer.name for layer in model.layers if layer.name.startswith('tf.'))
  assert residual_blocks(model) == [first]
  small = drop_block(model, first)
  again = keras.models.load_model(save_model(small, tmp_path / 'small.keras'))
  assert 'branch' not in [layer.name for layer in again.layers]
  with pytest.raises(UserError, match='identity shortcut'):
    drop_block(model, last)
  with pytest.raises(UserError, match=r'no layer .* did you mean'):
    drop_block(model, first + '_x')
