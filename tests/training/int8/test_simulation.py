"""Networks in simulated 8 bits: their files compute what they compute, and they can be trained."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from secateurs.utils import nested
from secateurs.utils.deploy import export_model
from secateurs.utils.deploy.int8.opened import OpenFile
from secateurs.utils.deploy.runtime.interpreter import TFLiteModel
from secateurs.utils.graph.flat.selection import ChannelSelection
from secateurs.utils.training.int8.linear import rounded_constant, rounded_kernel, rounded_offset
from secateurs.utils.training.int8.simulation import simulations
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
  y = L.Dense(x.shape[-1], use_bias=False)(y)  # The bias of all channels is the 3 that follows.
  return L.GlobalAveragePooling2D()(L.Multiply()([x, tf.nn.relu6(y + 3) / 6]))


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


def recurrent(x):
  x = x[:, :2]
  y = L.GRU(3, return_sequences=True, reset_after=False)(x)
  return L.Dense(3)(tf.concat([y, tf.reverse(x, [1])], -1))


SEQUENCE, IMAGE = (6, 8), (8, 8, 3)
NETS = {
  transformer: SEQUENCE,
  attention: SEQUENCE,
  signal: SEQUENCE,
  recurrent: SEQUENCE,
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


# The twin rounds sums in float32, the file whole numbers: a value halfway between two steps may fall
# on either side, by the machine. What follows can widen that step, as the square and the reciprocal
# root of a normalisation do: 2 steps in rare outputs, and far from half a step on average.
LARGEST_STEPS, MEAN_STEPS = 2.5, 0.4


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
  differences = steps_apart(exported.tflite_int8.path, twin, inputs)
  assert max(one.max() for one in differences) < LARGEST_STEPS
  assert max(one.mean() for one in differences) < MEAN_STEPS


@pytest.mark.exhaustive
@pytest.mark.parametrize(
  'body',
  [body for body in NETS if body not in (two_outputs, u_net)],
  ids=lambda body: body.__name__,
)
def test_tfmot_refuses_these_networks(body):
  quantization = pytest.importorskip('tensorflow_model_optimization').quantization.keras
  with pytest.raises((AttributeError, RuntimeError, ValueError)):
    quantization.quantize_model(made(body)[0])


def steps_apart(path, twin, inputs):
  """How far a file's outputs are from the twin's, in steps of each output."""
  file = TFLiteModel(path)
  pairs = zip(nested.parts(file.predict(inputs)), nested.parts(twin(inputs)), strict=True)
  return [
    np.abs(found - wanted) / step
    for (found, wanted), step in zip(pairs, file.output_steps, strict=True)
  ]


@keras.utils.register_keras_serializable('tests')
class Halving(L.Layer):
  """A layer of the user's with weights, whose Python has a loop over tensors if it shall."""

  def __init__(self, loops, **kwargs):
    super().__init__(**kwargs)
    self.loops = loops

  def build(self, shape):
    self.kernel = self.add_weight('kernel', (shape[-1], 4))
    self.norm = L.LayerNormalization()
    super().build(shape)

  def call(self, inputs):
    x = self.norm(tf.tensordot(inputs, self.kernel, 1))
    for _ in tf.range(2) if self.loops else range(2):
      x = x * 0.5
    return x

  def get_config(self):
    return {**super().get_config(), 'loops': self.loops}


def own_layer(loops):
  keras.utils.set_random_seed(0)
  inputs = L.Input((6, 8))
  return keras.Model(inputs, L.Dense(3)(L.Flatten()(Halving(loops)(inputs))))


@pytest.mark.parametrize('loops', [False, True])
def test_layers_of_the_users_are_opened_unless_they_loop(loops, tmp_path):
  model, inputs = own_layer(loops), np.random.default_rng(0).normal(size=(32, 6, 8))
  twin = quantized_twin(model)
  calibrate(twin, inputs.astype(np.float32))
  exported = export_model(model, tmp_path / 'm', quantized=twin, parity_images=inputs, formats=())
  assert exported.tflite_int8.parity.max_diff_steps < 1.5
  assert [('compute in float32' in note) for note in exported.notes] == [True] * loops


def test_each_tensor_has_its_own_range_whatever_layers_are_called():
  """The second result of a layer norm is no first one of norm_1, and a layer may be called input."""
  x = inputs = keras.Input((6, 8))
  for name in ('norm', 'norm_1', 'norm_2', 'input'):
    x = L.Dense(8)(L.LayerNormalization(name=name)(x))
  (layer,) = simulations(quantized_twin(keras.Model(inputs, x)))
  names = [rule.name for rule in layer.plan.rules.values() if rule.name]
  assert len(names) == len(set(names)) == len(layer._roundings)


def test_a_hard_swish_is_one_operator_in_whatever_order_it_is_written(tmp_path):
  x = inputs = L.Input((6, 6, 3))
  one = L.Conv2D(4, 3)(x)
  one = L.ReLU(6.0)(3.0 + one) * (1.0 / 6.0) * one
  one = (one * tf.nn.relu6(one + 3)) / 6
  other = one * tf.nn.relu6(one + 2) / 6
  model = keras.Model(inputs, L.Add()([one, other]))
  twin = quantized_twin(model)
  images = np.random.default_rng(0).normal(size=(8, 6, 6, 3)).astype(np.float32)
  calibrate(twin, images)
  exported = export_model(model, tmp_path / 'm', quantized=twin, parity_images=images, formats=())
  kinds = [op.kind for op in OpenFile(exported.tflite_int8.path.read_bytes()).operators]
  assert kinds.count('HARD_SWISH') == 2
  assert steps_apart(exported.tflite_int8.path, twin, images)[0].max() < LARGEST_STEPS


def test_a_bias_is_in_steps_of_input_and_kernel():
  kernel, offset = np.float32([[1.27, -12.7], [0.5, 2]]), np.float32([0.0123, 0.26])
  np.testing.assert_allclose(rounded_offset(offset, kernel, 0.5), [0.010, 0.25], rtol=1e-5)


def test_zeros_and_ends_of_kernels():
  kernel = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
  kernel[::2] = 0
  kernel[:, 3] = 0
  with tf.GradientTape() as tape:
    given = tf.constant(kernel)
    tape.watch(given)
    found = rounded_kernel(given)
  steps = np.abs(kernel).max(0) / 127
  whole = found / np.where(steps, steps, 1)
  np.testing.assert_allclose(whole, np.round(whole), atol=1e-4)
  np.testing.assert_array_equal(np.abs(np.round(whole)).max(0), [127, 127, 127, 0])
  assert np.abs(found - kernel).max() <= steps.max() * 0.501
  assert not np.any(found.numpy()[kernel == 0])
  np.testing.assert_array_equal(tape.gradient(found, given), np.ones_like(kernel))


def test_what_follows_a_kernel_is_folded_into_it():
  """A normalisation, a factor and an offset after a convolution: one product, one range."""
  x = inputs = L.Input((4, 4, 3))
  x = L.BatchNormalization(name='norm')(L.Conv2D(5, 3, name='conv')(x))
  model = keras.Model(inputs, L.ReLU(name='end')(x * 2.0 - 1.0))
  for weight in model.weights:
    weight.assign(np.random.default_rng(0).uniform(0.5, 1.5, weight.shape))
  (layer,) = simulations(quantized_twin(model))
  assert sorted(rule.name for rule in layer.plan.rules.values()) == ['end', 'input']
  kernels = layer.plan.constants(rounded=False)
  (kernel,) = (value for (kind, _), value in kernels.items() if kind == 'kernel')
  (offset,) = (value for (kind, _), value in kernels.items() if kind == 'offset')
  norm, conv = model.get_layer('norm'), model.get_layer('conv')
  scale = norm.gamma / np.sqrt(norm.moving_variance + norm.epsilon)
  np.testing.assert_allclose(kernel, np.reshape(conv.kernel * scale, (27, 5)) * 2, rtol=1e-5)
  expected = ((conv.bias - norm.moving_mean) * scale + norm.beta) * 2 - 1
  np.testing.assert_allclose(offset, expected, rtol=1e-4)


def test_rounding_is_that_of_tfmot_where_it_has_one():
  """Kernels with a step for each channel, symmetric and without -128; activations from a range."""
  quantizers = pytest.importorskip('tensorflow_model_optimization').quantization.keras.quantizers
  rng = np.random.default_rng(0)
  kernel = tf.constant(rng.normal(size=(3, 3, 4, 6)).astype(np.float32))
  values = tf.constant(rng.normal(size=(50, 5)).astype(np.float32))
  holder = L.Dense(1)
  for tensor, options, ours in (
    (kernel, {'symmetric': True, 'narrow_range': True}, rounded_kernel),
    (values, {'symmetric': False, 'narrow_range': False}, rounded_constant),
  ):
    per_axis = ours is rounded_kernel
    theirs = quantizers.LastValueQuantizer(num_bits=8, per_axis=per_axis, **options)
    weights = theirs.build(tensor.shape, 'tensor', holder)
    wanted = theirs(tensor, training=True, weights=weights)
    rows = tf.reshape(tensor, [-1, tensor.shape[-1]])
    found = tf.reshape(ours(rows), tensor.shape)
    step = np.ptp(tensor) / 255
    np.testing.assert_allclose(found, wanted, atol=1e-5 * step)
