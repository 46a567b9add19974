"""Recurrent networks in whole numbers: their loops are unrolled, or refused."""

import numpy as np
import pytest
import tf_keras as keras

from secateurs.utils.deploy import TFLiteModel, int8_bytes, tflite_bytes
from secateurs.utils.deploy.faults import loops
from secateurs.utils.deploy.int8.opened import OpenFile
from secateurs.utils.errors import UserError

L = keras.layers
SAMPLES = np.random.default_rng(0).normal(size=(32, 5, 3)).astype(np.float32)


def network(*layers, steps=5):
  keras.utils.set_random_seed(0)
  return keras.Sequential([keras.Input((steps, 3)), *layers, L.Flatten(), L.Dense(2)])


@pytest.mark.parametrize(
  'layer',
  [
    lambda: L.LSTM(4, return_sequences=True),
    lambda: L.GRU(4),
    lambda: L.Bidirectional(L.LSTM(3, return_sequences=True)),
    lambda: L.RNN([L.LSTMCell(3), L.SimpleRNNCell(2)]),
  ],
  ids=['LSTM', 'GRU', 'Bidirectional', 'RNN'],
)
def test_recurrent_layers_are_quantised(layer, tmp_path):
  model = network(layer())
  before, config = model(SAMPLES).numpy(), model.get_config()
  path = tmp_path / 'm.tflite'
  path.write_bytes(int8_bytes(model, SAMPLES))
  file = OpenFile(path.read_bytes())
  assert 'SPLIT' not in {op.kind for op in file.operators}
  assert np.float32 not in {file.type(number) for op in file.operators for number in op.outputs}
  found = np.concatenate([TFLiteModel(path).predict(one[np.newaxis]) for one in SAMPLES[:8]])
  assert np.abs(found - before[:8]).max() < 0.1 * np.ptp(before)
  assert model.get_config() == config
  np.testing.assert_array_equal(model(SAMPLES), before)


def test_long_sequences_are_refused(monkeypatch):
  monkeypatch.setattr(loops, 'MOST_STEPS', 4)
  with pytest.raises(UserError, match=r'has a loop .* at most 4 steps'):
    int8_bytes(network(L.LSTM(2)), SAMPLES)
  assert tflite_bytes(network(L.LSTM(2)))
