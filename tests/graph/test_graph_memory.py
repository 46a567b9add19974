"""Bytes of feature maps, counted by hand."""

import tf_keras as keras

from secateurs.utils.graph.counts.memory import MapBytes, inference_batch, map_bytes
from secateurs.utils.graph.flat.walk import flatten_model

L = keras.layers


def test_a_residual_block_is_counted_as_by_hand():
  image = L.Input((8, 8, 3))  # 768 bytes
  x = L.Conv2D(4, 3, padding='same')(image)  # 1024 bytes, and so on
  x = L.BatchNormalization()(x)
  shortcut = x = L.ReLU()(x)
  x = L.Conv2D(4, 3, padding='same')(x)
  x = L.BatchNormalization()(x)
  x = L.Add()([x, shortcut])
  x = L.ReLU()(x)
  x = L.Conv2D(2, 1, strides=2, activation='relu')(x)  # 128 bytes
  x = L.GlobalAveragePooling2D()(x)
  flat = flatten_model(keras.Model(image, L.Dense(5)(x)))
  # Read again: the image, two sums before BN, two ReLUs, the last convolution's output, the pooled map.
  assert map_bytes(flat) == MapBytes(768 + 4 * 1024 + 128 + 8, 3 * 1024, 1024)


def test_a_batch_for_inference_holds_at_most_256_megabytes():
  image = L.Input((1024, 1024, 32))  # 128 MB, as its ReLU
  flat = flatten_model(keras.Model(image, L.ReLU()(image)))
  assert inference_batch(flat, 100) == 1
  small = L.Input((8, 8, 3))
  assert inference_batch(flatten_model(keras.Model(small, L.ReLU()(small))), 100) == 100
