"""How far a compressed network is from the original, where there are no labels to judge both by."""

from __future__ import annotations

import numpy as np
import tf_keras as keras

from secateurs.learners.run.settings import Settings
from secateurs.utils import nested
from secateurs.utils.training import distributed


def divergence(settings: Settings, original: keras.Model, compressed: keras.Model) -> float:
  """Mean divergence of the outputs over the evaluation samples.

  Args:
    settings: data and task.
    original: float32 network before compression.
    compressed: float32 network afterwards.
  """
  task, size = settings.helper.task, settings.helper.recipe.batch_size_eval

  def measured() -> float:
    total, number = 0.0, 0
    for inputs, *_ in settings.helper.eval_batches('eval', size):
      before, after = (
        nested.as_numpy(net(inputs, training=False)) for net in (original, compressed)
      )
      found = np.asarray(task.divergence(before, after))
      total, number = total + float(found.sum()), number + found.size
    return total / max(number, 1)

  return distributed.from_chief(measured)


def note(settings: Settings, value: float) -> str:
  """What a report says of it, and of what was learned from."""
  taught = settings.distillation.enbl_dst
  learned = (
    "Training learned from the original's outputs alone (distillation)."
    if taught
    else "Training learned from the original's decisions; --enbl_dst learns from its outputs."
  )
  return (
    "The compressed network's outputs diverge from the original's by "
    f'{value:.4g} on average over the evaluation samples. {learned}'
  )
