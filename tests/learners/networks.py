"""Small networks with residual additions, bottlenecks, depthwise layers and branches, and images."""

import functools

import numpy as np
import tensorflow as tf
import tf_keras as keras

L = keras.layers


def randomize(model, seed=0):
  """Weights whose every part shows in the output."""
  rng = np.random.default_rng(seed)
  for weight in model.weights:
    shape = tuple(weight.shape)
    if 'variance' in weight.name or 'gamma' in weight.name:
      weight.assign(rng.uniform(0.5, 1.5, shape))
    elif 'kernel' in weight.name:
      weight.assign(rng.normal(size=shape) * (2.0 / max(np.prod(shape[:-1]), 1)) ** 0.5)
    else:
      weight.assign(rng.normal(size=shape) * 0.3)
  return model


def twin(model):
  copy = keras.models.clone_model(model)
  copy.set_weights(model.get_weights())
  return copy


def residual_net():
  x = inputs = L.Input((8, 8, 3))
  x = L.ReLU()(L.BatchNormalization()(L.Conv2D(8, 3, padding='same', use_bias=False)(x)))
  for block in range(3):
    y = L.Conv2D(12, 3, padding='same', use_bias=False, name=f'b{block}_conv1')(x)
    y = L.ReLU()(L.BatchNormalization()(y))
    y = L.Conv2D(8, 3, padding='same', use_bias=False, name=f'b{block}_conv2')(y)
    y = L.BatchNormalization(name=f'b{block}_bn2')(y)
    x = L.ReLU()(L.Add(name=f'b{block}_add')([y, x]))
  x = L.Dense(4, name='logits')(L.GlobalAveragePooling2D()(x))
  return keras.Model(inputs, x)


def digits_net():
  x = inputs = L.Input((32, 32, 3))
  x = L.Conv2D(8, 3, strides=4, padding='same', use_bias=False, name='stem')(x)
  x = L.ReLU()(L.BatchNormalization(name='stem_bn', momentum=0.8)(x))
  for block in range(3):
    y = L.Conv2D(12, 3, padding='same', use_bias=False, name=f'b{block}_conv1')(x)
    y = L.ReLU()(L.BatchNormalization(name=f'b{block}_bn1', momentum=0.8)(y))
    y = L.Conv2D(8, 3, padding='same', use_bias=False, name=f'b{block}_conv2')(y)
    y = L.BatchNormalization(name=f'b{block}_bn2', momentum=0.8)(y)
    x = L.ReLU()(L.Add(name=f'b{block}_add')([y, x]))
  return keras.Model(inputs, L.Dense(10, name='logits')(L.GlobalAveragePooling2D()(x)))


def pre_activation_net(size=8, classes=4):
  x = inputs = L.Input((size, size, 3))
  x = L.Conv2D(8, 3, strides=size // 8, padding='same', use_bias=False, name='stem')(x)
  for block in range(2):
    y = L.ReLU()(L.BatchNormalization(name=f'b{block}_bn1')(x))
    y = L.Conv2D(12, 3, padding='same', use_bias=False, name=f'b{block}_conv1')(y)
    y = L.ReLU()(L.BatchNormalization(name=f'b{block}_bn2')(y))
    y = L.Conv2D(8, 3, padding='same', use_bias=False, name=f'b{block}_conv2')(y)
    x = L.Add(name=f'b{block}_add')([x, y])
  x = L.ReLU()(L.BatchNormalization(name='bn')(x))
  return keras.Model(inputs, L.Dense(classes, name='logits')(L.GlobalAveragePooling2D()(x)))


def bottleneck_net():
  x = inputs = L.Input((8, 8, 3))
  x = L.Conv2D(16, 3, padding='same', name='stem', activation='relu')(x)
  y = L.Conv2D(8, 1, name='reduce', activation='relu')(x)
  y = L.Conv2D(8, 3, strides=2, padding='same', name='middle', activation='relu')(y)
  y = L.Conv2D(16, 1, name='expand')(y)
  x = L.Conv2D(16, 1, strides=2, name='shortcut')(x)
  x = L.ReLU()(L.Add()([x, y]))
  return keras.Model(inputs, L.Dense(4, name='logits')(L.GlobalAveragePooling2D()(x)))


def depthwise_net():
  x = inputs = L.Input((8, 8, 3))
  for i, filters in enumerate((8, 12, 16)):
    if i:
      x = L.DepthwiseConv2D(3, padding='same', use_bias=False, name=f'dw{i}')(x)
      x = L.ReLU()(L.BatchNormalization()(x))
    x = L.Conv2D(filters, 1 if i else 3, padding='same', use_bias=False, name=f'pw{i}')(x)
    x = L.ReLU()(L.BatchNormalization()(x))
  return keras.Model(inputs, L.Dense(4, name='logits')(L.GlobalAveragePooling2D()(x)))


def plain_net():
  x = inputs = L.Input((8, 8, 3))
  for i, filters in enumerate((8, 8, 12)):
    x = L.Conv2D(filters, 3, padding='same' if i else 'valid', activation='relu', name=f'c{i}')(x)
  x = L.MaxPooling2D(2)(x)
  x = L.Dense(16, activation='relu', name='fc')(L.Flatten()(x))
  return keras.Model(inputs, L.Dense(4, name='logits')(x))


def branched_net():
  x = inputs = L.Input((8, 8, 3))
  x = L.Conv2D(10, 3, padding='same', activation='relu', name='stem')(x)
  a = L.Conv2D(6, 1, activation='relu', name='a')(x)
  b = L.Conv2D(8, 3, padding='same', dilation_rate=2, activation='relu', name='b')(x)
  x = L.Concatenate()([a, x, b])
  x = L.Conv2D(8, 3, padding='same', activation='relu', name='join')(x)
  return keras.Model(inputs, L.Dense(4, name='logits')(L.GlobalAveragePooling2D()(x)))


NETS = {
  f.__name__: f for f in (residual_net, bottleneck_net, depthwise_net, plain_net, branched_net)
}


def images(nb_batches=2, seed=3, size=8):
  rng = np.random.default_rng(seed)
  return [rng.normal(size=(24, size, size, 3)).astype(np.float32) for _ in range(nb_batches)]


def tied_net():
  """Four branches of eight channels, shuffled and split twice: all channels of a branch are tied."""
  x = inputs = L.Input((32, 32, 3))
  branch = functools.partial(L.Conv2D, 8, 3, padding='same', activation='relu')
  x = L.Concatenate()([branch(strides=4, name=f'stem{number}')(x) for number in range(4)])
  for unit in range(2):
    x = tf.reshape(x, [-1, 8, 8, 4, 8])
    x = tf.reshape(tf.transpose(x, [0, 1, 2, 4, 3]), [-1, 8, 8, 32])
    first, *parts = tf.split(x, 4, axis=-1)
    parts = [branch(name=f'unit{unit}_{number}')(part) for number, part in enumerate(parts)]
    x = L.Concatenate()([first, *parts])
  return keras.Model(inputs, L.Dense(10, name='logits')(L.GlobalAveragePooling2D()(x)))


def split_net():
  """Two halves, of which one passes through a convolution, twice."""
  x = inputs = L.Input((32, 32, 3))
  x = L.Conv2D(16, 3, strides=4, padding='same', activation='relu', name='stem')(x)
  for number in range(2):
    left, right = tf.split(x, 2, axis=-1)
    right = L.Conv2D(8, 3, padding='same', activation='relu', name=f'conv{number}')(right)
    x = L.Concatenate(name=f'join{number}')([left, right])
  return keras.Model(inputs, L.Dense(10, name='logits')(L.GlobalAveragePooling2D()(x)))
