"""What a run would do, and about how long its trainings would take, without doing it."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence

import tf_keras as keras

from secateurs.learners.run.console import say
from secateurs.learners.run.phases import Phase
from secateurs.learners.run.settings import Settings
from secateurs.learners.run.training.rates import Rates
from secateurs.utils.training.engine import loop
from secateurs.utils.training.engine.progress import format_seconds
from secateurs.utils.training.tasks.objectives import TaskObjective

_WARM_UP_STEPS, _TIMED_STEPS = 2, 6


def describe(settings: Settings, phases: Sequence[Phase], done: Sequence[str]) -> None:
  """Prints the network, the flags that were set, and the phases.

  Args:
    settings: those of the run.
    phases: its steps, in order.
    done: names of those that were finished already.
  """
  helper = settings.helper
  learner = (
    settings.learner if settings.method is None else f'{settings.method} ({settings.learner})'
  )
  samples = ', '.join(f'{helper.nb_samples(split)} {split}' for split in ('train', 'val', 'eval'))
  say(f'Learner: {learner}\nNetwork: {helper.net}\nData:    {helper.dataset.name} ({samples})')
  given = [f'--{name} {value}' for name, value in _changed(settings).items()]
  say(f'Flags that differ from their defaults: {" ".join(given) or "none"}')
  for number, phase in enumerate(phases, 1):
    steps = f', {phase.nb_steps} training steps' if phase.nb_steps else ''
    state = ' (finished)' if phase.name in done else ''
    title = f': {phase.describe()}' if phase.describe() else ''
    say(f'Phase {number} of {len(phases)}, {phase.name}{title}{steps}{state}')


def estimate(
  settings: Settings, rates: Rates, model: keras.Model, phases: Sequence[Phase]
) -> float:
  """Times a few training steps, and prints what all steps of the phases would take.

  Args:
    settings: those of the run.
    rates: batch size and optimizer.
    model: the network, which changes.
    phases: what is left to do.

  Returns:
    Seconds that their training steps would take.
  """
  nb_steps = sum(phase.nb_steps for phase in phases)
  if not nb_steps:
    return 0.0
  objective = TaskObjective(model, settings.helper.task)
  step = loop.TrainStep(objective, model.trainable_variables, rates.sgd(0.0))
  batches = iter(settings.helper.train_batches(rates.batch_size, settings.stream_seed('dry_run')))
  step.run(batches, _WARM_UP_STEPS)
  began = time.perf_counter()
  step.run(batches, _TIMED_STEPS)
  seconds = (time.perf_counter() - began) / _TIMED_STEPS
  say(
    f'A training step takes {1000 * seconds:.0f} ms here ({rates.batch_size / seconds:.0f} images/s): '
    f'about {format_seconds(seconds * nb_steps)} for the {nb_steps} training steps. Choosing, '
    'evaluating, exporting and timing come on top.'
  )
  return seconds * nb_steps


def _changed(settings: Settings) -> dict[str, object]:
  """Flags whose values differ from their defaults."""
  configs = (
    *settings.helper.configs,
    settings.config,
    settings.run,
    settings.training,
    settings.distillation,
    settings.quantization,
  )
  return {
    config.flag_name(field): getattr(config, field.name)
    for config in configs
    for field in dataclasses.fields(config)
    if getattr(config, field.name) != field.default
  }
