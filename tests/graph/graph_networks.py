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


def random_network(seed, side=4, nb_steps=8):
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
