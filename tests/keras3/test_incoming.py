"""Models of Keras 3 as tf_keras models: every layer and operation, proved equal."""

import keras as keras3
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from secateurs.utils.errors import UserError
from secateurs.utils.keras3 import to_keras3, to_tf_keras
from secateurs.utils.keras3.proof import prove_equal

L, ops = keras3.layers, keras3.ops


def model_of(function, shape=(8, 8, 4), **options):
  """A Keras 3 model with random weights, batch statistics among them."""
  x = keras3.Input(shape, **options)
  model = keras3.Model(x, function(x))
  rng = np.random.default_rng(0)
  for weight in model.weights:
    if weight.dtype.startswith('float'):
      weight.assign(rng.uniform(0.1, 1, weight.shape))
  return model


def adapted():
  layer = L.Normalization()
  layer.adapt(np.random.default_rng(0).normal(3, 2, (20, 8, 8, 4)).astype('float32'))
  return layer


TOKENS = (6, 8)
LAYERS = {
  'Dense': lambda x: L.Dense(3, 'gelu', kernel_regularizer='l2', name='d')(x),
  'Conv': lambda x: L.Conv2D(6, 3, 2, 'same', groups=2, use_bias=False)(x),
  'Conv dilated': lambda x: L.Conv2D(6, 3, dilation_rate=2, kernel_initializer='he_normal')(x),
  'Depthwise': lambda x: L.DepthwiseConv2D(3, depth_multiplier=2, activation='relu')(x),
  'Separable': lambda x: L.SeparableConv2D(5, 3)(x),
  'Transposed': lambda x: L.Conv2DTranspose(3, 3, 2, 'same')(x),
  'BatchNorm': lambda x: L.BatchNormalization(epsilon=1e-2, momentum=0.9)(x),
  'LayerNorm': lambda x: L.LayerNormalization()(x),
  'GroupNorm': lambda x: L.GroupNormalization(2)(x),
  'RMSNorm': lambda x: L.RMSNormalization()(x),
  'UnitNorm': lambda x: L.UnitNormalization()(x),
  'PReLU': lambda x: L.PReLU(shared_axes=[1, 2])(x),
  'LeakyReLU': lambda x: L.LeakyReLU(0.2)(x),
  'ELU, ReLU, Softmax': lambda x: L.Softmax(axis=1)(L.ReLU(6.0, 0.1, 0.2)(L.ELU(0.5)(x))),
  'Pools': lambda x: L.AveragePooling2D(2)(L.MaxPooling2D(3, 1, 'same')(x)),
  'Global': lambda x: L.GlobalAveragePooling2D(keepdims=True)(x),
  'Shapes': lambda x: L.Permute((2, 1))(L.Reshape((-1, 8))(L.Flatten()(x))),
  'Padding': lambda x: L.Cropping2D(1)(L.ZeroPadding2D(((1, 2), (3, 1)))(x)),
  'UpSampling': lambda x: L.UpSampling2D(2, interpolation='bilinear')(x),
  'Merges': lambda x: L.Concatenate()([L.Add()([x, x]), L.Maximum()([x, x]), L.Subtract()([x, x])]),
  'Dot': lambda x: L.Dot(1)([L.Flatten()(x), L.Flatten()(x)]),
  'Einsum': lambda x: L.EinsumDense('abcd,de->abce', (8, 8, 3), bias_axes='e')(x),
  'Dropout': lambda x: L.GaussianNoise(0.1)(L.SpatialDropout2D(0.2)(L.Dropout(0.3, seed=1)(x))),
  'TimeDistributed': lambda x: L.TimeDistributed(L.Dense(3, 'tanh'))(x),
  'Rescaling': lambda x: L.Rescaling(1 / 255.0, offset=-1)(x),
  'Normalization': lambda x: adapted()(x),
  'Resizing': lambda x: L.CenterCrop(4, 5)(L.Resizing(6, 7)(x)),
  'Resizing to NumPy': lambda x: L.Resizing(np.int64(6), np.int64(7))(x),
  'Random': lambda x: L.RandomZoom(0.1)(L.RandomRotation(0.1)(L.RandomFlip('horizontal')(x))),
  'Random pixels': lambda x: L.RandomBrightness(0.1)(L.RandomContrast(0.1)(x)),
  'Random only here': lambda x: L.RandomErasing()(x),
  'Identity': lambda x: L.ActivityRegularization(0.1)(L.Identity()(x)),
  'hard_sigmoid layer': lambda x: L.Conv2D(3, 1, activation='hard_sigmoid')(x),
  'LoRA': lambda x: with_lora(x),
}
ON_TOKENS = {
  'LSTM': lambda x: L.LSTM(4, return_sequences=True)(x),
  'GRU': lambda x: L.GRU(4)(x),
  'LSTM with states': lambda x: L.LSTM(4)(x, initial_state=[x[:, 0, :4], x[:, 1, 4:]]),
  'Bidirectional': lambda x: L.Bidirectional(L.LSTM(3, return_sequences=True))(x),
  'SimpleRNN': lambda x: L.SimpleRNN(3)(x),
  'Attention by heads': lambda x: L.MultiHeadAttention(2, 4)(x, x),
  'Causal': lambda x: L.MultiHeadAttention(2, 4, value_dim=3)(x, x, use_causal_mask=True),
  'Attention': lambda x: L.Attention(use_scale=True)([x, x]),
  'Conv1D': lambda x: L.GlobalMaxPooling1D()(L.Conv1D(4, 3, padding='causal')(x)),
  'Pools': lambda x: L.UpSampling1D(2)(L.MaxPooling1D(2)(x)),
}


def with_lora(x):
  layer = L.Dense(3)
  y = layer(x)
  layer.enable_lora(2)
  return y


@pytest.mark.parametrize('name', LAYERS)
def test_layers_on_images(name):
  model = model_of(LAYERS[name])
  made = to_tf_keras(model)
  names = [layer.name for layer in model.layers if layer.weights]
  assert [layer.name for layer in made.layers if layer.weights] == names


@pytest.mark.parametrize('name', ON_TOKENS)
def test_layers_on_tokens(name):
  to_tf_keras(model_of(ON_TOKENS[name], TOKENS))


OPERATIONS = {
  'arithmetic': lambda x: 2 * x + 1 - x / 3 + (1 - x) ** 2 - x % 2 + 1 / (x + 300),
  'with arrays': lambda x: x * np.arange(4, dtype='float32') - ops.ones((8, 4)),
  'elementwise': lambda x: ops.sqrt(ops.abs(x)) + ops.sin(x) + ops.tanh(x) + ops.log1p(ops.square(x)),
  'where': lambda x: ops.where(x > 0, x, ops.zeros_like(x)),
  'logic': lambda x: ops.cast(ops.logical_and(x > 0, x < 1), 'float32'),
  'sums': lambda x: ops.mean(x, (1, 2), keepdims=True) + ops.max(x, -1, keepdims=True),
  'moments': lambda x: ops.var(x, -1) + ops.std(x, axis=3) + ops.sum(x, -1) + ops.prod(x, -1) / 1e9,
  'shapes': lambda x: ops.squeeze(ops.expand_dims(ops.reshape(x, (-1, 64, 4)), 1), 1),
  'transposes': lambda x: ops.moveaxis(ops.swapaxes(ops.transpose(x, (0, 3, 1, 2)), 1, 2), -1, 1),
  'joins': lambda x: ops.stack([ops.concatenate([x, x], -1), ops.concatenate([x, -x], -1)], 1),
  'splits': lambda x: ops.split(x, [1, 3], -1)[1] * ops.split(x, 2, axis=-1)[0],
  'indices': lambda x: x[:, ::2, 1:, -1] + ops.take(x, 2, axis=-1)[:, ::2, 1:],
  'takes': lambda x: ops.take(x, np.array([-2, 0]), axis=-1) + ops.take(x, -1, axis=-1)[..., None],
  'types': lambda x: ops.cast(ops.cast(x, 'int32') > 0.5, 'float32') + ops.sum(x > 0) * 1.0,
  'wheres': lambda x: ops.where(x > 0, 1, x) * ops.where(ops.ones_like(x, dtype='bool'), 2.0, x),
  'places': lambda x: x + ops.cast(ops.argmax(x, -1, keepdims=True), 'float32'),
  'lengths': lambda x: x * ops.norm(x, axis=3, keepdims=True) + ops.norm(x, 1, axis=-1)[..., None],
  'repeats': lambda x: ops.roll(ops.tile(ops.repeat(x, 2, 1), (1, 1, 1, 2)), 1, 1),
  'pads': lambda x: ops.flip(ops.pad(x, ((0, 0), (1, 1), (2, 0), (0, 0)), constant_values=2), 1),
  'clips': lambda x: ops.maximum(ops.clip(x, -1, 1), 0) - ops.minimum(x, 0.5),
  'products': lambda x: ops.einsum('bhwc,bhwd->bcd', x, x) + ops.matmul(x[:, :4, 0], x[:, :4, 0]),
  'images': lambda x: ops.image.resize(x, (5, 6)) + ops.image.crop_images(x, 1, 2, 2, 0),
  'patches': lambda x: ops.image.extract_patches(x, 4),
  'pools': lambda x: ops.max_pool(x, 2) + ops.average_pool(x, 2, 2, 'same'),
  'norms': lambda x: ops.normalize(x) + ops.softmax(x) + ops.log_softmax(x) / 1e3,
  'attention': lambda x: ops.dot_product_attention(x, x, x),
  'integers': lambda x: ops.one_hot(ops.argmax(x, -1), 4) + ops.cast(x > 0, 'int32'),
  'outputs': lambda x: list(ops.unstack(x, 4, -1)),
}  # fmt: skip


@pytest.mark.parametrize('name', OPERATIONS)
def test_operations(name):
  to_tf_keras(model_of(OPERATIONS[name]))


NAMES = set(dir(keras3.activations)) - {'get', 'serialize', 'deserialize', 'sparsemax', 'threshold'}


@pytest.mark.parametrize('name', sorted(name for name in NAMES if not name.startswith('_')))
def test_activations(name):
  def build(x):
    return [L.Activation(name)(x), L.Dense(4, name)(x)]

  to_tf_keras(model_of(build))


def test_nested_and_shared_models_stay_nested_and_shared():
  inner = keras3.Sequential(
    [L.Input((8, 8, 4)), L.Conv2D(4, 3, padding='same', name='c')], name='inner'
  )
  dense = L.Dense(4, name='twice')
  middle_in = keras3.Input((8, 8, 4))
  middle = keras3.Model(middle_in, dense(inner(middle_in)) + 1, name='middle')
  model = model_of(lambda x: dense(middle(inner(x))))
  made = to_tf_keras(model)
  assert isinstance(made.get_layer('middle'), tf_keras.Model)
  assert made.get_layer('middle').get_layer('inner') is made.get_layer('inner')
  assert len(made.weights) == len(model.weights) == 4


def test_structures_of_inputs_and_outputs():
  a, b = keras3.Input((4,), name='a'), keras3.Input((4,), name='b', dtype='int32')
  model = keras3.Model({'a': a, 'b': b}, {'sum': a + ops.cast(b, 'float32'), 'd': L.Dense(2)(a)})
  made = to_tf_keras(model)
  assert list(made.output) == ['sum', 'd']
  assert [one.name for one in made.inputs] == ['a', 'b']


@pytest.mark.parametrize('ending', ['.keras', '.h5'])
def test_files(ending, tmp_path):
  model = keras3.Sequential([L.Input((4,)), L.Dense(3, 'silu'), L.Dropout(0.5), L.Dense(2)])
  model.layers[0].trainable = False
  model.save(tmp_path / f'm{ending}')
  made = to_tf_keras(tmp_path / f'm{ending}')
  assert [layer.trainable for layer in made.layers[1:]] == [False, True, True]
  prove_equal(model, made, 'it')


@keras3.saving.register_keras_serializable('both')
class Scaled3(L.Layer):
  """A user's layer for Keras 3."""

  def __init__(self, factor, **options):
    super().__init__(**options)
    self.factor = factor

  def build(self, shape):
    self.scale = self.add_weight(shape=(shape[-1],), name='scale')

  def call(self, x):
    raise NotImplementedError  # Only to be called in a mapping's place.

  def compute_output_shape(self, shape):
    return shape

  def get_config(self):
    return {**super().get_config(), 'factor': self.factor}


class Works3(Scaled3):
  """One that can be called."""

  def call(self, x):
    return x * self.scale * self.factor


class Scaled2(tf_keras.layers.Layer):
  """The same for tf_keras."""

  def __init__(self, factor, **options):
    super().__init__(**options)
    self.factor = factor

  def build(self, shape):
    self.scale = self.add_weight('scale', (shape[-1],))

  def call(self, x):
    return x * self.scale * self.factor


@pytest.mark.parametrize(
  'layers',
  [
    {Works3: Scaled2},
    {'Works3': Scaled2},
    {Works3: lambda layer: Scaled2(layer.factor, name=layer.name)},
  ],
)
def test_layers_of_the_user_are_mapped(layers):
  made = to_tf_keras(model_of(lambda x: Works3(3.0, name='mine')(x)), layers)
  assert isinstance(made.get_layer('mine'), Scaled2)


@keras3.saving.register_keras_serializable('tests')
class Block(L.Layer):
  """A layer of layers, operations and a weight that is read by itself."""

  def __init__(self, **options):
    super().__init__(**options)
    self.wide, self.norm = L.Dense(16, 'silu', name='wide'), L.LayerNormalization(name='norm')

  def build(self, shape):
    self.narrow = L.Dense(shape[-1], name='narrow')
    self.shift = self.add_weight(shape=(shape[-1],), name='shift', initializer='ones')

  def call(self, x, training=None):
    flat = ops.reshape(x, (ops.shape(x)[0], -1, ops.shape(x)[-1]))
    y = ops.transpose(ops.reshape(flat, (-1, 8, 8, x.shape[-1])), (0, 2, 1, 3))
    return x + self.narrow(self.wide(self.norm(y))) * self.shift


def test_layers_of_layers_and_operations_are_opened_up():
  notes = []
  block = Block(name='block')
  model = model_of(lambda x: block(Block(name='first')(block(x))))
  made = to_tf_keras(model, notes=notes)
  names = [layer.name for layer in made.layers if layer.weights]
  assert sorted(names) == sorted(
    f'{one}_{name}' for one in ('block', 'first') for name in ('wide', 'norm', 'narrow')
  )
  assert 'Layer first (Block) reads first/shift outside of layers' in ' '.join(notes)


@pytest.mark.parametrize(
  'function',
  [
    lambda x: L.GroupQueryAttention(4, 4, 2)(x, x),
    lambda x: L.SpectralNormalization(L.Dense(3))(x),
    lambda x: L.LayerNormalization(rms_scaling=True)(x),
    lambda x: L.Lambda(lambda t: ops.relu(t) + 1)(x),
  ],
)
def test_layers_that_tf_keras_lacks_are_opened_up(function):
  to_tf_keras(model_of(function, TOKENS))


def test_layers_that_are_registered_with_both():
  keras3.saving.register_keras_serializable('mine')(Works3)
  with tf_keras.utils.custom_object_scope({'mine>Works3': Scaled2}):
    to_tf_keras(model_of(lambda x: Works3(3.0)(x)))


@pytest.mark.parametrize(
  ('function', 'words'),
  [
    (lambda x: Scaled3(2.0, name='own')(x), r"'own' is a Scaled3, a class of your own"),
    (lambda x: L.Lambda(tf.sort, output_shape=(8, 8, 4), name='la')(x), r"'la' .* is a Lambda"),
    (lambda x: L.LSTM(2, 'hard_silu')(ops.reshape(x, (-1, 64, 4))), "no activation 'hard_silu'"),
    (lambda x: ops.cumsum(ops.median(x, -1)), r'keras.ops, Median\) is not known'),
    (lambda x: L.Resizing(5, 5, antialias=True)(x), 'antialias=True'),
  ],
)  # fmt: skip
def test_what_has_no_counterpart(function, words):
  with pytest.raises(UserError, match=words):
    to_tf_keras(model_of(function))


def test_kinds_of_models():
  with pytest.raises(UserError, match='has no input shape yet'):
    to_tf_keras(keras3.Sequential([L.Dense(2)]))

  class Own(keras3.Model):
    def __init__(self):
      super().__init__(name='own')
      self.first, self.second = L.Dense(4, name='first'), L.Dense(2, name='second')

    def call(self, x, training=None):
      return self.second(ops.relu(self.first(x)))

  model = Own()
  with pytest.raises(UserError, match=r'is a subclassed model .* call it once'):
    to_tf_keras(model)
  x = np.ones((2, 3), np.float32)
  expected = np.asarray(model(x))
  np.testing.assert_allclose(to_tf_keras(model)(x), expected, atol=1e-6)


@pytest.mark.parametrize('kind', ['float32', 'int32'])
def test_tokens_of_any_type_and_their_masks(kind):
  def layers(tokens):
    x = L.Embedding(9, 8, mask_zero=True)(tokens)
    _, *states = L.LSTM(4, return_state=True)(L.Concatenate()([x, x]))
    return L.LSTM(4)(x, initial_state=states)  # Keras 3 leaves the mask out.

  to_keras3(to_tf_keras(model_of(layers, (6,), dtype=kind)))


def test_lookups():
  given, adapted_to = L.IntegerLookup(vocabulary=[3, 0, 1]), L.IntegerLookup(output_mode='one_hot')
  adapted_to.adapt(np.array([[1], [1], [0]]))
  to_tf_keras(model_of(lambda x: L.Embedding(5, 3)(given(x)), (4,), dtype='int64'))
  to_tf_keras(model_of(lambda x: L.Dense(3)(adapted_to(x)), (1,), dtype='int64'))


def test_half_precision():
  def layers(x):
    for _ in range(2):
      x = L.Conv2D(8, 3, padding='same', dtype='mixed_float16')(x)
      x = L.BatchNormalization(dtype='mixed_float16')(x)
    return L.Dense(3, dtype='float32')(L.GlobalAveragePooling2D()(x))

  to_tf_keras(model_of(layers))


def test_subclassed_models_of_several_inputs():
  class Pair(keras3.Model):
    def __init__(self):
      super().__init__(name='pair')
      self.one, self.other = L.Dense(4), L.Dense(4)

    def call(self, inputs):
      return self.one(inputs['a']) + self.other(inputs['b'])

  model, x = Pair(), {'a': np.ones((2, 3), np.float32), 'b': np.ones((2, 5), np.float32)}
  expected = np.asarray(model(x))
  made = to_tf_keras(model)
  assert made.input_names == ['a', 'b']
  np.testing.assert_allclose(made(x), expected, atol=1e-6)


def test_a_difference_is_found():
  model = model_of(lambda x: L.Dense(2)(x))
  made = to_tf_keras(model)
  made.layers[-1].bias.assign_add([0.0, 1.0])
  with pytest.raises(UserError, match=r'the copy differs .* of the range of its outputs'):
    prove_equal(model, made, 'the copy')


def test_rounding_that_a_model_amplifies_is_no_difference():
  def sensitive(factor):
    return model_of(lambda x: ops.sin(factor * ops.mean(x, (1, 2)) + 1))

  prove_equal(sensitive(2e5), sensitive(2e5 * (1 + 1e-7)), 'it')
  with pytest.raises(UserError, match='differs'):
    prove_equal(sensitive(1.0), sensitive(1.0 + 1e-4), 'it')


def test_notes_say_what_was_left_out():
  notes = []
  to_tf_keras(model_of(LAYERS['Random only here']), notes=notes)
  assert 'RandomErasing' in notes[0]
