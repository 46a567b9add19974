"""Every layer type: slicing equals masking at 30 and 60 %, and the counts that were predicted."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from graph_helpers import check_slice, conv, random_keep, randomize

from secateurs.utils.graph import ChannelGraph

L = keras.layers


def image(*tail):
  """A model around `tail`, a function from a tensor with 12 channels to a tensor."""
  x = keras.Input((8, 8, 3))
  y = L.Conv2D(12, 3, padding='same', name='first')(x)
  for part in tail:
    y = part(y)
  if len(y.shape) == 4:
    y = L.Conv2D(5, 3, padding='same', name='last')(y)
    y = L.GlobalAveragePooling2D()(y)
  return keras.Model(x, L.Dense(4, name='head')(y))


def sequence(*tail):
  x = keras.Input((10, 3))
  y = L.Conv1D(12, 3, padding='causal', name='first')(x)
  for part in tail:
    y = part(y)
  if len(y.shape) == 3:
    y = L.Conv1D(5, 3, name='last')(y)
    y = L.GlobalMaxPooling1D()(y)
  return keras.Model(x, L.Dense(4)(y))


def volume(*tail):
  x = keras.Input((6, 6, 6, 2))
  y = L.Conv3D(8, 3, padding='same', name='first')(x)
  for part in tail:
    y = part(y)
  if len(y.shape) == 5:
    y = L.Conv3D(5, 2, name='last')(y)
    y = L.GlobalAveragePooling3D()(y)
  return keras.Model(x, L.Dense(4)(y))


def squeeze_excite(y):
  s = L.GlobalAveragePooling2D()(y)
  s = L.Reshape((1, 1, 12))(s)
  s = L.Conv2D(6, 1, activation='relu', name='reduce')(s)
  s = L.Conv2D(12, 1, activation='sigmoid', name='expand')(s)
  return L.Multiply()([y, s])


def squeeze_excite_dense(y):
  s = L.GlobalAveragePooling2D()(y)
  s = L.Dense(6, activation='relu')(s)
  return L.Multiply()([y, L.Dense(12, activation='sigmoid')(s)])


def shuffle(y):
  y = L.Reshape((8, 8, 3, 4))(y)
  y = L.Permute((1, 2, 4, 3))(y)
  return L.Reshape((8, 8, 12))(y)


def residual(y):
  b = L.BatchNormalization()(conv(7, 'inner')(y))
  b = conv(12, 'outer')(L.ReLU()(b))
  return L.Add()([y, b])


def twice(y):
  return L.Concatenate()([y, conv(5)(y), y])


def nested(y):
  z = keras.Input((8, 8, 12))
  inner = keras.Model(z, L.ReLU()(L.BatchNormalization()(conv(9, 'inside')(z))), name='nested')
  return inner(y)


def shared_layer(y):
  layer = conv(12, 'shared')
  return layer(L.ReLU()(layer(y)))


def split_op(y):
  a, b = tf.split(y, 2, axis=-1)
  return tf.concat([tf.nn.relu(a), b, a], axis=-1)


def ops(y):
  y = tf.nn.relu(y * 2.0 + 1.0) - tf.reduce_mean(y, axis=[1, 2], keepdims=True)
  y = y * np.linspace(0.5, 1.5, 12).astype('float32')
  y = tf.nn.bias_add(y, np.linspace(-1, 1, 12).astype('float32'))
  return tf.clip_by_value(1.0 - y, -3.0, 3.0)


def pad_channels(y):
  return L.Add()([tf.pad(y, [[0, 0], [0, 0], [0, 0], [2, 4]]), conv(18)(y)])


def transposed_ops(y):
  y = tf.transpose(y, [0, 3, 1, 2])
  return tf.transpose(tf.reshape(y, [-1, 12, 64]), [0, 2, 1])[:, :64, 2:11]


def mixer(y):
  y = L.Reshape((64, 12))(y)
  y = L.Permute((2, 1))(y)
  y = L.Dense(20, activation='gelu')(y)
  return L.Permute((2, 1))(y)


def channels_first(y):
  y = L.Permute((3, 1, 2))(y)
  y = L.BatchNormalization(axis=1)(y)
  y = L.ZeroPadding2D(1, data_format='channels_first')(y)
  y = L.UpSampling2D(2, data_format='channels_first')(y)
  return L.Flatten(data_format='channels_first')(L.Cropping2D(2, data_format='channels_first')(y))


def unequal_ranks(y):
  return L.Add()([y, L.Dense(12)(L.GlobalMaxPooling2D()(y))])


def spatial_attention(y):
  return L.Multiply()([y, L.Conv2D(1, 3, padding='same', activation='sigmoid')(y)])


def branch_merges(y):
  a, b = conv(6)(y), L.SeparableConv2D(6, 3, padding='same', depth_multiplier=2)(y)
  c = L.Maximum()([L.Average()([a, b]), L.Subtract()([a, b])])
  return L.Minimum()([c, L.Multiply()([a, b])])


MODELS = {
  'batchnorm_relu': lambda: image(L.BatchNormalization(), L.ReLU()),
  'batchnorm_plain': lambda: image(L.BatchNormalization(center=False, scale=False)),
  'stride_dilation': lambda: image(conv(7, strides=2), L.Conv2D(6, 3, dilation_rate=2, padding='same')),
  'transpose': lambda: image(L.Conv2DTranspose(7, 3, strides=2), L.Conv2DTranspose(6, 2)),
  'depthwise': lambda: image(L.DepthwiseConv2D(3, padding='same', use_bias=False)),
  'depthwise_multiplier': lambda: image(L.DepthwiseConv2D(3, depth_multiplier=3), L.ReLU()),
  'separable': lambda: image(L.SeparableConv2D(9, 3, depth_multiplier=2)),
  'grouped_many': lambda: image(L.Conv2D(18, 3, groups=6)),
  'grouped_few': lambda: image(L.Conv2D(9, 3, groups=3, padding='same')),
  'grouped_depthwise': lambda: image(L.Conv2D(24, 3, groups=12)),
  'groupnorm': lambda: image(L.GroupNormalization(4)),
  'instancenorm': lambda: image(L.GroupNormalization(-1)),
  'layernorm': lambda: image(L.LayerNormalization(), conv(7)),
  'layernorm_space': lambda: image(L.LayerNormalization(axis=[1, 2])),
  'prelu': lambda: image(L.PReLU()),
  'prelu_shared': lambda: image(L.PReLU(shared_axes=[1, 2])),
  'activations': lambda: image(
    L.LeakyReLU(0.1), L.ELU(), L.ThresholdedReLU(0.1), L.Activation('swish'), L.ReLU(6.0)
  ),
  'softmax': lambda: image(L.Softmax(), conv(7), L.Softmax(axis=[1, 2]), L.Activation('softmax')),
  'dropouts': lambda: image(
    L.Dropout(0.5), L.SpatialDropout2D(0.5), L.GaussianNoise(1.0), L.GaussianDropout(0.5),
    L.AlphaDropout(0.1), L.ActivityRegularization(0.1), L.Rescaling(0.5, 1.0),
  ),
  'pooling': lambda: image(
    L.ZeroPadding2D(2), L.MaxPooling2D(), L.UpSampling2D(2), L.AveragePooling2D(2, 1, 'same'),
    L.Cropping2D(1),
  ),
  'flatten': lambda: image(L.MaxPooling2D(), L.Flatten()),
  'reshape_flat': lambda: image(L.Reshape((8 * 8 * 12,))),
  'reshape_minus_one': lambda: image(L.Reshape((-1, 12)), L.Dense(6), L.Flatten()),
  'reshape_rows': lambda: image(L.Reshape((8, 96)), L.GlobalAveragePooling1D()),
  'permute': lambda: image(L.Permute((2, 1, 3))),
  'channels_first': lambda: image(channels_first),
  'global_keepdims': lambda: image(L.GlobalMaxPooling2D(keepdims=True)),
  'repeat': lambda: image(L.GlobalMaxPooling2D(), L.RepeatVector(3), L.Dense(5), L.Flatten()),
  'squeeze_excite': lambda: image(squeeze_excite),
  'squeeze_excite_dense': lambda: image(squeeze_excite_dense),
  'shuffle': lambda: image(shuffle),
  'residual': lambda: image(residual, residual_again),
  'concat_twice': lambda: image(twice, L.BatchNormalization()),
  'concat_space': lambda: image(lambda y: L.Concatenate(axis=1)([y, conv(12)(y)])),
  'merges': lambda: image(branch_merges),
  'spatial_attention': lambda: image(spatial_attention),
  'unequal_ranks': lambda: image(unequal_ranks),
  'nested': lambda: image(nested),
  'shared': lambda: image(shared_layer),
  'lambda': lambda: image(conv(7), L.Lambda(lambda t: t[..., ::-1]), conv(6)),
  'ops': lambda: image(ops),
  'split_op': lambda: image(split_op),
  'gather_op': lambda: image(lambda y: tf.gather(y, [3, 1, 1, 7], axis=-1)),
  'slice_op': lambda: image(lambda y: y[:, 1:, :, 2:-3]),
  'resize_op': lambda: image(lambda y: tf.image.resize(y, (4, 4))),
  'reduce_op': lambda: image(lambda y: tf.reduce_max(y, axis=[1, 2])),
  'squeeze_op': lambda: image(
    lambda y: tf.squeeze(tf.expand_dims(tf.reduce_mean(y, axis=[1, 2]), 1), 1)
  ),
  'pad_op': lambda: image(pad_channels),
  'transposed_ops': lambda: image(transposed_ops, L.Dense(5), L.Flatten()),
  'mixer': lambda: image(mixer, L.Dense(7), L.Flatten()),
  'conv1d': lambda: sequence(
    L.BatchNormalization(), L.ZeroPadding1D(1), L.MaxPooling1D(2), L.UpSampling1D(2),
    L.DepthwiseConv1D(3), L.SeparableConv1D(9, 3, padding='same'), L.Cropping1D(1),
    L.Conv1DTranspose(8, 3), L.SpatialDropout1D(0.1), L.AveragePooling1D(2),
  ),
  'conv1d_flatten': lambda: sequence(L.Conv1D(8, 3, groups=4), L.Flatten()),
  'conv3d': lambda: volume(
    L.BatchNormalization(), L.MaxPooling3D(2), L.UpSampling3D(2), L.ZeroPadding3D(1),
    L.Cropping3D(1), L.Conv3DTranspose(6, 2), L.AveragePooling3D(2),
  ),
  'conv3d_flatten': lambda: volume(L.AveragePooling3D(2), L.Flatten()),
}  # fmt: skip


def residual_again(y):
  b = L.DepthwiseConv2D(3, padding='same')(L.ReLU()(L.BatchNormalization()(y)))
  return L.Add()([y, L.Conv2D(12, 1)(b)])


# What must be possible: the first convolution's channels can go in all but these models.
STUCK = {'layernorm', 'softmax'}


@pytest.mark.parametrize('ratio', [pytest.param(0.3, marks=pytest.mark.slow), 0.6])
@pytest.mark.parametrize('name', MODELS)
def test_slicing_equals_masking(name, ratio):
  model = randomize(MODELS[name]())
  graph = ChannelGraph(model)
  group = graph.group('first')
  assert group.prunable == (name not in STUCK), str(graph)
  if name in STUCK:
    assert 'normalises over the channels' in group.reasons[0]
  small = check_slice(model, random_keep(graph, ratio, seed=int(ratio * 10)))
  assert small.count_params() < model.count_params()


@pytest.mark.parametrize(
  'name', ['batchnorm_relu', 'concat_twice', 'split_op', 'grouped_many', 'ops']
)
def test_slicing_again(name):
  model = randomize(MODELS[name]())
  once = check_slice(model, random_keep(ChannelGraph(model), 0.3, seed=5))
  check_slice(once, random_keep(ChannelGraph(once), 0.5, seed=6))


def test_channels_first_model():
  x = keras.Input((3, 8, 8))
  y = L.Conv2D(12, 1, data_format='channels_first', name='first')(x)
  y = L.ReLU()(L.BatchNormalization(axis=1)(y))
  z = L.Conv2D(12, 1, data_format='channels_first')(y)
  y = L.Concatenate(axis=1)([L.Add()([y, z]), y])
  y = L.PReLU(shared_axes=[2, 3])(y)
  model = keras.Model(x, L.Flatten(data_format='channels_first')(y))
  graph = ChannelGraph(model)
  assert 'model output' in graph.group('first').reasons
  head = L.Dense(3)(L.GlobalAveragePooling2D(data_format='channels_first')(y))
  graph = ChannelGraph(keras.Model(x, head))
  assert graph.group('first').prunable
  assert len(graph.group('first').layers('produces')) == 2
