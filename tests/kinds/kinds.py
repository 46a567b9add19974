"""Kinds of models and data, each at a tiny size: what users bring."""

import dataclasses
from typing import Any

import numpy as np
import tensorflow as tf
import tf_keras as keras

L = keras.layers
SIZE, NB, NB_EVAL = 12, 48, 24


@dataclasses.dataclass
class Kind:
  """A model, its data, options of `from_model`, and the task that is expected."""

  model: Any
  train: Any
  test: Any
  task: str
  options: dict = dataclasses.field(default_factory=dict)


KINDS = {}


def kind(function):
  """Registers a kind under the name of its function."""
  KINDS[function.__name__] = function
  return function


def images(nb, seed=0, shape=(SIZE, SIZE, 3)):
  return np.random.default_rng(seed).normal(size=(nb, *shape)).astype(np.float32)


def classes(nb, seed=0, nb_classes=3):
  return np.random.default_rng([seed, 1]).integers(0, nb_classes, nb).astype(np.int32)


def numbers(nb, seed=0, size=1):
  return np.random.default_rng([seed, 2]).normal(size=(nb, size)).astype(np.float32)


def yes_no(nb, seed=0, size=1):
  return np.random.default_rng([seed, 3]).integers(0, 2, (nb, size)).astype(np.float32)


def both(inputs, targets):
  """Training and evaluation data of functions of (number of samples, seed)."""
  return (inputs(NB, 0), targets(NB, 0)), (inputs(NB_EVAL, 1), targets(NB_EVAL, 1))


def convs(x, layer=L.Conv2D, widths=(8, 8)):
  for width in widths:
    x = layer(width, 3, padding='same', use_bias=False)(x)
    x = L.ReLU()(L.BatchNormalization()(x))
  return x


def image_model(units, activation=None, shape=(SIZE, SIZE, 3), loss=None):
  inputs = L.Input(shape)
  x = L.GlobalAveragePooling2D()(convs(inputs))
  model = keras.Model(inputs, L.Dense(units, activation)(x))
  if loss is not None:
    model.compile('sgd', loss)
  return model


@kind
def softmax():
  return Kind(image_model(3, 'softmax'), *both(images, classes), 'classification')


@kind
def logits():
  loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
  return Kind(image_model(3, loss=loss), *both(images, classes), 'classification')


@kind
def one_hot_labels():
  def targets(nb, seed):
    return np.eye(3, dtype=np.float32)[classes(nb, seed)]

  return Kind(image_model(3, 'softmax'), *both(images, targets), 'classification')


@kind
def text_labels():
  def targets(nb, seed):
    return np.array(['cat', 'dog', 'owl'])[classes(nb, seed)]

  return Kind(image_model(3, 'softmax'), *both(images, targets), 'classification')


@kind
def one_sigmoid():
  model = image_model(1, 'sigmoid', loss='binary_crossentropy')
  return Kind(model, *both(images, lambda n, s: yes_no(n, s)[:, 0]), 'binary')


@kind
def one_logit():
  model = image_model(1, loss=keras.losses.BinaryCrossentropy(from_logits=True))
  return Kind(model, *both(images, lambda n, s: yes_no(n, s).astype(int)), 'binary')


@kind
def labels_with_sigmoids():
  return Kind(image_model(4, 'sigmoid'), *both(images, lambda n, s: yes_no(n, s, 4)), 'multi-label')


@kind
def sigmoids_with_class_numbers():
  model = image_model(3, 'sigmoid', loss='sparse_categorical_crossentropy')
  return Kind(model, *both(images, classes), 'multi-label')


@kind
def one_number():
  return Kind(image_model(1, loss='mse'), *both(images, numbers), 'regression')


@kind
def three_numbers_huber():
  model = image_model(3, loss=keras.losses.Huber())
  return Kind(model, *both(images, lambda n, s: numbers(n, s, 3)), 'regression')


def rows(nb, seed=0):
  return images(nb, seed, (7,))


def dense_model(units, activation=None):
  x = inputs = L.Input((7,))
  for width in (16, 12):
    x = L.Dense(width, use_bias=False)(x)
    x = L.ReLU()(L.BatchNormalization()(x))
  return keras.Model(inputs, L.Dense(units, activation)(x))


@kind
def table_of_numbers():
  return Kind(dense_model(2), *both(rows, lambda n, s: numbers(n, s, 2)), 'regression')


@kind
def table_of_answers():
  return Kind(dense_model(1, 'sigmoid'), *both(rows, yes_no), 'binary')


def signals(nb, seed=0):
  return images(nb, seed, (24, 2))


def signal_model(units, activation=None):
  inputs = L.Input((24, 2))
  x = L.GlobalAveragePooling1D()(convs(inputs, L.Conv1D))
  return keras.Model(inputs, L.Dense(units, activation)(x))


@kind
def signals_of_classes():
  return Kind(signal_model(3, 'softmax'), *both(signals, classes), 'classification')


@kind
def signals_of_numbers():
  return Kind(signal_model(1), *both(signals, numbers), 'regression')


def masks(nb, seed=0):
  found = np.random.default_rng([seed, 4]).integers(0, 3, (nb, SIZE, SIZE, 1)).astype(np.uint8)
  found[:, 0] = 255  # Pixels of no class.
  return found


def u_net(units, activation=None):
  inputs = L.Input((SIZE, SIZE, 3))
  left = convs(inputs, widths=(8,))
  x = convs(L.MaxPooling2D()(left), widths=(12,))
  x = L.Conv2DTranspose(8, 3, 2, padding='same', activation='relu')(x)
  x = convs(L.Concatenate()([left, x]), widths=(8,))
  return keras.Model(inputs, L.Conv2D(units, 1, activation=activation)(x))


@kind
def pixels_of_classes():
  return Kind(u_net(3, 'softmax'), *both(images, masks), 'segmentation')


@kind
def pixels_of_one_sigmoid():
  def targets(nb, seed):
    return (masks(nb, seed) > 1).astype(np.float32)

  return Kind(u_net(1, 'sigmoid'), *both(images, targets), 'segmentation')


@kind
def pixels_of_sigmoids():
  def targets(nb, seed):
    return np.eye(3, dtype=np.float32)[masks(nb, seed)[..., 0] % 3]

  return Kind(u_net(3, 'sigmoid'), *both(images, targets), 'segmentation')


@kind
def images_to_images():
  def targets(nb, seed):
    return 1 / (1 + np.exp(-images(nb, seed)))

  return Kind(u_net(3, 'sigmoid'), *both(images, targets), 'regression')


@kind
def a_class_for_each_step():
  inputs = L.Input((24, 2))
  x = convs(inputs, L.Conv1D)
  model = keras.Model(inputs, L.TimeDistributed(L.Dense(3, 'softmax'))(x))
  labels = both(signals, lambda n, s: classes(n * 24, s).reshape(n, 24))
  return Kind(model, *labels, 'segmentation')


@kind
def tokens():
  inputs = L.Input((10,), dtype='int32')
  x = convs(L.Embedding(50, 8)(inputs), L.Conv1D)
  model = keras.Model(inputs, L.Dense(3, 'softmax')(L.GlobalMaxPooling1D()(x)))
  words = both(lambda n, s: classes(n * 10, s, 50).reshape(n, 10), classes)
  return Kind(model, *words, 'classification')


def recurrent(layer, units=3, activation='softmax'):
  inputs = L.Input((24, 2))
  x = convs(inputs, L.Conv1D)
  return keras.Model(inputs, L.Dense(units, activation)(layer(6)(x)))


@kind
def lstm_head():
  return Kind(recurrent(L.LSTM), *both(signals, classes), 'classification')


@kind
def gru_head():
  return Kind(recurrent(L.GRU, 1, None), *both(signals, numbers), 'regression')


@kind
def attention():
  inputs = L.Input((SIZE, SIZE, 3))
  x = L.Conv2D(8, 4, 4)(inputs)
  x = L.Reshape((9, 8))(x)
  for _ in range(2):
    y = L.LayerNormalization()(x)
    x = L.Add()([x, L.MultiHeadAttention(2, 4)(y, y)])
    y = L.Dense(16, 'gelu')(L.LayerNormalization()(x))
    x = L.Add()([x, L.Dense(8)(y)])
  model = keras.Model(inputs, L.Dense(3, 'softmax')(L.GlobalAveragePooling1D()(x)))
  return Kind(model, *both(images, classes), 'classification')


@kind
def two_inputs():
  picture, row = L.Input((SIZE, SIZE, 3), name='picture'), L.Input((7,), name='row')
  x = L.GlobalAveragePooling2D()(convs(picture))
  x = L.Concatenate()([x, L.Dense(8, 'relu')(row)])
  model = keras.Model([picture, row], L.Dense(3, 'softmax')(x))

  def inputs(nb, seed):
    return {'row': rows(nb, seed), 'picture': images(nb, seed)}

  return Kind(model, *both(inputs, classes), 'classification')


def two_heads(*, named):
  inputs = L.Input((SIZE, SIZE, 3))
  x = L.GlobalAveragePooling2D()(convs(inputs))
  heads = {'mood': L.Dense(3, 'softmax', name='mood')(x), 'age': L.Dense(1, name='age')(x)}
  return keras.Model(inputs, heads if named else list(heads.values()))


def two_targets(nb, seed):
  return {'age': numbers(nb, seed), 'mood': classes(nb, seed)}


@kind
def two_outputs():
  options = {'loss_weights': {'age': 0.5}}
  return Kind(two_heads(named=False), *both(images, two_targets), 'several outputs', options)


@kind
def outputs_in_a_dictionary():
  return Kind(two_heads(named=True), *both(images, two_targets), 'several outputs')


@kind
def one_output_of_two():
  data = both(images, two_targets)
  return Kind(two_heads(named=False), *data, 'regression', {'output': 'age'})


@kind
def bytes_of_pixels():
  inputs = L.Input((SIZE, SIZE, 3), dtype='uint8')
  x = L.GlobalAveragePooling2D()(convs(L.Rescaling(1 / 255)(inputs)))
  model = keras.Model(inputs, L.Dense(3, 'softmax')(x))

  def pixels(nb, seed):
    return np.clip(images(nb, seed) * 60 + 128, 0, 255).astype(np.uint8)

  return Kind(model, *both(pixels, classes), 'classification')


@kind
def grey_without_an_axis():
  model = image_model(3, 'softmax', (SIZE, SIZE, 1))
  return Kind(model, *both(lambda n, s: images(n, s)[..., 0], classes), 'classification')


@kind
def four_channels():
  shape = (SIZE, SIZE, 4)
  data = both(lambda n, s: images(n, s, shape), classes)
  return Kind(image_model(3, 'softmax', shape), *data, 'classification')


@kind
def any_size():
  model = image_model(3, 'softmax', (None, None, 3))
  return Kind(model, *both(lambda n, s: images(n, s, (10, 14, 3)), classes), 'classification')


@kind
def endless_pipeline():
  train, test = both(images, classes)
  train = tf.data.Dataset.from_tensor_slices(train).shuffle(NB, 0).repeat().batch(8)
  test = tf.data.Dataset.from_tensor_slices(test).batch(8).repeat()
  steps = {'steps_per_epoch': 6, 'validation_steps': 3}
  return Kind(image_model(3, 'softmax'), train, test, 'classification', steps)


@kind
def weighted_samples_in_ragged_batches():
  train, test = both(images, numbers)
  weights = np.random.default_rng(0).uniform(0, 2, NB).astype(np.float32)
  train = tf.data.Dataset.from_tensor_slices((*train, weights)).batch(9)
  return Kind(image_model(1), train, tf.data.Dataset.from_tensor_slices(test), 'regression')


@kind
def weighted_classes():
  weights = {'class_weight': {0: 2.0, 1: 0.5}}
  return Kind(image_model(3, 'softmax'), *both(images, classes), 'classification', weights)


@kind
def frozen_backbone():
  backbone = keras.Sequential([L.Input((SIZE, SIZE, 3))])
  for _ in range(2):
    for layer in (L.Conv2D(8, 3, padding='same'), L.BatchNormalization(), L.ReLU()):
      backbone.add(layer)
  backbone.trainable = False
  inputs = L.Input((SIZE, SIZE, 3))
  x = L.GlobalAveragePooling2D()(backbone(inputs, training=False))
  model = keras.Model(inputs, L.Dense(3, 'softmax')(x))
  return Kind(model, *both(images, classes), 'classification')


class Subclassed(keras.Model):
  """Layers that are called in Python code."""

  def __init__(self, **options):
    super().__init__(**options)
    self.first = L.Conv2D(8, 3, padding='same', activation='relu')
    self.second = L.Conv2D(8, 3, padding='same', activation='relu')
    self.pool, self.head = L.GlobalAveragePooling2D(), L.Dense(3, 'softmax')

  def call(self, inputs):
    x = self.second(self.first(inputs))
    return self.head(self.pool(x) + 0.1)


@kind
def subclassed():
  model = Subclassed()
  model(images(2))
  return Kind(model, *both(images, classes), 'classification')


@kind
def half_precision():
  try:
    keras.mixed_precision.set_global_policy('mixed_float16')
    inputs = L.Input((SIZE, SIZE, 3))
    x = L.GlobalAveragePooling2D()(convs(inputs))
    model = keras.Model(inputs, L.Dense(3, 'softmax', dtype='float32')(x))
  finally:
    keras.mixed_precision.set_global_policy('float32')
  return Kind(model, *both(images, classes), 'classification')


@kind
def dense_on_maps():
  inputs = L.Input((SIZE, SIZE, 3))
  x = convs(inputs)
  x = L.Dense(8, 'relu')(L.Dense(8, 'relu')(x))
  model = keras.Model(inputs, L.Dense(3, 'softmax')(L.GlobalAveragePooling2D()(x)))
  return Kind(model, *both(images, classes), 'classification')


@kind
def nested_models():
  inner = keras.Sequential([L.Input((SIZE, SIZE, 3)), L.Conv2D(8, 3, activation='relu')])
  outer = keras.Sequential([inner, L.Conv2D(8, 3), L.ReLU(), L.Flatten(), L.Dense(1, 'sigmoid')])
  outer.build((None, SIZE, SIZE, 3))
  return Kind(outer, *both(images, yes_no), 'binary')


@kind
def volumes():
  inputs = L.Input((6, 6, 6, 1))
  x = L.GlobalAveragePooling3D()(convs(inputs, L.Conv3D))
  model = keras.Model(inputs, L.Dense(1)(x))
  data = both(lambda n, s: images(n, s, (6, 6, 6, 1)), numbers)
  return Kind(model, *data, 'regression')
