"""Small float .tflite files of random networks, for tests of 8 bits."""

import numpy as np
import tf_keras as keras

from secateurs.utils.deploy.files.convert import tflite_bytes


def images(number=24, shape=(12, 12, 3), seed=0):
  return np.random.default_rng(seed).standard_normal((number, *shape)).astype(np.float32)


def separable(relu=None, uneven=0.0):
  """Convolution, depthwise, pointwise, dense; channels of very uneven size where asked for."""
  keras.utils.set_random_seed(1)
  relu = relu or keras.layers.ReLU
  x = inputs = keras.Input((12, 12, 3))
  x = keras.layers.Conv2D(8, 3, padding='same', name='first')(x)
  x = relu(name='relu_first')(x)
  x = keras.layers.DepthwiseConv2D(3, padding='same', name='depthwise')(x)
  x = relu(name='relu_depthwise')(x)
  x = keras.layers.Conv2D(8, 1, name='pointwise')(x)
  x = relu(name='relu_pointwise')(x)
  x = keras.layers.GlobalAveragePooling2D(name='pool')(x)
  model = keras.Model(inputs, keras.layers.Dense(4, name='logits')(x))
  if uneven:
    factors = np.exp(uneven * np.random.default_rng(2).standard_normal(8)).astype(np.float32)
    for name, axis in (('first', 3), ('depthwise', None), ('pointwise', 2)):
      kernel, bias = model.get_layer(name).get_weights()
      if name == 'first':
        kernel, bias = kernel * factors, bias + 0.1 * factors
      if name == 'pointwise':
        kernel = kernel / factors[:, None]
      model.get_layer(name).set_weights([kernel, bias])
      del axis
  return model


def file_of(model):
  return tflite_bytes(model)
