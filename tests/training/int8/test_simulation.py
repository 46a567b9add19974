"""Networks in simulated 8 bits: their files compute what they compute, and they can be trained."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from secateurs.utils import nested
from secateurs.utils.deploy import export_model
from secateurs.utils.graph.flat.selection import ChannelSelection
from secateurs.utils.training.models.quantization import calibrate, quantized_twin

L = keras.layers


def transformer(x):
  y = L.Dense(12, activation='gelu')(L.LayerNormalization()(x))
  return L.GlobalAveragePooling1D()(L.LayerNormalization()(x + L.Dense(8)(y)))


def attention(x):
  return L.GlobalAveragePooling1D()(x + L.MultiHeadAttention(2, 4)(x, x))


def prelu(x):
  x = L.PReLU(shared_axes=[1, 2], alpha_initializer='random_uniform')(L.Conv2D(4, 3)(x))
  return L.GlobalAveragePooling2D()(x)


def hard_swish(x):
  x = L.BatchNormalization()(L.Conv2D(4, 3, use_bias=False)(x))
  return L.GlobalAveragePooling2D()(x * tf.nn.relu6(x + 3) / 6)


def two_outputs(x):
  x = L.Conv2D(4, 3, activation='relu')(x)
  return [L.Dense(3)(L.Flatten()(x)), L.Dense(2, activation='sigmoid')(L.GlobalMaxPooling2D()(x))]


def u_net(x):
  y = L.ReLU()(L.BatchNormalization()(L.Conv2D(4, 3, strides=2, padding='same')(x)))
  y = L.ReLU()(L.BatchNormalization()(L.Conv2DTranspose(4, 2, 2, use_bias=False)(y)))
  return L.Conv2D(2, 1)(L.Concatenate()([x, y]))


def selection(x):
  x = L.Conv2D(6, 3, activation='relu')(x)
  return L.GlobalAveragePooling2D()(ChannelSelection([0, 2, 5])(x))


def squeeze_excite(x):
  x = L.DepthwiseConv2D(3, depth_multiplier=2)(x)
  y = L.Dense(3, activation='relu')(L.GlobalAveragePooling2D(keepdims=True)(x))
  return L.GlobalAveragePooling2D()(L.Multiply()([x, L.Dense(x.shape[-1], 'sigmoid')(y)]))


def group_norm(x):
  return L.GlobalAveragePooling2D()(L.ReLU()(L.GroupNormalization(2)(L.Conv2D(4, 3)(x))))


def normalised(x):
  norm = L.Normalization(mean=[0.1, 0.3, 0.2], variance=[0.5, 1.0, 2.0])
  x = L.Conv2D(4, 3, activation='relu')(norm(L.Rescaling(2.0, -0.5)(x)))
  return L.Dense(3)(L.Flatten()(x))


def signal(x):
  x = L.ReLU()(L.BatchNormalization()(L.Conv1D(6, 3, padding='same', use_bias=False)(x)))
  return L.Dense(3)(L.GlobalAveragePooling1D()(L.Conv1D(4, 3, dilation_rate=2)(x)))


def separable(x):
  x = L.BatchNormalization()(L.SeparableConv2D(6, 3, activation='swish')(x))
  return L.Dense(3, activation='softmax')(L.Flatten()(L.Dropout(0.5)(x)))


SEQUENCE, IMAGE = (6, 8), (8, 8, 3)
NETS = {
  transformer: SEQUENCE,
  attention: SEQUENCE,
  signal: SEQUENCE,
  prelu: IMAGE,
  hard_swish: IMAGE,
  two_outputs: IMAGE,
  u_net: IMAGE,
  selection: IMAGE,
  squeeze_excite: IMAGE,
  group_norm: IMAGE,
  normalised: IMAGE,
  separable: IMAGE,
}


def made(body):
  """A network with weights as after some training, and inputs for it."""
  keras.utils.set_random_seed(0)
  rng = np.random.default_rng(0)
  inputs = L.Input(NETS[body])
  model = keras.Model(inputs, body(inputs), name=body.__name__)
  for weight in model.weights:
    if any(part in weight.name for part in ('variance', 'gamma')):
      weight.assign(rng.uniform(0.5, 1.5, weight.shape))
    elif any(part in weight.name for part in ('moving_mean', 'beta', 'bias')):
      weight.assign(rng.uniform(0.0, 0.3, weight.shape))
  return model, rng.normal(size=(96, *NETS[body])).astype(np.float32)


@pytest.mark.parametrize('body', NETS, ids=lambda body: body.__name__)
def test_the_file_computes_what_was_trained(body, tmp_path):
  model, inputs = made(body)
  twin = quantized_twin(model)
  calibrate(twin, inputs)
  for one, other in zip(nested.parts(model(inputs)), nested.parts(twin(inputs)), strict=True):
    assert np.abs(one - other).max() < 0.1 * np.ptp(one)
  before = [variable.numpy() for variable in twin.trainable_variables]
  assert len(before) == len(model.trainable_variables)
  optimizer = keras.optimizers.SGD(0.01)
  for _ in range(2):
    with tf.GradientTape() as tape:
      found = nested.parts(twin(inputs, training=True))
      loss = tf.add_n([tf.reduce_mean(tf.square(one - 1)) for one in found])
    gradients = tape.gradient(loss, twin.trainable_variables)
    optimizer.apply_gradients(zip(gradients, twin.trainable_variables, strict=True))
  for gradient in gradients:
    assert np.all(np.isfinite(gradient))
  moved = [np.any(a != b) for a, b in zip(before, twin.trainable_variables, strict=True)]
  assert np.mean(moved) > 0.9
  exported = export_model(model, tmp_path / 'm', quantized=twin, parity_images=inputs, formats=())
  assert exported.left_out == {}
  assert exported.notes == []
  assert exported.tflite_int8.parity.max_diff_steps < (2.5 if body is u_net else 1.5)
