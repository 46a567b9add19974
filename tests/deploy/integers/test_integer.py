"""Integer arithmetic: scales, zero points, multipliers, and whole networks against TensorFlow Lite."""

import fractions

import numpy as np
import pytest
import tf_keras as keras

from secateurs.nets.lenet import lenet
from secateurs.nets.resnet import ResNetConfig, cifar_network
from secateurs.utils.deploy import int8_bytes, tflite_bytes
from secateurs.utils.deploy.integers.algebra import (
  Multiplier,
  quantize,
  rounded_shift,
  scale_and_zero_point,
)
from secateurs.utils.deploy.integers.network import IntegerNetwork, compare_with_reference
from secateurs.utils.errors import UserError

L = keras.layers


def test_scale_and_zero_point_by_hand():
  scale, zero = scale_and_zero_point(-1.0, 3.0, 0, 255)
  assert (scale, zero) == (pytest.approx(4 / 255), 64)  # 255 - 3 * 255 / 4 = 63.75
  assert scale_and_zero_point(0.5, 2.55) == (pytest.approx(0.01), -128)  # widened to hold zero
  with pytest.raises(ValueError, match='no range'):
    scale_and_zero_point(0.0, 0.0)


def test_zero_is_exact():
  for low, high in ((-1.0, 3.0), (-0.1, 7.0), (-5.0, 0.0)):
    scale, zero = scale_and_zero_point(low, high)
    assert quantize(np.zeros(1), scale, zero, -128, 127) == zero


def test_multipliers_are_in_their_range_and_near():
  real = np.array([0.5, 0.25, 0.9999999999, 1.5, 3e-4, 1e-9])
  found = Multiplier.of(real)
  assert ((found.m0 >= 1 << 30) & (found.m0 < 1 << 31)).all()
  np.testing.assert_allclose(found.m0 / 2.0**31 * 2.0**-found.n, real, rtol=1e-9)
  assert found.n.tolist()[:2] == [0, 1]


def test_products_are_those_of_exact_fractions():
  rng = np.random.default_rng(0)
  for real in (0.37, 0.0041, 1.7):
    sums = rng.integers(-(1 << 20), 1 << 20, 200)
    exact = [fractions.Fraction(real) * int(value) for value in sums]
    found = Multiplier.of(real)(sums)
    # Two roundings: at most half a step each.
    assert max(abs(f - e) for f, e in zip(found.tolist(), exact, strict=True)) <= 1


def test_shifts_round_halves_away_from_zero():
  assert rounded_shift(np.array([2, 6, -2, -6, 5, -5]), 2).tolist() == [1, 2, -1, -2, 1, -1]


def steps_apart(model, tmp_path, images):
  path = tmp_path / 'model_int8.tflite'
  path.write_bytes(int8_bytes(model, images))
  return path, compare_with_reference(path, images[:4])


def images_of(shape, number=16):
  return np.random.default_rng(0).standard_normal((number, *shape)).astype(np.float32)


def test_lenet_is_within_one_step_of_the_reference_kernels(tmp_path):
  model, images = lenet(), images_of((32, 32, 3))
  model = keras.Model(model.inputs, L.Softmax()(model.output))
  path, found = steps_apart(model, tmp_path, images)
  assert {'CONV_2D', 'MAX_POOL_2D', 'FULLY_CONNECTED', 'SOFTMAX'} <= {one.kind for one in found}
  assert max(one.steps for one in found) <= 1
  outputs = IntegerNetwork(path).predict(images)
  assert np.abs(outputs.sum(axis=1) - 1).max() < 0.05


def test_resnet20_is_within_one_step_of_the_reference_kernels(tmp_path):
  keras.utils.set_random_seed(0)
  model = cifar_network(ResNetConfig()).build((32, 32, 3), 10)
  _, found = steps_apart(model, tmp_path, images_of((32, 32, 3), 8))
  assert {'CONV_2D', 'ADD', 'MEAN', 'FULLY_CONNECTED'} <= {one.kind for one in found}
  assert max(one.steps for one in found) <= 1
  # The mean over all tensors: one of the last layer's 40 integers is 2.5 % of them.
  assert np.mean([one.share for one in found]) < 0.01


def test_further_operators(tmp_path):
  inputs = L.Input((9, 9, 3))
  x = L.DepthwiseConv2D(3, strides=2, depth_multiplier=2, padding='same')(inputs)
  x = L.BatchNormalization()(x)
  x = L.ReLU(6.0)(x)
  x = L.ZeroPadding2D(((1, 0), (0, 1)))(x)
  x = L.AveragePooling2D(2, padding='same')(x)
  x = L.Conv2D(4, 3, dilation_rate=2, padding='same', activation='relu')(x)
  model = keras.Model(inputs, L.Dense(3)(L.Flatten()(x)))
  _, found = steps_apart(model, tmp_path, images_of((9, 9, 3)))
  kinds = {one.kind for one in found}
  assert {'DEPTHWISE_CONV_2D', 'PAD', 'AVERAGE_POOL_2D', 'RESHAPE'} <= kinds
  assert max(one.steps for one in found) <= 1


def test_grouped_convolutions(tmp_path):
  inputs = L.Input((7, 6, 4))
  x = L.Conv2D(6, 3, strides=2, padding='same', groups=2, activation='relu')(inputs)
  model = keras.Model(inputs, L.Dense(3)(L.Flatten()(x)))
  _, found = steps_apart(model, tmp_path, images_of((7, 6, 4)))
  assert 'CONV_2D' in {one.kind for one in found}
  assert max(one.steps for one in found) <= 1


def test_what_the_model_lacks_is_named(tmp_path):
  inputs = L.Input((4, 4, 2))
  model = keras.Model(inputs, L.Dense(2)(L.Flatten()(L.Activation('tanh')(inputs))))
  path = tmp_path / 'model_int8.tflite'
  path.write_bytes(int8_bytes(model, images_of((4, 4, 2))))
  with pytest.raises(UserError, match=r'operators that the integer model lacks \(TANH\)'):
    IntegerNetwork(path)
  path.write_bytes(tflite_bytes(keras.Model(inputs, L.Dense(2)(L.Flatten()(inputs)))))
  with pytest.raises(UserError, match=r'1 input\(s\), 0 of them in int8'):
    IntegerNetwork(path)
  with pytest.raises(UserError, match='does not exist'):
    IntegerNetwork(tmp_path / 'none.tflite')
  (tmp_path / 'bad.tflite').write_bytes(b'nothing')
  with pytest.raises(UserError, match=r'is no \.tflite file'):
    IntegerNetwork(tmp_path / 'bad.tflite')
