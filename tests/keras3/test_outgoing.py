"""tf_keras models as models of Keras 3, which load without this project."""

import os
import subprocess
import sys

import keras as keras3
import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras
from test_incoming import LAYERS, ON_TOKENS, OPERATIONS, TOKENS, model_of

from secateurs.utils.errors import UserError
from secateurs.utils.graph import slice_model
from secateurs.utils.keras3 import save_keras3, to_keras3, to_tf_keras
from secateurs.utils.keras3.proof import prove_equal

L = keras.layers


@pytest.mark.parametrize('name', LAYERS)
def test_layers_there_and_back(name):
  model = model_of(LAYERS[name])
  prove_equal(model, to_keras3(to_tf_keras(model)), 'it')


@pytest.mark.parametrize('name', ON_TOKENS)
def test_layers_on_tokens_there_and_back(name):
  model = model_of(ON_TOKENS[name], TOKENS)
  prove_equal(model, to_keras3(to_tf_keras(model)), 'it')


@pytest.mark.parametrize('name', OPERATIONS)
def test_operations_there_and_back(name):
  model = model_of(OPERATIONS[name])
  prove_equal(model, to_keras3(to_tf_keras(model)), 'it')


FRESH = """
import sys, numpy as np, keras
x = np.load(sys.argv[1])
np.save(sys.argv[3], keras.saving.load_model(sys.argv[2])(x, training=False))
assert not any(name.startswith('secateurs') or name == 'tf_keras' for name in sys.modules)
"""


def test_files_load_with_keras_alone(tmp_path):
  x = keras.Input((8, 8, 3))
  y = L.ReLU()(L.BatchNormalization()(L.Conv2D(8, 3, padding='same', name='stem')(x)))
  z = L.Conv2D(8, 3, padding='same', name='b')(L.Conv2D(6, 3, padding='same', name='a')(y))
  y = L.Conv2D(4, 3, activation='hard_sigmoid', name='c')(tf.nn.relu6(y + z))
  model = keras.Model(x, L.Dense(3, 'softmax')(L.Flatten()(y)))
  small = slice_model(
    model, {('a', 'input'): [0, 3, 4, 7], ('c', 'input'): [2, 3, 4], 'b': [0, 2, 3, 4, 5, 7]}
  )
  path = save_keras3(small, tmp_path / 'small.keras')
  inputs = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype(np.float32)
  np.save(tmp_path / 'x.npy', inputs)
  command = [sys.executable, '-c', FRESH, tmp_path / 'x.npy', path, tmp_path / 'y.npy']
  # tfmot sets it in its own process, and TensorFlow then reaches for tf_keras in a child, too.
  env = {key: value for key, value in os.environ.items() if key != 'TF_USE_LEGACY_KERAS'}
  done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=env, check=False)
  assert done.returncode == 0, done.stderr[-2000:]
  np.testing.assert_allclose(np.load(tmp_path / 'y.npy'), small(inputs), atol=1e-6)


def test_what_has_no_counterpart(tmp_path):
  x = keras.Input((4, 4, 3))
  with pytest.raises(UserError, match=r'Operation math.bessel_i0 .* its other files are as good'):
    to_keras3(keras.Model(x, tf.math.bessel_i0(x)))
  with pytest.raises(UserError, match='is a LocallyConnected2D of tf_keras'):
    to_keras3(keras.Model(x, L.LocallyConnected2D(3, 2)(x)))
  with pytest.raises(UserError, match=r'saved as \.keras'):
    save_keras3(keras.Model(x, L.Dense(2)(x)), tmp_path / 'm.h5')


def test_a_frozen_layer_stays_frozen():
  x = keras.Input((4,))
  model = keras.Model(x, L.Dense(2, name='d')(x))
  model.layers[-1].trainable = False
  made = to_keras3(model)
  assert isinstance(made, keras3.Model)
  assert not made.get_layer('d').trainable
