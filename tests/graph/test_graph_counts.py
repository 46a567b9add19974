"""Counts: by hand, published, TensorFlow's profiler, and what a TFLite file holds."""

import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from secateurs.utils.errors import UserError
from secateurs.utils.graph import LayerCount, count

sys.path.insert(0, str(Path(__file__).parents[2] / 'scripts'))
L = keras.layers


def test_golden_table():
  x = keras.Input((8, 8, 3))
  y = L.Conv2D(4, 3, padding='same', name='conv')(x)  # 64 * 4 * 27
  y = L.BatchNormalization(name='bn')(y)
  y = L.DepthwiseConv2D(3, depth_multiplier=2, name='dw')(y)  # 36 * 8 * 9
  y = L.SeparableConv2D(5, 3, use_bias=False, name='sep')(y)  # 16 * (8 * 9 + 8 * 5)
  y = L.Conv2D(10, 1, groups=5, name='grouped')(y)  # 16 * 10 * 1
  y = L.Conv2DTranspose(2, 3, strides=2, name='up')(y)  # 16 * 10 * 2 * 9
  shared = L.Dense(2, name='shared')  # 81 * 2 * 2, twice
  model = keras.Model(x, shared(shared(y)))
  assert count(model).layers == [
    LayerCount('conv', 'Conv2D', 3, 4, 6912, 112),
    LayerCount('bn', 'BatchNormalization', 4, 4, 0, 16),
    LayerCount('dw', 'DepthwiseConv2D', 4, 8, 2592, 80),
    LayerCount('sep', 'SeparableConv2D', 8, 5, 1792, 112),
    LayerCount('grouped', 'Conv2D', 5, 10, 160, 20),
    LayerCount('up', 'Conv2DTranspose', 10, 2, 2880, 182),
    LayerCount('shared', 'Dense', 2, 2, 648, 6),
  ]
  total = count(model)
  assert (total.macs, total.params) == (14984, model.count_params())
  assert total.layer('up').macs == 2880
  with pytest.raises(KeyError):
    total.layer('down')


@pytest.mark.parametrize(('name', 'published'), [('MobileNet', 569e6), ('MobileNetV2', 300e6)])
def test_published_figures(name, published):
  assert count(getattr(keras.applications, name)(weights=None)).macs == pytest.approx(
    published, rel=0.005
  )


@pytest.mark.slow
@pytest.mark.parametrize(('name', 'published'), [('ResNet50', 3.858e9), ('VGG16', 15.5e9)])
def test_published_figures_of_large_nets(name, published):
  model = getattr(keras.applications, name)(weights=None)
  assert count(model).macs == pytest.approx(published, rel=0.002)


def profiled_flops(model):
  from tensorflow.python.framework import ops
  from tensorflow.python.framework.convert_to_constants import (
    convert_variables_to_constants_v2_as_graph,
  )

  spec = [tf.TensorSpec((1, *t.shape[1:]), tf.float32) for t in model.inputs]
  function = tf.function(lambda x: model(x, training=False)).get_concrete_function(*spec)
  _, graph_def = convert_variables_to_constants_v2_as_graph(function)
  wanted = {'Conv2D', 'MatMul', 'BatchMatMulV2', 'DepthwiseConv2dNative'}
  with tf.Graph().as_default() as graph:
    tf.graph_util.import_graph_def(graph_def, name='')
    # The statistics that tf.profiler registers for each operation.
    return sum(
      int(ops.get_stats_for_node_def(graph, op.node_def, 'flops').value)
      for op in graph.get_operations()
      if op.type in wanted
    )


@pytest.mark.parametrize('seed', range(4))
def test_profiler_and_tflite_agree_on_random_nets(seed):
  from check_architectures import run_tflite

  rng = np.random.default_rng(seed)
  x = keras.Input((int(rng.integers(9, 16)), int(rng.integers(9, 16)), 3))
  y = x
  for _ in range(5):
    padding = str(rng.choice(['same', 'valid']))
    stride, width = int(rng.integers(1, 3)), int(rng.integers(2, 9))
    if min(y.shape[1:3]) < 4:
      padding, stride = 'same', 1
    kind = rng.integers(3)
    if kind == 0:
      y = L.DepthwiseConv2D(3, stride, padding, depth_multiplier=int(rng.integers(1, 3)))(y)
    elif kind == 1:
      y = L.SeparableConv2D(width, 3, stride, padding)(y)
    else:
      y = L.Conv2D(width, 3, stride, padding, activation='relu')(y)
  model = keras.Model(x, L.Dense(5)(L.Flatten()(y)))
  macs = count(model).macs
  assert profiled_flops(model) == 2 * macs
  images = rng.normal(size=(1, *x.shape[1:])).astype(np.float32)
  logits, in_file = run_tflite(model, images)
  assert in_file == macs
  np.testing.assert_allclose(logits, model(images), rtol=1e-3, atol=1e-4)


def test_open_sizes_need_a_shape():
  x = keras.Input((None, None, 3))
  model = keras.Model(x, L.Conv2D(4, 3, padding='same', name='c')(x))
  with pytest.raises(UserError, match='pass input_shape'):
    count(model)
  assert count(model, (8, 8, 3)).macs == 64 * 4 * 27


def test_nested_models_count_at_the_size_they_are_used_at():
  inner_in = keras.Input((None, None, 3))
  inner = keras.Model(inner_in, L.Conv2D(4, 3, padding='same', name='c')(inner_in), name='inner')
  x = keras.Input((8, 8, 3))
  model = keras.Model(x, L.Dense(2, name='d')(L.GlobalAveragePooling2D()(inner(x))))
  assert count(model).macs == 64 * 4 * 27 + 4 * 2
  assert count(model, (16, 16, 3)).macs == 256 * 4 * 27 + 4 * 2
  two = keras.Model([x, inner_in], [inner(x), inner(inner_in)])
  with pytest.raises(UserError, match='has 2 inputs'):
    count(two, (8, 8, 3))
