import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from secateurs.utils import processor
from secateurs.utils.training.models.norm_kernels import suited_to_processor


def network():
  keras.utils.set_random_seed(0)
  inputs = keras.Input((None, 6, 3))
  x = keras.layers.Conv2D(5, 3, use_bias=False)(inputs)
  x = keras.layers.BatchNormalization(momentum=0.7, epsilon=1e-5)(x)
  x = keras.layers.DepthwiseConv2D(3, use_bias=False)(keras.layers.ReLU()(x))
  x = keras.layers.BatchNormalization(scale=False)(x)
  flat = keras.layers.GlobalAveragePooling2D()(x)
  return keras.Model(
    inputs, keras.layers.BatchNormalization()(keras.layers.Dense(4, use_bias=False)(flat))
  )


def operations_and_results(slowly, monkeypatch, training):
  """What a compiled pass runs, and what it gives: outputs, gradients, moving statistics."""
  monkeypatch.setattr(processor, 'normalises_slowly', lambda: slowly)
  model = network()
  images = tf.constant(np.random.default_rng(0).normal(3, 2, (7, 8, 6, 3)).astype('float32'))

  @tf.function
  def run(images):
    with tf.GradientTape() as tape, suited_to_processor():
      outputs = model(images, training=training)
      loss = tf.reduce_sum(outputs**3)
    return [outputs, *tape.gradient(loss, model.trainable_variables)]

  kinds = {op.type for op in run.get_concrete_function(images).graph.get_operations()}
  return kinds, [np.asarray(a) for a in (*run(images), *model.get_weights())]


@pytest.mark.parametrize('training', [True, False])
def test_results_are_those_of_the_fused_operation(training, monkeypatch):
  usual, expected = operations_and_results(False, monkeypatch, training)
  ours, found = operations_and_results(True, monkeypatch, training)
  assert 'FusedBatchNormV3' in usual - ours
  for a, b in zip(expected, found, strict=True):
    np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-4 * max(np.abs(a).max(), 0.1))


def test_nothing_stays_changed(monkeypatch):
  monkeypatch.setattr(processor, 'normalises_slowly', lambda: True)
  before = tf.compat.v1.nn.fused_batch_norm
  with pytest.raises(ValueError, match='stop'), suited_to_processor():
    raise ValueError('stop')
  assert tf.compat.v1.nn.fused_batch_norm is before
  layer = keras.layers.BatchNormalization()
  traced = tf.function(layer).get_concrete_function(tf.TensorSpec((1, 2, 2, 3)))
  assert 'FusedBatchNormV3' in {op.type for op in traced.graph.get_operations()}


@pytest.mark.parametrize(
  ('features', 'max_isa', 'lacks'),
  [
    ({'avx2'}, None, True),
    ({'avx2', 'avx512f'}, None, False),
    ({'avx2', 'avx512f'}, 'AVX2', True),
    ({'avx2', 'avx512f'}, 'avx512_core', False),
    ({'asimd'}, None, False),
  ],
)
def test_what_lacks_avx512(features, max_isa, lacks):
  assert processor.lacks_avx512(frozenset(features), max_isa) is lacks
