"""What an int8 file is judged by while it is repaired: the task's score on samples of no test."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tf_keras as keras

from secateurs.learners.run.console import say, with_eta
from secateurs.learners.run.results.int8_layers import divergence, layer_names
from secateurs.learners.run.settings import Settings
from secateurs.learners.run.training.judging import judging_samples, widened
from secateurs.utils import nested
from secateurs.utils.deploy.int8.repair import Repairer
from secateurs.utils.deploy.int8.steps import parsed_steps
from secateurs.utils.deploy.runtime.interpreter import TFLiteModel
from secateurs.utils.training.tasks.evaluation import evaluate_function
from secateurs.utils.training.tasks.scores import Score
from secateurs.utils.training.tasks.task import Task

_NB_SAMPLES, _BATCH = 2000, 64


def repairer(settings: Settings, model: keras.Model) -> Repairer | None:
  """What repairs the int8 file of a run; None where nothing is to be repaired.

  Args:
    settings: flags, data and task.
    model: as it is trained, float32.
  """
  steps = parsed_steps(settings.run.int8_repair)
  if not steps or not settings.run.wants_int8:
    return None
  helper = settings.helper
  inputs, targets = judging_samples(helper, _NB_SAMPLES)
  judge = FileJudge(inputs, targets, helper.task, max(settings.run.threads))
  return Repairer(
    steps,
    judge.drop,
    settings.run.max_drop,
    layer_names(model),
    divergence(helper),
    say,
    with_eta,
  )


class FileJudge:
  """Scores .tflite files on some samples, in this process alone."""

  def __init__(self, inputs: Any, targets: Any, task: Task, threads: int) -> None:
    """Keeps `inputs` [n, ...], `targets` [n, ...], the task and the interpreter's threads."""
    self._inputs, self._targets, self._task = inputs, targets, task
    self._threads = threads
    self._known: dict[int, Score] = {}

  def drop(self, original: bytes, changed: bytes) -> float:
    """How much worse a file scores than another.

    Of a score in percent as a fraction of 1, of another as a fraction of the original's value.
    """
    before, after = self.score(original), self.score(changed)
    unit = 1.0 if before.unit == 'percent' else max(abs(before.value), 1e-12)
    return (before.goodness - after.goodness) / unit

  def score(self, content: bytes) -> Score:
    """The task's score of a file."""
    key = hash(content)
    if key not in self._known:
      with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / 'judged.tflite'
        path.write_bytes(content)
        file = TFLiteModel(path, self._threads)
        found = evaluate_function(
          lambda inputs: self._task.trained_outputs(file.predict(widened(inputs))),
          self._batches(),
          self._task,
          alone=True,
        )
      self._known[key] = found.score
    return self._known[key]

  def _batches(self) -> Iterator[tuple[Any, Any]]:
    """The samples, few at a time: outputs may be maps."""
    for start in range(0, nested.size(self._inputs), _BATCH):
      yield nested.rows((self._inputs, self._targets), slice(start, start + _BATCH))
