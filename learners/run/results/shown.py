"""What a report shows of single evaluation samples, before and after."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from secateurs.learners.run.files import RunFiles
from secateurs.learners.run.settings import Settings
from secateurs.utils import nested
from secateurs.utils.training.models.weights import load_model
from secateurs.utils.training.tasks.pictures import Picture

_NB_SHOWN, _BATCH = 500, 50


def pictures(settings: Settings, files: RunFiles) -> list[Picture]:
  """The task's pictures of the first evaluation samples, by the original and the exported model.

  Args:
    settings: data and task.
    files: where the models are; without them there are no pictures.
  """
  helper, exported = settings.helper, files.exported().get('keras')
  if not helper.task.draws or exported is None or not files.original_keras.is_file():
    return []
  batches = helper.eval_batches('eval', _BATCH).take(-(-_NB_SHOWN // _BATCH))
  parts = [nested.as_numpy((inputs, targets)) for inputs, targets, *_ in batches]
  inputs, targets = nested.joined(parts)
  before, after = (_outputs(settings, path, parts) for path in (files.original_keras, exported))
  return list(helper.task.pictures(inputs, targets, before, after))


def _outputs(settings: Settings, path: Path, parts: list[tuple]) -> Any:
  model = settings.helper.task.trained(load_model(path))
  found = [model(inputs, training=False) for inputs, _ in parts]
  return nested.joined([nested.one_or_all(nested.parts(nested.as_numpy(one))) for one in found])
