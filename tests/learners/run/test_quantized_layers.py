"""Layers that tensorflow-model-optimization refuses are trained in 8 bits all the same."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from secateurs.utils import nested
from secateurs.utils.deploy.convert import convert, trace
from secateurs.utils.deploy.exportable import check_exportable
from secateurs.utils.deploy.int8.opened import OpenFile
from secateurs.utils.deploy.interpreter import TFLiteModel
from secateurs.utils.training.models.quantization import calibrate, quantized_twin

L = keras.layers
LARGE = pytest.mark.exhaustive


class Projection(L.Layer):
  """A dense layer of a user's own, which is registered nowhere."""

  def __init__(self, units=6, **settings):
    super().__init__(**settings)
    self.units = units

  def build(self, shape):
    self.matrix = self.add_weight('matrix', (shape[-1], self.units))

  def call(self, inputs):
    return tf.matmul(inputs, self.matrix)

  def get_config(self):
    return {**super().get_config(), 'units': self.units}


class Gain(L.Layer):
  """A factor for each channel."""

  def build(self, shape):
    self.factor = self.add_weight('factor', (shape[-1],), initializer='ones')

  def call(self, inputs):
    return inputs * self.factor


def conv(x, width=6):
  return L.Conv2D(width, 3, padding='same')(x)


def pooled(x):
  return L.GlobalAveragePooling2D()(x)


NETWORKS = {
  'projection': lambda x: Projection()(pooled(conv(x))),
  'layer_norm': lambda x: L.Dense(3)(L.LayerNormalization()(pooled(conv(x)))),
  'two_outputs': lambda x: [L.Dense(3)(pooled(y := conv(x))), L.Conv2D(2, 1)(L.UpSampling2D()(y))],
  'gain': lambda x: conv(Gain()(conv(x))),
  'group_norm': lambda x: conv(L.GroupNormalization(2)(conv(x))),
  'unit_norm': lambda x: L.Dense(3)(L.UnitNormalization()(pooled(conv(x)))),
  'repeat': lambda x: L.Dense(3)(L.Flatten()(L.RepeatVector(3)(pooled(conv(x))))),
  'conv1d': lambda x: pooled_1d(L.Conv1D(6, 3, activation='relu')(L.Reshape((16, 16))(x))),
  'einsum': lambda x: L.EinsumDense('abc,cd->abd', (None, 6))(L.Reshape((16, 16))(x)),
  'dot': lambda x: L.Dot(-1)([pooled(conv(x)), L.GlobalMaxPooling2D()(conv(x))]),
  'locally_connected': lambda x: L.Flatten()(L.LocallyConnected2D(2, 3)(conv(x))),
  'upsampling_1d': lambda x: L.UpSampling1D()(L.Reshape((16, 16))(x)),
}
QUICK = ('projection', 'layer_norm', 'two_outputs')


def pooled_1d(x):
  return L.Dense(3)(L.GlobalAveragePooling1D()(x))


@pytest.mark.parametrize(
  'name', [name if name in QUICK else pytest.param(name, marks=LARGE) for name in NETWORKS]
)
def test_what_was_refused_trains_and_its_file_computes_the_same(name, tmp_path):
  keras.utils.set_random_seed(0)
  inputs = keras.Input((8, 8, 4))
  model = keras.Model(inputs, NETWORKS[name](inputs))
  images = np.random.default_rng(0).standard_normal((16, 8, 8, 4)).astype(np.float32)
  twin = quantized_twin(model)
  calibrate(twin, model, images)
  with tf.GradientTape() as tape:
    loss = tf.add_n([tf.reduce_mean(one**2) for one in nested.parts(twin(images, training=True))])
  gradients = tape.gradient(loss, twin.trainable_variables)
  assert all(one is not None for one in gradients)
  keras.optimizers.SGD(0.01).apply_gradients(zip(gradients, twin.trainable_variables, strict=True))
  path = tmp_path / 'net.tflite'
  path.write_bytes(convert(trace(twin, check_exportable(twin), batch=1), name, simulated=True))
  file = TFLiteModel(path)
  wanted = nested.parts(twin(images, training=False))
  for one, other, step in zip(
    wanted, nested.parts(file.predict(images)), file.output_steps, strict=True
  ):
    assert step is not None
    assert np.abs(one.numpy() - other).max() <= 2 * step + 1e-6
  kinds = {op.kind for op in OpenFile(path.read_bytes()).operators}
  assert kinds - {'QUANTIZE', 'DEQUANTIZE'}
