"""Small versions of published blocks, and random networks, for the graph tests."""

import numpy as np
import tensorflow as tf
import tf_keras as keras

L = keras.layers


def unit(x, filters, kernel, name=None):
  """Convolution (or depthwise, without filters), BatchNorm, ReLU."""
  if filters is None:
    x = L.DepthwiseConv2D(kernel, padding='same')(x)
  else:
    x = L.Conv2D(filters, kernel, padding='same', name=name)(x)
  return L.ReLU()(L.BatchNormalization()(x))


def channel_shuffle(x, groups=2):
  height, width, channels = x.shape[1:]
  x = tf.reshape(x, [-1, height, width, groups, channels // groups])
  return tf.reshape(tf.transpose(x, [0, 1, 2, 4, 3]), [-1, height, width, channels])


def shufflenet_v2(side=8, width=16, nb_units=2):
  """Two halves, of which one passes through three convolutions, shuffled after every unit."""
  image = keras.Input((side, side, 3))
  x = L.Concatenate()([unit(image, width, 3, 'left'), unit(image, width, 3, 'right')])
  for number in range(nb_units):
    x = channel_shuffle(x)
    left, right = tf.split(x, 2, axis=-1)
    right = unit(unit(unit(right, width, 1, f'u{number}a'), None, 3), width, 1, f'u{number}b')
    x = L.Concatenate()([left, right])
  return keras.Model(image, L.Dense(4, name='head')(L.GlobalAveragePooling2D()(x)))


def shuffle_of_four(side=8, width=16, nb_units=1):
  """Four branches, of which three pass through a convolution, shuffled after every unit."""
  image = keras.Input((side, side, 3))
  x = L.Concatenate()([unit(image, width, 3, f'branch{number}') for number in range(4)])
  for number in range(nb_units):
    first, *parts = tf.split(channel_shuffle(x, groups=4), 4, axis=-1)
    parts = [unit(part, width, 3, f'u{number}{name}') for name, part in zip('abc', parts)]
    x = L.Concatenate()([first, *parts])
  return keras.Model(image, L.Dense(4, name='head')(L.GlobalAveragePooling2D()(x)))


def res2net(side=8, width=16, scale=4):
  """A bottleneck whose middle is a ladder of narrow convolutions over a split."""
  image = keras.Input((side, side, 3))
  x = unit(image, width, 3, 'stem')
  parts = tf.split(unit(x, width, 1, 'reduce'), scale, axis=-1)
  found = [parts[0]]
  for number, part in enumerate(parts[1:]):
    given = part if number == 0 else L.Add()([part, found[-1]])
    found.append(unit(given, width // scale, 3, f'ladder{number}'))
  y = L.Conv2D(width, 1, name='expand')(L.Concatenate()(found))
  x = L.ReLU()(L.Add()([x, L.BatchNormalization()(y)]))
  return keras.Model(image, L.Dense(4, name='head')(L.GlobalAveragePooling2D()(x)))


def half_added(side=6):
  """A convolution split in two, one half added to another convolution's output."""
  image = keras.Input((side, side, 3))
  left, right = tf.split(L.Conv2D(32, 3, padding='same', name='both')(image), 2, axis=-1)
  y = L.Conv2D(16, 3, padding='same', name='reader')(left)
  z = L.Add()([right, L.Conv2D(16, 3, padding='same', name='other')(image)])
  x = L.Concatenate()([y, z])
  return keras.Model(image, L.Dense(4, name='head')(L.GlobalAveragePooling2D()(x)))


def random_network(seed, side=4, nb_steps=6):
  """A network of splits, slices, gathers, shuffles, additions and concatenations at random."""
  rng = np.random.default_rng(seed)
  image = keras.Input((side, side, 3))
  pool = [L.Conv2D(int(rng.integers(2, 7)) * 2, 3, padding='same')(image) for _ in range(2)]
  for _ in range(nb_steps):
    x = pool[-int(rng.integers(1, min(4, len(pool)) + 1))]
    pool.extend(_random_step(rng, x, pool))
    pool = [one for one in pool if one.shape[-1] <= 32]
  x = pool[-1]
  if rng.random() < 0.3:
    x = L.Concatenate()([x, pool[-2]])
  x = L.Flatten()(x) if rng.random() < 0.3 else L.GlobalAveragePooling2D()(x)
  return keras.Model(image, L.Dense(3)(x))


def _random_step(rng, x, pool):
  channels = x.shape[-1]
  kind = rng.choice(
    ['conv', 'conv', 'norm', 'depthwise', 'relu', 'split', 'slice', 'gather', 'shuffle',
     'add', 'add', 'concat', 'multiply', 'excite', 'pad', 'roll', 'tile', 'stack', 'where']
  )  # fmt: skip
  if kind == 'conv':
    size = int(rng.choice([1, 3]))
    return [L.Conv2D(int(rng.integers(1, 9)) * 2, size, padding='same')(x)]
  if kind == 'norm':
    return [L.ReLU()(L.BatchNormalization()(x))]
  if kind == 'depthwise':
    return [L.DepthwiseConv2D(3, padding='same')(x)]
  if kind == 'split' and channels % 2 == 0:
    return tf.split(x, 2, axis=-1)
  if kind == 'slice' and channels > 3:
    first = int(rng.integers(0, channels // 2))
    return [x[..., first : first + channels // 2]]
  if kind == 'gather':
    return [tf.gather(x, rng.permutation(channels).tolist(), axis=-1)]
  if kind == 'shuffle' and channels % 2 == 0:
    return [channel_shuffle(x)]
  if kind in ('add', 'multiply', 'where', 'stack'):
    other = pool[int(rng.integers(len(pool)))]
    if other.shape[-1] != channels:
      other = L.Conv2D(channels, 1)(other)
    if kind == 'where':
      return [tf.where(x > 0.1, x, other)]
    if kind == 'stack':
      both = tf.stack([x, other], axis=-1)
      return [tf.reshape(both, [-1, *x.shape[1:3], 2 * channels])]
    return [(L.Add() if kind == 'add' else L.Multiply())([x, other])]
  if kind == 'concat':
    return [L.Concatenate()([x, pool[int(rng.integers(len(pool)))]])]
  if kind == 'excite':
    gate = L.Dense(channels, activation='sigmoid')(L.GlobalAveragePooling2D(keepdims=True)(x))
    return [L.Multiply()([x, gate])]
  if kind == 'pad':
    return [tf.pad(x, [[0, 0], [0, 0], [0, 0], [0, 2]])]
  if kind == 'roll':
    return [tf.roll(x, int(rng.integers(1, 4)), axis=-1)]
  if kind == 'tile':
    return [tf.tile(x, [1, 1, 1, 2])]
  return [tf.nn.relu(x)]


# Networks of the kinds that users have, each small: a function without arguments.


def _attention(x, heads, width):
  """Attention by hand over the last two axes [.., tokens, channels]."""
  tokens = x.shape[-2]
  lead = list(x.shape[1:-2])
  axes = len(lead)
  q, k, v = (L.Dense(heads * width)(x) for _ in range(3))
  split = [tf.reshape(one, [-1, *lead, tokens, heads, width]) for one in (q, k, v)]
  order = [0, *range(1, axes + 1), axes + 2, axes + 1, axes + 3]
  q, k, v = (tf.transpose(one, order) for one in split)
  scores = tf.nn.softmax(tf.matmul(q, k, transpose_b=True) / width**0.5)
  y = tf.transpose(tf.matmul(scores, v), order)
  return L.Dense(x.shape[-1])(tf.reshape(y, [-1, *lead, tokens, heads * width]))


def _mlp(x, times=4):
  width = x.shape[-1]
  return L.Dense(width)(L.Activation('gelu')(L.Dense(times * width)(x)))


def _transformer_block(x, heads=2, width=8):
  x = x + _attention(L.LayerNormalization()(x), heads, width)
  return x + _mlp(L.LayerNormalization()(x))


def vit():
  image = keras.Input((16, 16, 3))
  x = tf.reshape(L.Conv2D(16, 4, 4)(image), [-1, 16, 16])
  for _ in range(2):
    x = _transformer_block(x)
  return keras.Model(image, L.Dense(4)(L.GlobalAveragePooling1D()(L.LayerNormalization()(x))))


def vit_of_einsums():
  """The same with the projections and products of Keras' own attention."""
  image = keras.Input((16, 16, 3))
  x = tf.reshape(L.Conv2D(16, 4, 4)(image), [-1, 16, 16])
  y = L.LayerNormalization()(x)
  q, k, v = (L.EinsumDense('abc,cde->abde', (None, 2, 8), bias_axes='de')(y) for _ in range(3))
  scores = tf.nn.softmax(tf.einsum('aecd,abcd->acbe', k, q * 8**-0.5))
  y = tf.einsum('acbe,aecd->abcd', scores, v)
  x = x + L.EinsumDense('abcd,cde->abe', (None, 16), bias_axes='e')(y)
  x = x + _mlp(L.LayerNormalization()(x))
  return keras.Model(image, L.Dense(4)(L.GlobalAveragePooling1D()(x)))


def swin():
  """Windows, shifted by a roll, and merging of patches."""
  image = keras.Input((16, 16, 3))
  x = L.Conv2D(8, 2, 2)(image)
  for shift in (0, 2):
    y = L.LayerNormalization()(x)
    y = tf.roll(y, [-shift, -shift], [1, 2]) if shift else y
    y = tf.reshape(y, [-1, 2, 4, 2, 4, 8])
    y = tf.reshape(tf.transpose(y, [0, 1, 3, 2, 4, 5]), [-1, 4, 16, 8])
    y = tf.reshape(_attention(y, 2, 8), [-1, 2, 2, 4, 4, 8])
    y = tf.reshape(tf.transpose(y, [0, 1, 3, 2, 4, 5]), [-1, 8, 8, 8])
    x = x + (tf.roll(y, [shift, shift], [1, 2]) if shift else y)
    x = x + _mlp(L.LayerNormalization()(x))
  parts = [x[:, i::2, j::2] for i in (0, 1) for j in (0, 1)]
  x = L.Dense(16)(L.LayerNormalization()(tf.concat(parts, -1)))
  return keras.Model(image, L.Dense(4)(L.GlobalAveragePooling2D()(x)))


def convnext():
  image = keras.Input((16, 16, 3))
  x = L.Conv2D(12, 4, 4)(image)
  for _ in range(2):
    y = L.LayerNormalization()(L.DepthwiseConv2D(3, padding='same')(x))
    y = L.EinsumDense('...c,c->...c', 12)(_mlp(y))
    x = x + y
  return keras.Model(image, L.Dense(4)(L.GlobalAveragePooling2D()(x)))


def mlp_mixer():
  image = keras.Input((16, 16, 3))
  x = L.Reshape((16, 12))(L.Conv2D(12, 4, 4)(image))
  for _ in range(2):
    y = L.Permute((2, 1))(L.BatchNormalization()(x))
    x = L.Add()([x, L.Permute((2, 1))(_mlp(y, 2))])
    x = L.Add()([x, _mlp(L.BatchNormalization()(x))])
  return keras.Model(image, L.Dense(4)(L.GlobalAveragePooling1D()(x)))


def unet():
  image = keras.Input((16, 16, 3))
  a = unit(image, 8, 3)
  b = unit(L.MaxPooling2D()(a), 12, 3)
  c = unit(L.MaxPooling2D()(b), 16, 3)
  x = L.Concatenate()([L.Conv2DTranspose(12, 2, 2)(c), b])
  x = unit(x, 12, 3)
  x = L.Concatenate()([L.UpSampling2D()(x), a])
  return keras.Model(image, L.Conv2D(2, 1)(unit(x, 8, 3)))


def fpn():
  """Three levels, added from the top down, each with a head of its own."""
  image = keras.Input((16, 16, 3))
  levels = [unit(image, 8, 3)]
  for width in (12, 16):
    levels.append(unit(L.MaxPooling2D()(levels[-1]), width, 3))
  x = L.Conv2D(10, 1)(levels[-1])
  heads = [L.Conv2D(2, 3, padding='same')(x)]
  for level in levels[-2::-1]:
    x = L.Add()([tf.image.resize(x, level.shape[1:3], 'nearest'), L.Conv2D(10, 1)(level)])
    heads.append(L.Conv2D(2, 3, padding='same')(unit(x, 10, 3)))
  return keras.Model(image, heads)


def hrnet():
  """Two resolutions side by side that exchange what they find, twice."""
  image = keras.Input((16, 16, 3))
  high = unit(image, 8, 3)
  low = L.Conv2D(12, 3, 2, padding='same')(high)
  for _ in range(2):
    high, low = unit(high, 8, 3), unit(low, 12, 3)
    up = L.UpSampling2D()(L.Conv2D(8, 1)(low))
    down = L.Conv2D(12, 3, 2, padding='same')(high)
    high, low = L.Add()([high, up]), L.Add()([low, down])
  x = L.Concatenate()([high, L.UpSampling2D(interpolation='bilinear')(low)])
  return keras.Model(image, L.Dense(4)(L.GlobalAveragePooling2D()(x)))


def ssd():
  """Boxes and classes from two maps, reshaped and joined along the boxes."""
  image = keras.Input((16, 16, 3))
  maps = [unit(L.MaxPooling2D()(unit(image, 8, 3)), 12, 3)]
  maps.append(unit(L.MaxPooling2D()(maps[0]), 16, 3))
  found = []
  for size in (4, 3):
    parts = [
      tf.reshape(L.Conv2D(2 * size, 3, padding='same')(one), [tf.shape(one)[0], -1, size])
      for one in maps
    ]
    found.append(tf.concat(parts, 1))
  return keras.Model(image, [found[0], tf.nn.softmax(found[1])])


def stacked_lstm():
  given = keras.Input((6, 5))
  x = L.Dense(12, activation='relu')(given)
  x = L.LSTM(16, return_sequences=True)(x)
  x = L.Bidirectional(L.GRU(8, return_sequences=True))(x)
  x = L.LSTM(12)(L.TimeDistributed(L.Dense(10, activation='relu'))(x))
  return keras.Model(given, L.Dense(4)(x))


def conformer():
  """Half a dense block, attention, a gated convolution along the steps, half a dense block."""
  given = keras.Input((8, 6))
  x = L.Dense(12)(given)
  x = x + 0.5 * _mlp(L.LayerNormalization()(x))
  x = x + _attention(L.LayerNormalization()(x), 2, 6)
  value, gate = tf.split(L.Conv1D(24, 1)(L.LayerNormalization()(x)), 2, -1)
  y = L.DepthwiseConv1D(3, padding='same')(value * tf.sigmoid(gate))
  y = L.Conv1D(12, 1)(L.Activation('swish')(L.BatchNormalization()(y)))
  x = x + y
  x = x + 0.5 * _mlp(L.LayerNormalization()(x))
  return keras.Model(given, L.Dense(4)(L.GlobalAveragePooling1D()(L.LayerNormalization()(x))))


PUBLISHED = {
  one.__name__: one
  for one in (
    vit,
    vit_of_einsums,
    swin,
    convnext,
    mlp_mixer,
    shufflenet_v2,
    res2net,
    unet,
    fpn,
    hrnet,
    ssd,
    stacked_lstm,
    conformer,
  )
}
