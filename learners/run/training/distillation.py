"""The teacher of a run, and the objective that learns from targets and, if asked, from it."""

from __future__ import annotations

from pathlib import Path

import tensorflow as tf
import tf_keras as keras

from secateurs.learners.run.console import say
from secateurs.learners.run.given import weights_of
from secateurs.learners.run.settings import Settings
from secateurs.utils.config import Default
from secateurs.utils.errors import UserError
from secateurs.utils.training import distributed
from secateurs.utils.training.models.checkpoints import CheckpointStore
from secateurs.utils.training.models.weights import assign_weights, load_model, named_weights
from secateurs.utils.training.tasks.objectives import TaskObjective
from secateurs.utils.training.tasks.task import Batch

_MODEL_ENDINGS = ('.keras', '.h5', '.hdf5')
_MAX_BYTES = 1 << 30


def objective(
  settings: Settings, network: keras.Model, teacher: keras.Model | None
) -> TaskObjective:
  """The task's loss of a network, with distillation where there is a teacher.

  Raises:
    UserError: the teacher cannot teach this network.
  """
  task, config = settings.helper.task, settings.distillation
  if teacher is None:
    return TaskObjective(network, task)
  teacher = at_input_of(network, teacher)
  task.require_teacher(teacher, network)
  return TaskObjective(
    network,
    task,
    teacher=teacher,
    weight=config.loss_w_dst,
    temperature=config.tempr_dst,
    labelled=not settings.helper.unlabelled,
  )


def at_input_of(network: keras.Model, teacher: keras.Model) -> keras.Model:
  """The teacher on the network's inputs: images of another size are resized for it.

  Raises:
    UserError: the inputs differ in more than the size of images.
  """
  wanted, found = network.input_shape, teacher.input_shape
  if _fits(found, wanted):
    return teacher
  if not (len(wanted) == len(found) == 4 and wanted[3] == found[3]):
    raise UserError(
      f'The teacher of --enbl_dst takes inputs of shape {found[1:]}, but the network takes '
      f'{wanted[1:]}: give a teacher of the same data set with --save_path_dst.'
    )
  inputs = keras.Input(wanted[1:])
  resized = keras.layers.Resizing(found[1], found[2], dtype='float32')(inputs)
  sized = keras.Model(inputs, teacher(resized))
  sized.trainable = False
  return sized


def _fits(expected: tuple[int | None, ...], given: tuple[int | None, ...]) -> bool:
  """Whether inputs of one shape may be given where another is expected; None is any size."""
  if not (isinstance(expected, tuple) and isinstance(given, tuple)):
    return True  # Several inputs: the task sees whether they fit.
  pairs = zip(expected[1:], given[1:])
  return len(expected) == len(given) and all(a is None or a == b for a, b in pairs)


def remembered(
  objective: TaskObjective, batches: tf.data.Dataset, nb_batches: int
) -> tf.data.Dataset:
  """The first batches of a stream, for training on the same ones again and again.

  They stay in memory, with the teacher's outputs for them where there is a teacher, so that nothing is
  loaded, augmented or asked twice. Batches that would take more than 1 GiB are made again each time.

  Args:
    objective: of the trainings.
    batches: tuples as of `Batch`, all of one size.
    nb_batches: how many.
  """
  first = batches.take(nb_batches)
  inputs = tf.nest.flatten(Batch(*next(iter(batches))).inputs)
  if nb_batches * sum(x.shape.num_elements() * x.dtype.size for x in inputs) > _MAX_BYTES:
    return first
  if (teacher := objective.teacher) is not None:
    first = first.map(
      lambda *batch: Batch(*batch)._replace(taught=teacher(batch[0], training=False))
    )
  first = first.cache()
  for _ in first:  # A cache counts once it has been read to its end.
    pass
  return first


def load_teacher(settings: Settings, baseline: Path | None, *, quiet: bool = False) -> keras.Model:
  """The teacher, frozen, in the precision of the training.

  --save_path_dst may be a whole model of any architecture (.keras, .h5) or a checkpoint prefix of
  the same network; where none is named and nothing is there, the baseline teaches.

  Args:
    settings: names it.
    baseline: .keras file of the network before compression, if there is one.
    quiet: not to say where it comes from.

  Raises:
    UserError: there is no teacher.
  """
  helper = settings.helper
  is_named = not isinstance(settings.distillation.save_path_dst, Default)
  path = settings.path(settings.distillation, 'save_path_dst')
  is_saved_model = distributed.from_chief((path / 'saved_model.pb').is_file)
  if path.suffix in _MODEL_ENDINGS or is_saved_model:
    source, teacher = path, helper.task.trained(load_model(path))
  elif is_named or CheckpointStore(path).latest() is not None:
    source, teacher = path, helper.build_model(settings.run.seed)
    assign_weights(named_weights(teacher), weights_of(settings, path), str(path))
  elif baseline is not None:
    source, teacher = baseline, helper.task.trained(load_model(baseline))
  else:
    raise UserError(
      f'--enbl_dst needs a teacher, but there is nothing at {path}: give one with --save_path_dst.'
    )
  if not quiet:
    shape = teacher.input_shape
    is_image = isinstance(shape, tuple) and len(shape) == 4
    size = 'x'.join(map(str, shape[1:3])) if is_image else ''
    say(f'Teacher: {source}' + (f' (images of {size})' if size else ''))
  teacher.trainable = False
  return settings.in_training_precision(teacher)
