"""What a report shows of single samples takes no more of them than it needs."""

from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from secateurs.learners.run.results import shown
from secateurs.utils.training.tasks.regression import Regression
from secateurs.utils.training.tasks.segmentation import Segmentation

SHAPE = (4, 4, 3)


@pytest.fixture(scope='module')
def path(tmp_path_factory):
  keras.utils.set_random_seed(0)
  model = keras.Sequential([keras.Input(SHAPE), keras.layers.Conv2D(3, 1)])
  path = tmp_path_factory.mktemp('shown') / 'net.keras'
  model.save(path)
  return path


@pytest.mark.parametrize(
  ('task', 'most_bytes', 'number'),
  [
    (Segmentation(SHAPE), 1 << 20, 6),
    (Regression(SHAPE), 1 << 20, 80),
    (Regression(SHAPE), 1, 50),  # The first batch is more than it may hold.
  ],
  ids=['few panels', 'all', 'as many as fit'],
)
def test_samples_are_as_many_as_are_shown(task, most_bytes, number, path, monkeypatch):
  images = np.random.default_rng(0).normal(size=(80, *SHAPE)).astype(np.float32)
  targets = images.argmax(-1) if isinstance(task, Segmentation) else images
  data, seen = tf.data.Dataset.from_tensor_slices((images, targets)), []
  monkeypatch.setattr(shown, '_MAX_BYTES', most_bytes)
  monkeypatch.setattr(task, 'pictures', lambda *given: seen.append(given) or [])
  helper = SimpleNamespace(task=task, eval_batches=lambda split, size: data.batch(size))
  files = SimpleNamespace(exported=lambda: {'keras': path}, original_keras=path)
  assert shown.pictures(SimpleNamespace(helper=helper), files) == []
  inputs, wanted, before, after = seen[0]
  np.testing.assert_array_equal(inputs, images[:number])
  np.testing.assert_array_equal(wanted, targets[:number])
  np.testing.assert_array_equal(before, after)
  assert before.shape == (number, *SHAPE)
