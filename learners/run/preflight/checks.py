"""What stands in the way of a run, as far as it can be known before any work: one sentence each."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import tf_keras as keras

from secateurs.learners.run.files import RunFiles
from secateurs.learners.run.settings import Settings
from secateurs.learners.run.training import distillation
from secateurs.utils.config import Default
from secateurs.utils.errors import UserError
from secateurs.utils.processor import check_bfloat16
from secateurs.utils.training import distributed
from secateurs.utils.training.models.quantization import quantized_twin

# Bytes on disk for each byte of weights: the last and the newest checkpoint with the optimizer's slots
# and masks, the original's files, and the exported ones.
_DISK_FACTOR, _DISK_MARGIN = 16, 20 << 20

Check = Callable[[], None]
"""Raises a UserError where it finds something."""


def problems(checks: Iterable[Check]) -> Iterator[str]:
  """The sentences of all checks that find something."""
  for check in checks:
    try:
      check()
    except UserError as error:
      yield str(error)


def require_none(found: Iterable[str]) -> None:
  """Refuses a run that something stands in the way of.

  Raises:
    UserError: with all sentences, each on a line if there are several.
  """
  found = list(dict.fromkeys(found))
  if len(found) == 1:
    raise UserError(found[0])
  if found:
    listed = '\n'.join(f'  - {sentence}' for sentence in found)
    raise UserError(f'{len(found)} things stand in the way of this run:\n{listed}')


def require_effect(settings: Settings, without_effect: Mapping[str, str]) -> None:
  """Checks that no flag is given that the learner does nothing with.

  Args:
    settings: of the run.
    without_effect: fields of RunConfig that have no effect, each with what to do instead.

  Raises:
    UserError: one is.
  """
  for name, remedy in without_effect.items():
    value = getattr(settings.run, name)
    if value is not None:
      raise UserError(f'--{name} {value} has no effect on {settings.learner}: {remedy}.')


def require_batch(settings: Settings) -> None:
  """Checks that a batch that was asked for is no larger than the data set.

  Raises:
    UserError: it is.
  """
  size, nb_samples = settings.training.batch_size, settings.helper.nb_samples('train')
  if size is not None and size * distributed.size() > nb_samples:
    raise UserError(
      f'--batch_size {size} times {distributed.size()} process(es) is more than the {nb_samples} '
      f'training samples of {settings.helper.dataset.name}: set it to '
      f'{nb_samples // distributed.size()} or less.'
    )


def require_precision(settings: Settings) -> None:
  """Checks that the processor can train in bfloat16, where that was forced.

  Raises:
    UserError: it cannot.
  """
  if settings.bf16:
    check_bfloat16()


def require_averages(settings: Settings, nb_steps: int) -> None:
  """Checks that there is a training whose weights can be averaged, where that was asked for.

  Args:
    settings: of the run.
    nb_steps: of compression's last training.

  Raises:
    UserError: there is none.
  """
  kind = settings.training.average_ft
  if kind != 'none' and not nb_steps:
    raise UserError(
      f"--average_ft {kind} averages the weights of compression's last training, but "
      f'{settings.learner} has none with these flags: leave it out, or train longer (--nb_epochs_ft).'
    )


def require_disk(model: keras.Model, files: RunFiles) -> None:
  """Checks that the disk has room for checkpoints and exported files.

  Raises:
    UserError: it has not.
  """
  weights = sum(4 * weight.shape.num_elements() for weight in model.weights)
  needed = _DISK_FACTOR * weights + _DISK_MARGIN
  for folder in {_existing(files.save_path.parent), _existing(files.save_path_eval.parent)}:
    free = distributed.from_chief(lambda folder=folder: shutil.disk_usage(folder).free)
    if free < needed:
      raise UserError(
        f'{folder} has {free >> 20} MB left, but checkpoints and exported files of {model.name} take '
        f'about {needed >> 20} MB: make room, or set --run_dir to another disk.'
      )


def require_room_for_maps(folder: Path, cache: int, in_memory: int) -> None:
  """Checks that the disk takes the feature maps that do not fit into memory.

  Args:
    folder: of their files.
    cache: bytes of all.
    in_memory: bytes that memory takes.

  Raises:
    UserError: it does not.
  """
  needed = cache - in_memory
  free = distributed.from_chief(lambda: shutil.disk_usage(_existing(folder)).free)
  if needed > free:
    raise UserError(
      f'{folder} has {free >> 20} MB left, but feature maps of {needed >> 20} MB go there that do not '
      'fit into memory: make room, raise --max_memory_mb, or use fewer samples.'
    )


def require_teacher(settings: Settings, model: keras.Model) -> None:
  """Checks that the teacher that was named, if one was, can teach the network.

  Raises:
    UserError: there is none, or it cannot.
  """
  config = settings.distillation
  if config.enbl_dst and not isinstance(config.save_path_dst, Default):
    teacher = distillation.load_teacher(settings, None, quiet=True)
    distillation.objective(settings, model, teacher)


def require_8_bits(settings: Settings, model: keras.Model) -> None:
  """Checks that a network can be trained in simulated 8 bits, where that was asked for.

  Raises:
    UserError: it cannot.
  """
  if settings.quantization.enbl_qat:
    quantized_twin(settings.in_float32(model))


def _existing(folder: Path) -> Path:
  """The folder, or the nearest one above it that exists."""
  folder = folder.absolute()
  return next((path for path in (folder, *folder.parents) if path.is_dir()), Path('/'))
