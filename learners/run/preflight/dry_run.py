"""What a run would do, and about how long it would take, without doing it."""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Sequence

import tensorflow as tf
import tf_keras as keras

from secateurs.learners.run.console import say
from secateurs.learners.run.phases import Phase
from secateurs.learners.run.preflight.work import Work, exporting_seconds, timing_seconds
from secateurs.learners.run.settings import Settings
from secateurs.learners.run.training.rates import Rates
from secateurs.utils import nested
from secateurs.utils.graph.counts.memory import inference_batch
from secateurs.utils.graph.flat.walk import flatten_model
from secateurs.utils.training import distributed
from secateurs.utils.training.engine import loop
from secateurs.utils.training.engine.progress import format_seconds
from secateurs.utils.training.tasks.objectives import TaskObjective

_WARM_UP_STEPS, _TIMED_STEPS, _TIMED_BATCHES = 2, 6, 4
_LEFT_OUT = (
  'Left out: loading, solving least squares, layer-wise training, scans of weights and bits, the joint '
  'search, and devices.'
)


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
  settings: Settings,
  rates: Rates,
  model: keras.Model,
  phases: Sequence[Phase],
  work: Sequence[Work],
) -> float:
  """Times a few training steps and a few batches, and prints what the phases would take.

  Args:
    settings: those of the run.
    rates: batch size and optimizer.
    model: the network, which changes.
    phases: what is left to do.
    work: what the same do beside training steps.

  Returns:
    Seconds.
  """
  if not phases:
    return 0.0
  nb_steps, also, parts = sum(phase.nb_steps for phase in phases), sum(work, Work()), []
  if nb_steps:
    each = _seconds_a_step(settings, rates, model)
    parts.append(each * nb_steps)
    say(
      f'A training step takes {1000 * each:.0f} ms here ({rates.batch_size / each:.0f} images/s): '
      f'about {format_seconds(parts[-1])} for the {nb_steps} training steps.'
    )
  if also.nb_images:
    each = _seconds_an_image(settings, rates, model)
    parts.append(each * also.nb_images)
    say(
      f'Running the network on an image takes {1000 * each:.2g} ms: about {format_seconds(parts[-1])} '
      f'for {also.nb_images:,} images that evaluate, judge or refit.'
    )
  if also.nb_exports:
    parts.append(exporting_seconds(also, model.count_params() * 4 / 1e6))
    say(
      f'Exporting {also.nb_exports} {_nouns(also.nb_exports, "network")}: about '
      f'{format_seconds(parts[-1])}, at an assumed speed.'
    )
  if also.nb_timed:
    parts.append(timing_seconds(also, settings))
    say(
      f'Timing {also.nb_timed} {_nouns(also.nb_timed, "file")}: at the most '
      f'{format_seconds(parts[-1])}.'
    )
  say(f'Together about {format_seconds(sum(parts))}. {_LEFT_OUT}')
  return sum(parts)


def _nouns(number: int, noun: str) -> str:
  return noun if number == 1 else f'{noun}s'


def _seconds_a_step(settings: Settings, rates: Rates, model: keras.Model) -> float:
  objective = TaskObjective(model, settings.helper.task)
  step = loop.TrainStep(objective, model.trainable_variables, rates.sgd(0.0))
  batches = iter(settings.helper.train_batches(rates.batch_size, settings.stream_seed('dry_run')))
  step.run(batches, _WARM_UP_STEPS)
  began = time.perf_counter()
  step.run(batches, _TIMED_STEPS)
  return (time.perf_counter() - began) / _TIMED_STEPS


def _seconds_an_image(settings: Settings, rates: Rates, model: keras.Model) -> float:
  """Of reading it and of the forward pass, by this process's part of the images."""
  size = inference_batch(flatten_model(model), rates.batch_size)
  batches = iter(settings.helper.eval_batches('eval', size, shard=distributed.shard()))
  first = next(batches)[0]
  forward = tf.function(lambda inputs: model(inputs, training=False))
  forward(first)
  began, nb_images = time.perf_counter(), 0
  for inputs in (batch[0] for batch in itertools.islice(batches, _TIMED_BATCHES)):
    if nested.size(inputs) == nested.size(first):  # A smaller one would be traced again.
      forward(inputs)
      nb_images += nested.size(inputs)
  if not nb_images:
    forward(first)
    nb_images = nested.size(first)
  return (time.perf_counter() - began) / (nb_images * distributed.size())


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
