from types import SimpleNamespace

import numpy as np
import tf_keras as keras

from secateurs.learners.search.files import Costs, shared
from secateurs.utils.deploy import tflite_bytes


def test_weights_share_few_values_and_zeros_stay():
  weights = np.random.default_rng(0).normal(size=(3, 3, 4, 5)).astype('float32')
  weights[0] = 0
  found = shared(weights, 3)
  assert len(np.unique(found[found != 0])) <= 8
  assert np.array_equal(found == 0, weights == 0)
  assert np.square(found - weights).mean() < 0.05


def test_what_shares_few_values_already_is_left_as_it_is():
  # Sixteen values, two of which lie so near each other that k-means would merge them.
  values = np.append(np.linspace(-1, 1, 15), 0.0001 + 1 / 7).astype('float32')
  weights = np.random.default_rng(0).choice(values, size=(3, 3, 8, 8))
  assert np.array_equal(shared(weights, 4), weights)
  assert not shared(np.zeros((2, 2), 'float32'), 4).any()


def test_a_file_that_does_not_run_has_no_latency(tmp_path):
  inputs = keras.Input((4,))
  content = tflite_bytes(keras.Model(inputs, keras.layers.Dense(2)(inputs)))
  original = tmp_path / 'original.tflite'
  original.write_bytes(content)
  settings = SimpleNamespace(run=SimpleNamespace(threads=[1]))
  costs = Costs('latency', 'float', settings, original, 2.0)
  found = costs.latencies({'sound': content, 'refused': b'no file of this kind'})
  assert 0 < found['sound'] < found['refused'] == float('inf')
