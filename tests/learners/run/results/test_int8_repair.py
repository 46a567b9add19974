"""What an int8 file is judged by while it is repaired."""

import numpy as np
import pytest
import tf_keras as keras

from secateurs.learners.run.results import int8_repair
from secateurs.learners.run.results.int8_repair import FileJudge
from secateurs.utils.deploy import tflite_bytes
from secateurs.utils.training.tasks.classification import Classification


def test_a_file_is_scored_on_the_samples_alone(monkeypatch):
  keras.utils.set_random_seed(0)
  model = keras.Sequential([keras.Input((5,)), keras.layers.Dense(3)])
  task = Classification(3)
  inputs = (
    np.random.default_rng(0).normal(size=(40, 5)).astype(np.float16)
  )  # As large ones are kept.
  decided = model(inputs.astype(np.float32)).numpy().argmax(-1)
  targets = np.where(np.arange(40) < 10, (decided + 1) % 3, decided).astype(np.int32)
  judge, sizes = FileJudge(inputs, targets, task, 1), []
  monkeypatch.setattr(int8_repair, '_BATCH', 16)
  totals = task.totals
  monkeypatch.setattr(task, 'totals', lambda *given: sizes.append(len(given[0])) or totals(*given))
  whole = tflite_bytes(task.deployable(model))
  assert judge.score(whole).value == pytest.approx(0.75)
  assert judge.drop(whole, whole) == 0
  assert sizes == [16, 16, 8]  # Never the outputs of all samples at once.
  model.layers[0].kernel.assign(0 * model.layers[0].kernel)
  model.layers[0].bias.assign([1.0, 0.0, 0.0])
  always = tflite_bytes(task.deployable(model))
  assert judge.drop(whole, always) == pytest.approx(0.75 - np.mean(targets == 0))
