"""Small networks for 32x32 images that shrink their maps early, and samples."""

import numpy as np
import tf_keras as keras

L = keras.layers


def conv(x, filters, size, name, strides=1):
  x = L.Conv2D(filters, size, strides, padding='same', use_bias=False, name=name)(x)
  return L.BatchNormalization(name=f'{name}_bn')(x)


def stem(x, filters):
  return L.MaxPooling2D(2)(L.ReLU()(conv(x, filters, 3, 'stem', 2)))


def logits(x):
  return L.Dense(10, name='logits')(L.GlobalAveragePooling2D()(x))


def residual_net(size=32):
  x = inputs = L.Input((size, size, 3))
  x = stem(x, 8)
  for i in range(3):
    y = L.ReLU()(conv(x, 8, 3, f'b{i}_conv1'))
    x = L.ReLU()(L.Add()([conv(y, 8, 3, f'b{i}_conv2'), x]))
  return keras.Model(inputs, logits(x))


def bottleneck_net(size=32):
  x = inputs = L.Input((size, size, 3))
  x = stem(x, 12)
  for i in range(2):
    y = L.ReLU()(conv(x, 6, 1, f'b{i}_reduce'))
    y = L.ReLU()(conv(y, 6, 3, f'b{i}_middle'))
    x = L.ReLU()(L.Add()([conv(y, 12, 1, f'b{i}_expand'), x]))
  return keras.Model(inputs, logits(x))


def depthwise_net(size=32):
  x = inputs = L.Input((size, size, 3))
  x = stem(x, 8)
  for i, filters in enumerate((12, 12)):
    x = L.DepthwiseConv2D(3, padding='same', use_bias=False, name=f'dw{i}')(x)
    x = L.ReLU()(L.BatchNormalization(name=f'dw{i}_bn')(x))
    x = L.ReLU()(conv(x, filters, 1, f'pw{i}'))
  return keras.Model(inputs, logits(x))


def separable_net(size=32, multiplier=1):
  x = inputs = L.Input((size, size, 3))
  x = stem(x, 8)
  for i in range(2):
    y = x
    for part in (1, 2):
      name = f'b{i}_sep{part}'
      y = L.SeparableConv2D(
        8, 3, padding='same', depth_multiplier=multiplier, use_bias=False, name=name
      )(L.ReLU()(y))
      y = L.BatchNormalization(name=f'{name}_bn')(y)
    x = L.Add()([y, x])
  return keras.Model(inputs, logits(L.ReLU()(x)))


def plain_net(size=32):
  x = inputs = L.Input((size, size, 3))
  for i, filters in enumerate((6, 8, 8)):
    x = L.Conv2D(filters, 3, 2, activation='relu', name=f'c{i}')(x)
  x = L.Dense(12, activation='relu', name='fc')(L.Flatten()(x))
  return keras.Model(inputs, L.Dense(10, name='logits')(x))


NETS = {
  f.__name__: f for f in (residual_net, bottleneck_net, depthwise_net, plain_net, separable_net)
}


def samples(nb=24, size=32, seed=0):
  rng = np.random.default_rng(seed)
  images = rng.normal(size=(nb, size, size, 3)).astype(np.float32)
  return images, rng.integers(0, 10, nb).astype(np.int32)
