"""What a report shows of single evaluation samples, before and after."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from secateurs.learners.run.files import RunFiles
from secateurs.learners.run.settings import Settings
from secateurs.utils import nested
from secateurs.utils.graph.counts.memory import inference_batch
from secateurs.utils.graph.flat.walk import flatten_model
from secateurs.utils.training.models.weights import load_model
from secateurs.utils.training.tasks.pictures import NB_PANELS, Picture

_BATCH = 50
_MAX_BYTES = 64 << 20  # Of inputs, targets and one model's outputs.


def pictures(settings: Settings, files: RunFiles) -> list[Picture]:
  """The task's pictures of the first evaluation samples, by the original and the exported model.

  Of as many samples as the task shows, or as 64 MB hold, but of 6 at the least.

  Args:
    settings: data and task.
    files: where the models are; without them there are no pictures.
  """
  helper, exported = settings.helper, files.exported().get('keras')
  if not helper.task.draws or exported is None or not files.original_keras.is_file():
    return []
  most = helper.task.nb_drawn
  run, batch = _runner(settings, files.original_keras, most)
  parts, before, held, count = [], [], 0, 0
  for inputs, targets, *_ in helper.eval_batches('eval', batch):
    part = nested.rows(nested.as_numpy((inputs, targets)), slice(most - count))
    parts.append(part)
    before.append(run(part[0]))
    count += nested.size(part)
    held += sum(one.nbytes for one in nested.parts((part, before[-1])))
    if count >= most or (held >= _MAX_BYTES and count >= NB_PANELS):
      break
  run, _ = _runner(settings, exported, most)
  after = nested.joined([run(inputs) for inputs, _ in parts])
  inputs, targets = nested.joined(parts)
  return list(helper.task.pictures(inputs, targets, nested.joined(before), after))


def _runner(settings: Settings, path: Path, most: int) -> tuple[Callable[[Any], Any], int]:
  """A model's outputs as arrays, and how many samples to run at once."""
  model = settings.helper.task.trained(load_model(path))

  def run(inputs: Any) -> Any:
    found = nested.as_numpy(model(inputs, training=False))
    return nested.one_or_all(nested.parts(found))

  return run, inference_batch(flatten_model(model), min(_BATCH, most))
