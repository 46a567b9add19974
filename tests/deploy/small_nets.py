"""Small nets, one for each structure that an export has to survive."""

import numpy as np
import tf_keras as keras

layers = keras.layers


def _conv_bn(x, filters, name, strides=1, activation=True):
  if strides > 1:
    x = layers.ZeroPadding2D(1, name=f'{name}_pad')(x)
  x = layers.Conv2D(
    filters,
    3,
    strides=strides,
    padding='valid' if strides > 1 else 'same',
    use_bias=False,
    name=f'{name}_conv',
  )(x)
  x = layers.BatchNormalization(epsilon=1e-5, name=f'{name}_bn')(x)
  return layers.ReLU(name=f'{name}_relu')(x) if activation else x


def residual_net():
  image = keras.Input((12, 12, 3), name='image')
  trunk = _conv_bn(image, 8, 'stem')
  branch = _conv_bn(trunk, 16, 'down', strides=2)
  branch = _conv_bn(branch, 16, 'inner', activation=False)
  short = layers.Conv2D(16, 1, strides=2, use_bias=False, name='short_conv')(trunk)
  x = layers.ReLU()(layers.Add()([branch, layers.BatchNormalization(name='short_bn')(short)]))
  x = layers.GlobalAveragePooling2D()(x)
  return keras.Model(image, layers.Dense(10, name='logits')(x), name='residual')


def depthwise_net():
  image = keras.Input((12, 12, 3), name='image')
  x = _conv_bn(image, 8, 'stem')
  x = layers.DepthwiseConv2D(3, padding='same', use_bias=False, name='depthwise')(x)
  x = layers.ReLU(6.0)(layers.BatchNormalization()(x))
  x = layers.Conv2D(16, 1, name='pointwise')(x)
  x = layers.Reshape((1, 1, 16))(layers.GlobalAveragePooling2D()(x))
  x = layers.Flatten()(layers.Conv2D(10, 1, name='logits')(x))
  return keras.Model(image, layers.Softmax()(x), name='depthwise')


def flatten_net():
  image = keras.Input((12, 12, 3), name='image')
  x = layers.MaxPooling2D()(layers.Conv2D(8, 5, activation='relu', name='conv1')(image))
  x = layers.Concatenate()([x, layers.Conv2D(4, 3, padding='same', name='conv2')(x)])
  x = layers.Dropout(0.5)(layers.Flatten()(x))
  x = layers.Dense(24, activation='relu', name='hidden')(x)
  return keras.Model(image, layers.Dense(10, name='logits')(x), name='flatten')


NETS = {'residual': residual_net, 'depthwise': depthwise_net, 'flatten': flatten_net}


def build(kind):
  """Builds a net with seeded weights and BatchNorm statistics unlike their initial ones."""
  keras.utils.set_random_seed(7)
  model = NETS[kind]()
  rng = np.random.default_rng(7)
  for variable in model.variables:
    if 'gamma' in variable.name or 'moving_variance' in variable.name:
      variable.assign(rng.uniform(0.5, 1.5, variable.shape))
    elif 'beta' in variable.name or 'moving_mean' in variable.name:
      variable.assign(rng.normal(0, 0.2, variable.shape))
  return model
