"""Exported files against Keras, layer by layer."""

import numpy as np

from secateurs.nets.lenet import lenet
from secateurs.utils.deploy import int8_bytes, tflite_bytes
from secateurs.utils.deploy.files.verification import verify


def test_each_layer_is_compared(tmp_path):
  model = lenet()
  images = np.random.default_rng(0).standard_normal((20, 32, 32, 3)).astype(np.float32)
  files = {'tflite': tmp_path / 'm.tflite', 'tflite_int8': tmp_path / 'm_int8.tflite'}
  files['tflite'].write_bytes(tflite_bytes(model))
  files['tflite_int8'].write_bytes(int8_bytes(model, images))
  found = verify(model, files, images[:4])
  for kind in files:
    assert {'relu1', 'relu2', 'relu4', 'logits'} <= {one.layer for one in found.layers[kind]}
  assert max(one.share for one in found.layers['tflite']) < 1e-4
  assert all(one.steps is None for one in found.layers['tflite'])
  assert all(0 <= one.steps < 20 for one in found.layers['tflite_int8'])
  assert found.integers
  assert max(found.integers.values()) <= 1
  wrong = lenet()  # Other weights: every layer differs.
  far = verify(wrong, {'tflite': files['tflite']}, images[:4])
  assert min(one.share for one in far.layers['tflite']) > 0.1
  assert far.integers is None
