import numpy as np
import tensorflow as tf
import tf_keras as keras

from secateurs.nets.lenet import lenet
from secateurs.utils.training.models.precision import with_policy


def test_there_and_back_again():
  model = lenet()
  twin = with_policy(model, 'mixed_bfloat16')
  assert twin.get_layer('conv1').compute_dtype == 'bfloat16'
  assert twin.get_layer('conv1').kernel.dtype == tf.float32
  assert twin.get_layer('logits').compute_dtype == 'float32'
  back = with_policy(twin, 'float32')
  images = np.random.RandomState(0).rand(2, 32, 32, 3).astype(np.float32)
  np.testing.assert_array_equal(back(images), model(images))
  np.testing.assert_allclose(twin(images), model(images), atol=0.02)
  assert all(layer.compute_dtype == 'float32' for layer in back.layers)


def test_nested_and_sequential_models():
  inner = keras.Sequential([keras.layers.Dense(2, name='inside')], name='inner')
  outer = keras.Sequential([keras.layers.Input((3,)), inner, keras.layers.Dense(2, name='out')])
  twin = with_policy(outer, 'mixed_bfloat16')
  assert twin.get_layer('inner').get_layer('inside').compute_dtype == 'bfloat16'
  assert twin.get_layer('out').compute_dtype == 'float32'
  for a, b in zip(outer.get_weights(), twin.get_weights(), strict=True):
    np.testing.assert_array_equal(a, b)
