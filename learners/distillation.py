"""The teacher of a run, and the objective that learns from labels and, if asked, from it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import tensorflow as tf
import tf_keras as keras

from secateurs.utils.config import Default
from secateurs.utils.errors import UserError
from secateurs.utils.graph.slicing.classifier import as_classifier
from secateurs.utils.training import distributed
from secateurs.utils.training.checkpoints import CheckpointStore
from secateurs.utils.training.objectives import Classification
from secateurs.utils.training.weights import (
  assign_weights,
  load_model,
  named_weights,
)

if TYPE_CHECKING:
  from secateurs.learners.abstract_learner import Learner

_MODEL_ENDINGS = ('.keras', '.h5', '.hdf5')
_MAX_BYTES = 1 << 30


def classification(
  learner: Learner, baseline: Path | None, model: keras.Model | None = None
) -> Classification:
  """Cross-entropy of a model, or the user's loss, with distillation if --enbl_dst is set.

  Args:
    learner: whose run it is.
    baseline: .keras file of the network before compression, the teacher if there is no other.
    model: what is trained; default: the learner's model.

  Raises:
    UserError: there is no teacher, or it gives other classes.
  """
  config, model = learner.distill_config, model or learner.model
  if not config.enbl_dst:
    return Classification(model, criteria=learner.helper.criteria)
  if learner.teacher is None:
    learner.teacher = load_teacher(learner, baseline)
  teacher = learner.teacher
  classes = teacher.output_shape[-1], model.output_shape[-1]
  if classes[0] != classes[1]:
    raise UserError(
      f'The teacher of --enbl_dst gives {classes[0]} classes, but the network gives {classes[1]}: '
      'give a teacher of the same data set with --save_path_dst.'
    )
  return Classification(
    model,
    criteria=learner.helper.criteria,
    teacher=teacher,
    weight=config.loss_w_dst,
    temperature=config.tempr_dst,
  )


def remembered(
  objective: Classification, batches: tf.data.Dataset, nb_batches: int
) -> tf.data.Dataset:
  """The first batches of a stream, for training on the same ones again and again.

  They stay in memory, with the teacher's logits for them where there is a teacher, so that nothing is
  loaded, augmented or asked twice. Batches that would take more than 1 GiB come anew each time.

  Args:
    objective: of the trainings.
    batches: of (images [n, h, w, c], labels [n]), all of one size.
    nb_batches: how many.
  """
  first = batches.take(nb_batches)
  images, _ = next(iter(batches))
  if nb_batches * images.shape.num_elements() * images.dtype.size > _MAX_BYTES:
    return first
  if (teacher := objective.teacher) is not None:
    first = first.map(lambda images, labels: (images, labels, teacher(images, training=False)))
  first = first.cache()
  for _ in first:  # A cache counts once it has been read to its end.
    pass
  return first


def load_teacher(learner: Learner, baseline: Path | None) -> keras.Model:
  """The teacher, frozen, in the precision of the training.

  --save_path_dst may be a whole model of any architecture (.keras, .h5) or a checkpoint prefix of
  the same network; where none is named and nothing lies there, the baseline teaches.
  """
  is_named = not isinstance(learner.distill_config.save_path_dst, Default)
  path = learner.path(learner.distill_config, 'save_path_dst')
  is_saved_model = distributed.from_chief((path / 'saved_model.pb').is_file)
  if path.suffix in _MODEL_ENDINGS or is_saved_model:
    source, teacher = path, as_classifier(load_model(path))[0]
  elif is_named or CheckpointStore(path).latest() is not None:
    source, teacher = path, learner.helper.build_model(learner.run_config.seed)
    assign_weights(named_weights(teacher), learner.read_weights(path), str(path))
  elif baseline is not None:
    source, teacher = baseline, as_classifier(load_model(baseline))[0]
  else:
    raise UserError(
      f'--enbl_dst needs a teacher, but nothing lies at {path}: give one with --save_path_dst.'
    )
  learner.say(f'Teacher: {source}')
  teacher.trainable = False
  return learner.in_training_precision(teacher)
