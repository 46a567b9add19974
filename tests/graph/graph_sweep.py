"""Single operations and layer kinds, each in a small network; what slicing does with them.

Every entry is a function of a map [batch, 6, 6, 8] (or tokens [batch, 6, 8]) whose channels come from
one layer. The outcome is 'cut', 'whole' with the reason, or 'refused' with the message.
"""

import numpy as np
import tensorflow as tf
import tf_keras as keras
from graph_helpers import TOLERANCE, difference, outputs, random_inputs, randomize

from secateurs.utils.errors import UserError
from secateurs.utils.graph import ChannelGraph, apply_plan, masked, plain_model, plan_slice

L = keras.layers
RNG = np.random.default_rng(0)
EIGHT = RNG.uniform(0.5, 1.5, 8).astype(np.float32)
MATRIX = RNG.normal(size=(8, 5)).astype(np.float32)


def _positive(x):
  return tf.nn.softplus(x) + 0.1


MAPS = {
  # Element by element.
  **{f'tf.math.{name}': (lambda x, name=name: getattr(tf.math, name)(x)) for name in (
    'abs', 'asinh', 'atan', 'ceil', 'cos', 'cosh', 'erf', 'erfc', 'exp', 'expm1', 'floor',
    'log_sigmoid', 'negative', 'reciprocal_no_nan', 'rint', 'round', 'sigmoid', 'sign', 'sin',
    'sinh', 'softplus',
    'softsign', 'square', 'tan', 'tanh', 'bessel_i0e', 'digamma', 'lgamma')},
  **{f'tf.math.{name}(positive)': (lambda x, name=name: getattr(tf.math, name)(_positive(x)))
     for name in ('log', 'log1p', 'reciprocal', 'rsqrt', 'sqrt')},
  'tf.math.acosh': lambda x: tf.math.acosh(_positive(x) + 1.0),
  'tf.math.asin of a tanh': lambda x: tf.math.asin(0.9 * tf.tanh(x)),
  'tf.math.atanh of a tanh': lambda x: tf.math.atanh(0.9 * tf.tanh(x)),
  'tf.math.erfinv of a tanh': lambda x: tf.math.erfinv(0.9 * tf.tanh(x)),
  **{f'tf.math.{name}(x, x * 2)': (lambda x, name=name: getattr(tf.math, name)(x, x * 2)) for name in (
    'add', 'atan2', 'divide_no_nan', 'maximum', 'minimum', 'multiply', 'multiply_no_nan',
    'squared_difference', 'subtract', 'xdivy')},
  'tf.math.xlogy': lambda x: tf.math.xlogy(x, _positive(x)),
  'tf.math.pow of two tensors': lambda x: tf.math.pow(_positive(x), x),
  **{f'tf.math.{name} as a gate': (
      lambda x, name=name: x * tf.cast(getattr(tf.math, name)(x, 0.1), tf.float32))
     for name in ('greater', 'greater_equal', 'less', 'less_equal', 'equal', 'not_equal')},
  **{f'tf.nn.{name}': (lambda x, name=name: getattr(tf.nn, name)(x)) for name in (
    'elu', 'gelu', 'leaky_relu', 'relu', 'relu6', 'selu', 'silu', 'softplus', 'softsign', 'swish',
    'tanh', 'sigmoid', 'crelu')},
  **{f'keras.activations.{name}': (lambda x, name=name: getattr(keras.activations, name)(x))
     for name in ('relu', 'gelu', 'hard_sigmoid', 'elu', 'mish', 'softsign', 'exponential')},
  'tf.math.is_finite as a gate': lambda x: x * tf.cast(tf.math.is_finite(x), tf.float32),
  'tf.math.logical_and as a gate':
    lambda x: x * tf.cast(tf.math.logical_and(x > 0, x < 1), tf.float32),
  'x + 1': lambda x: x + 1.0,
  '2 - x': lambda x: 2.0 - x,
  'x ** 2': lambda x: x**2,
  'x / 3': lambda x: x / 3.0,
  'x // 0.5': lambda x: x // 0.5,
  'x % 0.5': lambda x: x % 0.5,
  'x * constant of each channel': lambda x: x * EIGHT,
  'constant of each channel - x': lambda x: EIGHT - x,
  'tf.nn.bias_add': lambda x: tf.nn.bias_add(x, EIGHT),
  'tf.add_n': lambda x: tf.add_n([x, x * 2.0]),
  'tf.cast': lambda x: tf.cast(tf.cast(x, tf.float64), tf.float32),
  'tf.identity': tf.identity,
  'tf.stop_gradient': tf.stop_gradient,
  'tf.clip_by_value': lambda x: tf.clip_by_value(x, -0.5, 0.5),
  'tf.clip_by_value, bounds of each channel': lambda x: tf.clip_by_value(x, -EIGHT, EIGHT),
  'tf.where': lambda x: tf.where(x > 0.0, x, 0.1 * x),
  'tf.where, constant of each channel': lambda x: tf.where(x > 0.0, x, EIGHT),
  'tf.zeros_like': lambda x: x + tf.zeros_like(x),
  'tf.nn.dropout (rate 0)': lambda x: tf.nn.dropout(x, 0.0),
  'tf.nn.batch_normalization': lambda x: tf.nn.batch_normalization(
    x, EIGHT, EIGHT, EIGHT, 2 * EIGHT, 1e-3),
  'tf.debugging.check_numerics': lambda x: tf.debugging.check_numerics(x, 'bad'),
  # Moves.
  'x[..., 2:6]': lambda x: x[..., 2:6],
  'x[..., ::2]': lambda x: x[..., ::2],
  'x[..., ::-1]': lambda x: x[..., ::-1],
  'x[..., -3:]': lambda x: x[..., -3:],
  'x[:, ::2, 1:]': lambda x: x[:, ::2, 1:],
  'x[:, 0]': lambda x: x[:, 0],
  'x[:, :, tf.newaxis]': lambda x: tf.squeeze(x[:, :, tf.newaxis], 2),
  'x[..., tf.newaxis]': lambda x: tf.squeeze(x[..., tf.newaxis], -1),
  'x[..., 3]': lambda x: tf.expand_dims(x[..., 3], -1),
  'tf.slice': lambda x: tf.slice(x, [0, 1, 0, 2], [-1, 4, -1, 5]),
  'tf.strided_slice': lambda x: tf.strided_slice(x, [0, 1, 0, 2], [9, 9, 9, 7], [1, 2, 1, 1],
                                                 begin_mask=1, end_mask=7),
  'tf.gather along channels': lambda x: tf.gather(x, [7, 1, 1, 4], axis=-1),
  'tf.gather along rows': lambda x: tf.gather(x, [3, 1], axis=1),
  'tf.split': lambda x: tf.concat(tf.split(x, 2, axis=-1)[::-1], -1),
  'tf.split into sizes': lambda x: L.Concatenate()(tf.split(x, [3, 5], axis=-1)[::-1]),
  'tf.split along rows': lambda x: tf.concat(tf.split(x, 2, axis=1), -1),
  'tf.concat with itself': lambda x: tf.concat([x, x], -1),
  'tf.concat along rows': lambda x: tf.concat([x, x], 1),
  'tf.stack, new last axis': lambda x: tf.reshape(tf.stack([x, -x], -1), [-1, 6, 6, 16]),
  'tf.stack, new axis 1': lambda x: tf.reduce_sum(tf.stack([x, -2.0 * x], 1), 1),
  'tf.unstack along rows': lambda x: tf.add_n(tf.unstack(x, axis=1)),
  'tf.unstack along channels': lambda x: tf.stack(tf.unstack(x, axis=-1)[:2], -1),
  'tf.tile along channels': lambda x: tf.tile(x, [1, 1, 1, 2]),
  'tf.tile along rows': lambda x: tf.tile(x, [1, 2, 1, 1]),
  'tf.repeat along channels': lambda x: tf.repeat(x, 2, axis=-1),
  'tf.repeat, a number for each channel': lambda x: tf.repeat(x, [1, 2, 0, 1, 1, 3, 1, 1], axis=3),
  'tf.repeat along rows': lambda x: tf.repeat(x, 2, axis=1),
  'tf.roll along channels': lambda x: tf.roll(x, 3, axis=-1),
  'tf.roll along rows and channels': lambda x: tf.roll(x, [1, -2], axis=[1, 3]),
  'tf.reverse along channels': lambda x: tf.reverse(x, [-1]),
  'tf.reverse along rows': lambda x: tf.reverse(x, [1]),
  'tf.transpose': lambda x: tf.transpose(x, [0, 2, 1, 3]),
  'tf.transpose to channels first and back':
    lambda x: tf.transpose(tf.nn.relu(tf.transpose(x, [0, 3, 1, 2])), [0, 2, 3, 1]),
  'tf.linalg.matrix_transpose, twice':
    lambda x: tf.linalg.matrix_transpose(tf.linalg.matrix_transpose(x) + 1.0),
  'tf.expand_dims, tf.squeeze': lambda x: tf.squeeze(tf.expand_dims(x, 2), axis=2),
  'tf.reshape to tokens': lambda x: tf.reshape(x, [-1, 36, 8]),
  'tf.reshape with the batch size': lambda x: tf.reshape(x, [tf.shape(x)[0], 36, 8]),
  'tf.reshape, flat': lambda x: tf.reshape(x, [-1, 288]),
  'tf.reshape that joins rows and the batch': lambda x: tf.reshape(x, [-1, 6, 8]),
  'tf.broadcast_to': lambda x: tf.broadcast_to(x[:, :1], [tf.shape(x)[0], 6, 6, 8]),
  'tf.ensure_shape': lambda x: tf.ensure_shape(x, [None, 6, 6, 8]),
  'tf.nn.depth_to_space': lambda x: tf.nn.depth_to_space(x, 2),
  'tf.nn.space_to_depth': lambda x: tf.nn.space_to_depth(x, 2),
  'tf.pad along channels': lambda x: tf.pad(x, [[0, 0], [0, 0], [0, 0], [1, 3]]),
  'tf.pad around': lambda x: tf.pad(x, [[0, 0], [1, 1], [2, 0], [0, 0]]),
  'tf.pad, reflecting rows': lambda x: tf.pad(x, [[0, 0], [1, 1], [0, 0], [0, 0]], 'REFLECT'),
  'tf.pad, reflecting channels': lambda x: tf.pad(x, [[0, 0], [0, 0], [0, 0], [1, 1]], 'REFLECT'),
  'tf.image.resize': lambda x: tf.image.resize(x, (9, 9)),
  'tf.image.flip_left_right': tf.image.flip_left_right,
  'tf.image.extract_patches': lambda x: tf.image.extract_patches(
    x, [1, 2, 2, 1], [1, 2, 2, 1], [1, 1, 1, 1], 'VALID'),
  'channel shuffle': lambda x: tf.reshape(
    tf.transpose(tf.reshape(x, [-1, 6, 6, 2, 4]), [0, 1, 2, 4, 3]), [-1, 6, 6, 8]),
  'window partition': lambda x: tf.reshape(
    tf.transpose(tf.reshape(x, [-1, 2, 3, 2, 3, 8]), [0, 1, 3, 2, 4, 5]), [-1, 4, 9, 8]),
  # Pooling and sums.
  **{f'tf.nn.{name}': (lambda x, name=name: getattr(tf.nn, name)(x, 2, 2, 'SAME'))
     for name in ('max_pool2d', 'avg_pool2d', 'max_pool', 'avg_pool')},
  **{f'tf.reduce_{name} over the map': (
      lambda x, name=name: getattr(tf, f'reduce_{name}')(x, axis=[1, 2]))
     for name in ('mean', 'sum', 'max', 'min', 'prod', 'logsumexp')},
  'tf.math.reduce_variance over the map': lambda x: tf.math.reduce_variance(x, [1, 2]),
  'tf.math.reduce_std over the map': lambda x: tf.math.reduce_std(x, [1, 2]),
  'tf.math.reduce_euclidean_norm over the map': lambda x: tf.math.reduce_euclidean_norm(x, [1, 2]),
  'tf.nn.moments over the map': lambda x: tf.concat(tf.nn.moments(x, [1, 2]), -1),
  'tf.norm over the map': lambda x: tf.norm(x, axis=[1, 2]),
  'tf.reduce_sum over channels': lambda x: tf.reduce_sum(x, -1, keepdims=True),
  'tf.reduce_mean over channels': lambda x: tf.reduce_mean(x, -1, keepdims=True),
  'tf.reduce_max over channels': lambda x: x * tf.reduce_max(x, -1, keepdims=True),
  'tf.norm over channels': lambda x: tf.norm(x + 0.1, axis=-1, keepdims=True),
  'tf.math.l2_normalize along rows': lambda x: tf.math.l2_normalize(x, 1),
  'tf.math.l2_normalize along channels': lambda x: tf.math.l2_normalize(x, -1),
  'tf.cumsum along rows': lambda x: tf.cumsum(x, 1),
  'tf.cumsum along channels': lambda x: tf.cumsum(x, -1),
  'tf.math.cumprod along rows': lambda x: tf.math.cumprod(x, 1),
  'tf.nn.softmax along rows': lambda x: tf.nn.softmax(x, 1),
  'tf.nn.softmax along channels': lambda x: tf.nn.softmax(x),
  'tf.nn.log_softmax along rows': lambda x: tf.nn.log_softmax(x, 1),
  'tf.sort along rows': lambda x: tf.sort(x, axis=1),
  'tf.sort along channels': lambda x: tf.sort(x, axis=-1),
  'tf.argsort along channels': lambda x: tf.cast(tf.argsort(x, axis=-1), tf.float32),
  'tf.argmax along channels': lambda x: tf.cast(tf.expand_dims(tf.argmax(x, -1), -1), tf.float32),
  'tf.math.top_k': lambda x: tf.math.top_k(x, 3)[0],
  'tf.nn.local_response_normalization': lambda x: tf.nn.local_response_normalization(x),
  # Products.
  'tf.einsum, factor of each channel': lambda x: tf.einsum('bhwc,c->bhwc', x, EIGHT),
  'tf.einsum, constant matrix': lambda x: tf.einsum('bhwc,cd->bhwd', x, MATRIX),
  'tf.einsum, map times map': lambda x: tf.einsum('bhwc,bhwc->bhwc', x, tf.tanh(x)),
  'tf.einsum, Gram matrix': lambda x: tf.expand_dims(tf.einsum('bhwc,bhwd->bcd', x, x), -1),
  'tf.einsum with an ellipsis': lambda x: tf.einsum('...c,...c->...', x, x)[..., None],
  'tf.einsum, scores of attention':
    lambda x: tf.einsum('bhwc,bvwc->bhvw', x, tf.tanh(x)),
  'tf.einsum, scores times values': lambda x: tf.einsum(
    'acbe,aecd->abcd', tf.nn.softmax(tf.einsum('aecd,abcd->acbe', x, x)), x),
  'tf.einsum over rows': lambda x: tf.einsum('bhwc->bwc', x),
  'tf.matmul, scores times values': lambda x: tf.matmul(
    tf.nn.softmax(tf.matmul(x, x, transpose_b=True)), x),
  'tf.matmul with a constant': lambda x: tf.matmul(x, MATRIX),
  'tf.matmul of columns': lambda x: tf.matmul(x, x, transpose_a=True),
  'tf.tensordot with a constant': lambda x: tf.tensordot(x, MATRIX, 1),
  'tf.nn.conv2d with a constant kernel': lambda x: tf.nn.conv2d(
    x, np.ones((1, 1, 8, 4), np.float32), 1, 'SAME'),
  'x divided by the number of channels': lambda x: x / tf.cast(tf.shape(x)[-1], tf.float32),
  'x divided by the number of rows': lambda x: x / tf.cast(tf.shape(x)[1], tf.float32),
}  # fmt: skip


def tokens(*layers):
  """A network over 5 steps of 6 numbers; the layer named 'first' is judged."""
  given = keras.Input((5, 6))
  x = L.Dense(8, name='first')(given) if layers[0].name != 'first' else given
  for layer in layers:
    x = layer(x)
  x = L.Dense(4, name='last')(x)
  return keras.Model(given, L.Dense(3, name='head')(L.Flatten()(x)))


def image(*layers, channels=8):
  given = keras.Input((6, 6, 3))
  x = L.Conv2D(channels, 3, padding='same', name='first')(given)
  for layer in layers:
    x = layer(x)
  if len(x.shape) == 4:
    x = L.GlobalAveragePooling2D()(L.Conv2D(4, 1, name='last')(x))
  return keras.Model(given, L.Dense(3, name='head')(L.Flatten()(x)))


def volume(*layers):
  given = keras.Input((4, 4, 4, 2))
  x = L.Conv3D(6, 3, padding='same', name='first')(given)
  for layer in layers:
    x = layer(x)
  return keras.Model(given, L.Dense(3, name='head')(L.Flatten()(x)))


def merging(layer, other=8):
  given = keras.Input((6, 6, 3))
  x = L.Conv2D(8, 3, padding='same', name='first')(given)
  x = layer([x, L.Conv2D(other, 1, name='second')(given)])
  return keras.Model(given, L.Dense(3, name='head')(L.GlobalAveragePooling2D()(x)))


def states():
  given, start = keras.Input((5, 6)), keras.Input((4,))
  h, c = L.Dense(8, name='h')(start), L.Dense(8, name='c')(start)
  x, last, _ = L.LSTM(8, return_sequences=True, return_state=True, name='first')(
    given, initial_state=[h, c]
  )
  x = L.Concatenate()([L.GlobalAveragePooling1D()(x), last])
  return keras.Model([given, start], L.Dense(3, name='head')(x))


def embedded(**options):
  given = keras.Input((5,), dtype='int32')
  x = L.LSTM(6, name='lstm')(L.Embedding(11, 8, name='first', **options)(given))
  return keras.Model(given, L.Dense(3, name='head')(x))


def projected():
  """Keras' own attention, by hand: to heads of some width and back."""
  given = keras.Input((5, 6))
  x = L.Dense(7, name='stem')(given)
  q, k = (L.EinsumDense('abc,cde->abde', (None, 2, 8), bias_axes='de', name=n)(x) for n in 'qk')
  v = L.EinsumDense('abc,cde->abde', (None, 2, 8), bias_axes='de', name='first')(x)
  scores = tf.nn.softmax(tf.einsum('aecd,abcd->acbe', k, q * 0.35))
  x = tf.einsum('acbe,aecd->abcd', scores, v)
  x = L.EinsumDense('abcd,cde->abe', (None, 7), bias_axes='e', name='out')(x)
  return keras.Model(given, L.Dense(3, name='head')(L.Flatten()(x)))


LAYERS = {
  **{f'{name}': (lambda name=name: image(getattr(L, name)(4, 3, padding='same')))
     for name in ('Conv2D', 'Conv2DTranspose', 'SeparableConv2D')},
  **{f'{name}': (lambda name=name: tokens(getattr(L, name)(4, 3, padding='same')))
     for name in ('Conv1D', 'Conv1DTranspose', 'SeparableConv1D')},
  **{f'{name}': (lambda name=name: volume(getattr(L, name)(4, 2, padding='same')))
     for name in ('Conv3D', 'Conv3DTranspose')},
  'Conv2D, groups=2': lambda: image(L.Conv2D(6, 3, groups=2)),
  'Conv2D, groups=8': lambda: image(L.Conv2D(8, 3, groups=8)),
  'DepthwiseConv1D': lambda: tokens(L.DepthwiseConv1D(3)),
  'DepthwiseConv2D': lambda: image(L.DepthwiseConv2D(3, depth_multiplier=2)),
  'LocallyConnected1D': lambda: tokens(L.LocallyConnected1D(4, 3)),
  'LocallyConnected2D': lambda: image(L.LocallyConnected2D(4, 3)),
  'Dense': lambda: tokens(L.Dense(7)),
  'Dense along the steps': lambda: tokens(L.Permute((2, 1)), L.Dense(4), L.Permute((2, 1))),
  'EinsumDense': lambda: tokens(L.EinsumDense('abc,cd->abd', (None, 7), bias_axes='d')),
  'EinsumDense, factor of each channel': lambda: tokens(L.EinsumDense('...c,c->...c', 8)),
  'EinsumDense along the steps': lambda: tokens(
    L.EinsumDense('abc,bd->adc', (4, 8), bias_axes='d')),
  'EinsumDense to heads and back': projected,
  'Embedding': embedded,
  'Embedding with a mask': lambda: embedded(mask_zero=True),
  **{f'{name}, units': (lambda name=name: tokens(getattr(L, name)(8, name='first')))
     for name in ('LSTM', 'GRU', 'SimpleRNN')},
  **{f'{name}, inputs': (lambda name=name: tokens(getattr(L, name)(5, return_sequences=True)))
     for name in ('LSTM', 'GRU', 'SimpleRNN')},
  'GRU, reset before': lambda: tokens(L.GRU(8, reset_after=False, name='first')),
  'LSTM with states': states,
  'Bidirectional, concat': lambda: tokens(
    L.Bidirectional(L.LSTM(8, return_sequences=True), name='first')),
  'Bidirectional, sum': lambda: tokens(
    L.Bidirectional(L.GRU(8, return_sequences=True), merge_mode='sum', name='first')),
  'Bidirectional, inputs': lambda: tokens(L.Bidirectional(L.LSTM(5))),
  'ConvLSTM1D': lambda: tokens(L.Reshape((5, 2, 4)), L.ConvLSTM1D(4, 2)),
  'RNN of cells': lambda: tokens(L.RNN([L.LSTMCell(4), L.LSTMCell(4)])),
  'TimeDistributed(Dense)': lambda: tokens(L.TimeDistributed(L.Dense(8), name='first')),
  'TimeDistributed(Dense), inputs': lambda: tokens(L.TimeDistributed(L.Dense(5))),
  'TimeDistributed(BatchNormalization)': lambda: tokens(L.TimeDistributed(L.BatchNormalization())),
  'TimeDistributed(Lambda)': lambda: tokens(L.TimeDistributed(L.Lambda(lambda t: t * 2.0))),
  'Masking': lambda: tokens(L.Masking()),
  'MultiHeadAttention': lambda: tokens(_self_attention(L.MultiHeadAttention(2, 4))),
  'Attention': lambda: tokens(_self_attention(L.Attention(), 3)),
  'AdditiveAttention': lambda: tokens(_self_attention(L.AdditiveAttention(), 3)),
  'BatchNormalization': lambda: image(L.BatchNormalization()),
  'LayerNormalization': lambda: image(L.LayerNormalization()),
  'LayerNormalization along the map': lambda: image(L.LayerNormalization(axis=[1, 2])),
  'GroupNormalization': lambda: image(L.GroupNormalization(4)),
  'UnitNormalization': lambda: image(L.UnitNormalization()),
  'Normalization': lambda: image(_adapted()),
  **{name: (lambda name=name: image(getattr(L, name)())) for name in (
    'ReLU', 'LeakyReLU', 'ELU', 'ThresholdedReLU', 'PReLU', 'Flatten', 'MaxPooling2D',
    'AveragePooling2D', 'UpSampling2D', 'GlobalAveragePooling2D', 'GlobalMaxPooling2D',
    'ZeroPadding2D', 'Identity', 'Softmax')},
  **{name: (lambda name=name: tokens(getattr(L, name)())) for name in (
    'GlobalAveragePooling1D', 'GlobalMaxPooling1D', 'MaxPooling1D', 'AveragePooling1D',
    'UpSampling1D', 'ZeroPadding1D')},
  **{name: (lambda name=name: volume(getattr(L, name)())) for name in (
    'MaxPooling3D', 'AveragePooling3D', 'UpSampling3D', 'GlobalAveragePooling3D', 'ZeroPadding3D')},
  **{name: (lambda name=name: image(getattr(L, name)(0.1))) for name in (
    'Dropout', 'SpatialDropout2D', 'GaussianDropout', 'GaussianNoise', 'AlphaDropout')},
  'Activation': lambda: image(L.Activation('swish')),
  'Activation, softmax': lambda: image(L.Activation('softmax')),
  'ActivityRegularization': lambda: image(L.ActivityRegularization(1e-3)),
  'Rescaling': lambda: image(L.Rescaling(0.5, 0.1)),
  'Rescaling of each channel': lambda: image(L.Rescaling(EIGHT.tolist())),
  'Cropping2D': lambda: image(L.Cropping2D(1)),
  'CenterCrop': lambda: image(L.CenterCrop(4, 4)),
  'Resizing': lambda: image(L.Resizing(4, 4)),
  'RandomFlip': lambda: image(L.RandomFlip()),
  'Reshape': lambda: image(L.Reshape((36, 8))),
  'Permute': lambda: image(L.Permute((2, 1, 3))),
  'RepeatVector': lambda: tokens(L.GlobalMaxPooling1D(), L.RepeatVector(3)),
  'Lambda': lambda: image(L.Lambda(lambda t: t * 2.0)),
  **{name: (lambda name=name: merging(getattr(L, name)())) for name in (
    'Add', 'Subtract', 'Multiply', 'Average', 'Maximum', 'Minimum')},
  'Concatenate': lambda: merging(L.Concatenate(), 5),
  'Concatenate along rows': lambda: merging(L.Concatenate(axis=1)),
  'Dot along channels': lambda: tokens(_dot()),
}  # fmt: skip


class _self_attention:
  """A layer called on one tensor as query, value and key."""

  name = 'attention'

  def __init__(self, layer, times=2):
    self.layer, self.times = layer, times

  def __call__(self, x):
    if self.times == 2:
      return self.layer(x, x)
    return self.layer([x] * self.times)


class _dot:
  name = 'dot'

  def __call__(self, x):
    return L.Dot(axes=2)([x, L.Dense(8, name='other')(x)])


def _adapted():
  layer = L.Normalization()
  layer.adapt(RNG.normal(1.0, 2.0, (16, 6, 6, 8)).astype(np.float32))
  return layer


def network(function):
  image = keras.Input((6, 6, 3))
  y = function(L.Conv2D(8, 3, padding='same', name='first')(image))
  if len(y.shape) == 4:
    y = L.Conv2D(4, 1, name='last')(y)
    y = L.GlobalAveragePooling2D()(y)
  return keras.Model(image, L.Dense(3, name='head')(L.Flatten()(y)))


def reloaded(model):
  again = keras.models.model_from_json(plain_model(model).to_json())
  again.set_weights(model.get_weights())
  return again


def outcome(model, layer='first', **options):
  """('cut' | 'whole' | 'refused', the reason); raises where the sliced model is wrong."""
  randomize(model)
  try:
    graph = ChannelGraph(model, **options)
    group = graph.group(layer)
    if not group.prunable:
      return 'whole', '; '.join(group.reasons)
    keep = np.ones(group.size, bool)
    keep[np.flatnonzero(group.free)[1 : 1 + max(1, group.size // 2)]] = False
    plan = plan_slice(graph, {group.index: keep})
    small = apply_plan(plan)
  except UserError as error:
    return 'refused', str(error)
  images = random_inputs(model)
  with masked(plan):
    expected = outputs(model, images)
  if not np.isfinite(np.concatenate([np.ravel(one) for one in expected])).all():
    raise AssertionError('the probe is not finite')
  assert difference(expected, outputs(small, images)) <= TOLERANCE
  assert small.count_params() < model.count_params()
  again = reloaded(small)
  assert difference(outputs(small, images), outputs(again, images)) <= 1e-6
  return 'cut', ''
