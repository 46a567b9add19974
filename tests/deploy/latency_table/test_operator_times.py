"""Operators of a .tflite file, each timed as a separate file."""

import json

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from secateurs.utils.deploy.files.convert import tflite_bytes
from secateurs.utils.deploy.int8.opened import OpenFile
from secateurs.utils.deploy.latency_table.operator_times import (
  OperatorTime,
  operator_times,
  slowest,
  write_node_times,
)
from secateurs.utils.deploy.runtime.interpreter import TFLiteModel

L = keras.layers


@pytest.fixture(scope='module')
def network():
  inputs = keras.Input((16, 16, 3))
  x = y = L.Conv2D(32, 3, activation='relu', padding='same')(inputs)
  x = L.Add()([L.Conv2D(32, 3, padding='same')(x), y])
  return keras.Model(inputs, L.Dense(4)(L.GlobalAveragePooling2D()(x)))


def test_operators_alone_compute_what_they_compute_in_the_file(network, tmp_path):
  file, known = OpenFile(tflite_bytes(network)), {}
  images = np.random.default_rng(0).normal(size=(1, 16, 16, 3)).astype(np.float32)
  known[file.inputs[0]] = images
  for op in file.operators:
    path = tmp_path / f'{op.number}.tflite'
    path.write_bytes(file.alone(op))
    read = [n for n in dict.fromkeys(op.inputs) if n >= 0 and not file.is_constant(n)]
    given = [known[number] for number in read]
    (known[op.outputs[0]],) = [TFLiteModel(path).predict(given[0] if len(given) == 1 else given)]
  np.testing.assert_allclose(known[file.outputs[0]], network(images), atol=1e-5)


def test_times_of_all_operators_the_slowest_first(network, tmp_path):
  content = tflite_bytes(network)
  found = operator_times(content)
  file = OpenFile(content)
  assert [(one.tensor, one.kind) for one in found] == [
    (file.name(op.outputs[0]), op.kind) for op in file.operators
  ]
  assert max(found, key=lambda one: one.ms).kind == 'CONV_2D'
  assert 'CONV_2D' in slowest(found, 1)[0]
  written = json.loads(write_node_times(found, tmp_path).read_text())['results']
  assert written[found[0].tensor] == {'value': found[0].ms}


def test_what_cannot_run_alone_is_left_out():
  @tf.function(input_signature=[tf.TensorSpec([4, 3], tf.float32)])
  def looped(x):
    for _ in tf.range(tf.cast(x[0, 0], tf.int32)):
      x = tf.nn.relu(x) * 2
    return tf.tanh(x)

  converter = tf.lite.TFLiteConverter.from_concrete_functions([looped.get_concrete_function()])
  content = converter.convert()
  kinds = [one.kind for one in operator_times(content)]
  assert 'TANH' in kinds
  assert 'WHILE' in [op.kind for op in OpenFile(content).operators]
  assert 'WHILE' not in kinds


def test_parts_of_the_sum():
  times = [OperatorTime('abc;b/c', 'ADD', 0.25), OperatorTime('d', 'CONV_2D', 0.75)]
  assert slowest(times)[0].split() == ['0.7500', 'ms', '75.0', '%', 'CONV_2D', 'd']
  assert slowest(times)[1].split()[-1] == 'abc'
  assert len(slowest(times, 1)) == 1
