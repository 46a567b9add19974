"""The last step before measuring: batch-norm statistics that belong to the final weights.

Moving averages follow the weights with a delay of 1 / (1 - momentum) steps. After a training that is
short against it, they are those of a network that is no more. They are re-estimated on training images,
and taken where the network scores better with them on images held out of the training (`judging`).
"""

from __future__ import annotations

import dataclasses

import tf_keras as keras

from secateurs.learners.run.console import say, with_eta
from secateurs.learners.run.helper import Helper
from secateurs.learners.run.settings import Settings
from secateurs.learners.run.state import BatchNormState
from secateurs.learners.run.training.judging import Judge, judging_samples, judging_split
from secateurs.utils import nested
from secateurs.utils.graph.counts.memory import inference_batch
from secateurs.utils.graph.flat.walk import flatten_model
from secateurs.utils.training import distributed
from secateurs.utils.training.models.batch_norm import batch_norms, reestimate
from secateurs.utils.training.tasks.scores import Score

PHASE = 'bn_reestimate'
_NB_SAMPLES, _NB_JUDGED = 12_800, 2000


def note(found: BatchNormState, score: Score) -> str:
  """A sentence for the reader of the report.

  Args:
    found: the outcome.
    score: any score of the network, for its name and unit.
  """
  before, after = (dataclasses.replace(score, value=v) for v in (found.before, found.after))
  done = 'taken' if found.taken else 'not taken'
  where = 'held-out' if found.held_out else 'training'
  return (
    f'Batch-norm statistics re-estimated on {found.nb_samples} training samples were {done}: '
    f'{after} in place of {before} on {found.nb_judged} {where} samples.'
  )


def nb_images(helper: Helper) -> int:
  """Images that the network is run on: to re-estimate, and twice to judge."""
  nb_judged = min(_NB_JUDGED, helper.nb_samples(judging_split(helper)))
  return min(_NB_SAMPLES, helper.nb_samples('train')) + 2 * nb_judged


def reestimate_where_better(
  settings: Settings, model: keras.Model, batch_size: int
) -> BatchNormState | None:
  """Re-estimates a network's statistics, and undoes what does not score better.

  Args:
    settings: data and task.
    model: changed in place.
    batch_size: samples of a batch of one process.

  Returns:
    What was decided; None, where nothing was done, for a network without batch normalisation that
    moves.
  """
  moving = [weight for layer in batch_norms(model) for weight in layer.non_trainable_weights]
  if not moving:
    return None
  helper = settings.helper
  inputs, targets = judging_samples(helper, _NB_JUDGED)
  judge = Judge(model, inputs, targets, helper.task)
  batch_size = inference_batch(flatten_model(model), batch_size)
  nb_samples = min(_NB_SAMPLES, helper.nb_samples('train'))
  nb_batches = max(nb_samples // (batch_size * distributed.size()), 1)
  batches = helper.train_batches(
    batch_size, settings.stream_seed(PHASE), augment='none', shard=distributed.shard()
  )
  before, saved = judge(), [weight.numpy() for weight in moving]
  images = (batch[0] for batch in batches.take(nb_batches))
  reestimate(model, with_eta(images, nb_batches, PHASE))
  after = judge()
  taken = after.score.goodness > before.score.goodness
  if not taken:
    for weight, value in zip(moving, saved, strict=True):
      weight.assign(value)
  found = BatchNormState(
    before.score.value,
    after.score.value,
    taken,
    nb_batches * batch_size * distributed.size(),
    nested.size(inputs),
    judging_split(helper) == 'val',
  )
  say(note(found, after.score))
  return found
